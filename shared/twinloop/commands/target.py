"""Which deployment a command talks to: the local cloud where it is up, or the AWS account of the environment."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from twinloop.aws import stack
from twinloop.aws.objects import S3ObjectStore
from twinloop.errors import BadInputError
from twinloop.registry.registry import Registry

# Set by `--aws`: talk to the account of the environment even while the local cloud is up.
_on_aws = False


@dataclass(frozen=True)
class Deployment:
    """A deployed stack and the way to it."""

    name: str
    outputs: dict[str, str]

    @property
    def store(self) -> S3ObjectStore:
        """The data bucket."""
        return S3ObjectStore(self.outputs["DataBucket"])

    def registry(self, system: str) -> Registry:
        """The registry of one system."""
        return Registry(self.store, system)

    @property
    def api_url(self) -> str:
        """Base address of the API, ending before `/v1`.

        The stack's own, or TWINLOOP_API_URL for another way to it (a domain of one's own, a proxy), in which `{ApiId}`
        and every other output of the stack may stand.

        Raises:
            BadInputError: TWINLOOP_API_URL names something that is no output.
        """
        pattern = os.environ.get("TWINLOOP_API_URL") or "{ApiUrl}"
        try:
            return pattern.format_map(self.outputs).rstrip("/")
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            known = ", ".join(sorted(self.outputs))
            raise BadInputError(f"TWINLOOP_API_URL={pattern!r} names what is none of the outputs {known}") from error

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
    enter()
    name = stack_name()
    return Deployment(name, stack.outputs(name))


def enter() -> None:
    """Point this process's AWS clients at the target.

    An AWS_ENDPOINT_URL that is set already wins: whoever sets it knows where they want to go.
    """
    if _on_aws or importlib.util.find_spec("psutil") is None:  # it comes with the extra [local]
        return
    from twinloop.commands import local  # noqa: PLC0415 - see above

    found = local.environment()
    if found and os.environ.get("AWS_ENDPOINT_URL") in (None, found["AWS_ENDPOINT_URL"]):
        os.environ.pop("AWS_PROFILE", None)  # a profile of the shell would win over the local cloud's own credentials
        os.environ.update(found)
