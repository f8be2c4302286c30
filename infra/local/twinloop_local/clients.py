"""boto3 clients of one local stack, whatever the caller's own environment points at."""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from twinloop_local.settings import LocalSettings


def client(settings: LocalSettings, service: str) -> Any:
    """A new client; `sagemaker` is the executor's, every other service the emulator's."""
    # A profile named in the shell belongs to a real account, and may not even exist here.
    session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    return boto3.Session(botocore_session=session).client(
        service,
        endpoint_url=settings.sagemaker_endpoint if service == "sagemaker" else settings.endpoint,
        region_name=settings.region,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - opens nothing
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2, "mode": "standard"}),
    )
