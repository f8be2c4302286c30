"""Which deployment a command talks to: the local cloud where it is up, or the AWS account of the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from twinloop.aws import stack
from twinloop.aws.objects import S3ObjectStore
from twinloop.registry import Registry

# Set by `--aws`: talk to the account of the environment even while the local cloud is up.
_on_aws = False


@dataclass(frozen=True)
class Deployment:
    """A deployed stack and the way to it."""

    name: str
    outputs: dict[str, str]
    local: bool

    @property
    def store(self) -> S3ObjectStore:
        """The data bucket."""
        return S3ObjectStore(self.outputs["DataBucket"])

    def registry(self, system: str) -> Registry:
        """The registry of one system."""
        return Registry(self.store, system)

    @property
    def api_url(self) -> str:
        """Base address of the API, ending before `/v1`."""
        if not self.local:
            return self.outputs["ApiUrl"]
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        return f"{endpoint}/restapis/{self.outputs['ApiId']}/{self.outputs['ApiStage']}/_user_request_"

    @cached_property
    def api_key(self) -> str:
        """The key that the usage plan knows."""
        return stack.api_key(self.outputs["ApiKeyId"])


def use_aws(on_aws: bool) -> None:
    """Remember the user's choice for the rest of the process."""
    global _on_aws  # noqa: PLW0603 - a command line is one choice per process
    _on_aws = on_aws


def project_root() -> Path:
    """The checkout this command was installed from; its template, jobs and local cloud live there."""
    return Path(__file__).resolve().parents[3]


def stack_name() -> str:
    """The stack's name: TWINLOOP_STACK, or `twinloop`."""
    return os.environ.get("TWINLOOP_STACK", "twinloop")


def deployment() -> Deployment:
    """Find the deployment; raises NotFoundError where the stack is not deployed."""
    local = enter()
    name = stack_name()
    return Deployment(name, stack.outputs(name), local)


def enter() -> bool:
    """Point this process's AWS clients at the target; True for the local cloud.

    An AWS_ENDPOINT_URL that is set already wins: whoever sets it knows where they want to go.
    """
    if "AWS_ENDPOINT_URL" in os.environ:
        return True
    if _on_aws:
        return False
    from twinloop_local import LocalSettings, status  # noqa: PLC0415 - only where the extra [local] is installed

    settings = LocalSettings.from_environment(project_root())
    now = status(settings)
    if now.state != "running":
        return False
    environment = settings.aws_environment() | {
        "AWS_ENDPOINT_URL": now.endpoint,
        "AWS_ENDPOINT_URL_SAGEMAKER": now.sagemaker_endpoint,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": now.sagemaker_endpoint,
    }
    os.environ.pop("AWS_PROFILE", None)  # a profile of the shell would win over the local cloud's own credentials
    os.environ.update(environment)
    return True
