"""The local cloud, as commands use it: the only module of twinloop that knows of `twinloop_local`.

It needs the extra [local]; import it where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import twinloop_local
from twinloop.commands.target import project_root
from twinloop.errors import TwinloopError
from twinloop_local import LocalCloudError, LocalSettings, Status

Progress = Callable[[str], None]


def up(emulator: str | None, progress: Progress) -> Status:
    """Start the local cloud, or leave it as it is where it runs already."""
    with _as_ours():
        return twinloop_local.up(_settings(), emulator, progress=progress)


def deploy(progress: Progress) -> dict[str, str]:
    """Deploy the template where it has changed."""
    with _as_ours():
        return twinloop_local.deploy(_settings(), progress=progress)


def down(progress: Progress) -> None:
    """Stop the local cloud and forget everything in it."""
    with _as_ours():
        twinloop_local.down(_settings(), progress=progress)


def status() -> Status:
    """Return what of it runs."""
    with _as_ours():
        return twinloop_local.status(_settings())


def environment() -> dict[str, str]:
    """Return the variables that point AWS tools and `twinloop` at the local cloud; empty while it is not up."""
    now = status()
    if now.state != "running":
        return {}
    return _settings().aws_environment() | {
        "AWS_ENDPOINT_URL": now.endpoint,
        "AWS_ENDPOINT_URL_SAGEMAKER": now.sagemaker_endpoint,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": now.sagemaker_endpoint,
        "TWINLOOP_API_URL": f"{now.endpoint}/restapis/{{ApiId}}/{{ApiStage}}/_user_request_",
    }


def _settings() -> LocalSettings:
    with _as_ours():
        return LocalSettings.from_environment(project_root())


@contextmanager
def _as_ours() -> Iterator[None]:
    """Let the local cloud's errors end a command like all others."""
    try:
        yield
    except LocalCloudError as error:
        raise TwinloopError(str(error)) from error
