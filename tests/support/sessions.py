"""Clients of a local stack for tests and tools, as its emulator's makers give them."""

from __future__ import annotations

from typing import Any

from localstack_client.session import Session

from twinloop_local import LocalSettings, status
from twinloop_local.clients import client
from twinloop_local.settings import HOST


def aws_client(settings: LocalSettings, service: str) -> Any:
    """A client of the stack: on LocalStack from `localstack-client`, else, and for SageMaker, from boto3."""
    if service == "sagemaker" or status(settings).emulator != "localstack":
        return client(settings, service)
    session = Session(
        aws_access_key_id="test",
        aws_secret_access_key="test",
        aws_session_token=None,
        region_name=settings.region,
        localstack_host=f"{HOST}:{settings.port}",
    )
    return session.client(service)
