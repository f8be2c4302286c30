"""What a deployed stack says of itself."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client
from twinloop.errors import NotFoundError, UnavailableError


def outputs(stack: str) -> dict[str, str]:
    """Return the outputs of a CloudFormation stack; raises NotFoundError, UnavailableError."""
    try:
        found = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            raise NotFoundError(f"there is no stack {stack!r}; deploy it first (README, “Two commands”)") from error
        raise UnavailableError(f"CloudFormation refused: {error.response['Error']['Message']}") from error
    except BotoCoreError as error:
        raise UnavailableError(f"CloudFormation did not answer: {error}") from error
    return {entry["OutputKey"]: entry["OutputValue"] for entry in found.get("Outputs", [])}


def api_key(key_id: str) -> str:
    """Return the secret value of an API key."""
    return str(client("apigateway").get_api_key(apiKey=key_id, includeValue=True)["value"])
