"""`twinloop up`, `down`, `status`: the local cloud, with the template deployed on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from twinloop.commands.screen import console, plainly
from twinloop.commands.target import project_root
from twinloop.errors import TwinloopError
from twinloop_local import LocalCloudError, LocalSettings
from twinloop_local import deploy as deploy_template
from twinloop_local import down as stop
from twinloop_local import status as look
from twinloop_local import up as begin


@plainly
def up(
    emulator: Annotated[str, typer.Option(help="What stands for AWS.")] = "ministack",
    deploy: Annotated[bool, typer.Option("--deploy/--no-deploy", help="Deploy template.yaml as well.")] = True,
) -> None:
    """Start the local cloud on this machine and deploy the template to it."""
    for address, value in bring_up(emulator, deploy=deploy).items():
        console.print(f"{address}: {value}", soft_wrap=True, highlight=False)


@plainly
def down() -> None:
    """Stop the local cloud and forget everything in it."""
    with _as_ours():
        stop(_settings(), progress=_say)


@plainly
def status() -> None:
    """Show what of the local cloud runs."""
    now = look(_settings())
    console.print(f"{now.state}: AWS at {now.endpoint}, SageMaker at {now.sagemaker_endpoint}")
    for component in now.components:
        word = "alive" if component.alive else "[red]gone[/]"
        console.print(f"  {component.name}: {word}, pid {component.pid}, port {component.port}, log {component.log}")


def bring_up(emulator: str = "ministack", *, deploy: bool = True) -> dict[str, str]:
    """Start (where needed) and deploy (where changed); returns the stack's outputs."""
    settings = _settings()
    with _as_ours():
        begin(settings, emulator, progress=_say)
        if not deploy:
            return {"endpoint": settings.endpoint, "sagemaker": settings.sagemaker_endpoint}
        started = time.monotonic()
        outputs = deploy_template(settings, progress=_say)
        _say(f"template.yaml is deployed ({time.monotonic() - started:.0f} s)")
        return outputs


@contextmanager
def _as_ours() -> Iterator[None]:
    """Let the local cloud's errors end a command like all others."""
    try:
        yield
    except LocalCloudError as error:
        raise TwinloopError(str(error)) from error


def _settings() -> LocalSettings:
    with _as_ours():
        return LocalSettings.from_environment(project_root())


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
