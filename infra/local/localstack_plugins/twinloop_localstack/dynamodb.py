"""DynamoDB from moto, in place of the Java server that LocalStack would download. It has no streams."""

from __future__ import annotations

from localstack.services.plugins import Service, aws_provider

from twinloop_localstack.moto import moto_service


@aws_provider(api="dynamodb", name="moto")  # type: ignore[untyped-decorator] # LocalStack has no types
def provider() -> Service:
    """The provider that `PROVIDER_OVERRIDE_DYNAMODB=moto` chooses."""
    return moto_service("dynamodb")
