"""`twinloop up`, `down`, `status`: the local cloud, with the template deployed on it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from twinloop.commands.screen import console, plainly, styled
from twinloop.commands.target import deployment

# Everything of the local cloud is imported where it is used: it needs the extra [local].


@plainly
def up(
    emulator: Annotated[str | None, typer.Option(help="What stands for AWS: ministack or localstack.")] = None,
    deploy: Annotated[bool, typer.Option("--deploy/--no-deploy", help="Deploy template.yaml as well.")] = True,
) -> None:
    """Start the local cloud on this machine and deploy the template to it."""
    outputs = bring_up(emulator, deploy=deploy)
    if deploy:
        outputs["ApiUrl"] = deployment().api_url  # the stack's own is its address on AWS
    for name, value in outputs.items():
        _say(f"{name}: {value}")


@plainly
def down() -> None:
    """Stop the local cloud and forget everything in it."""
    from twinloop.commands import local  # noqa: PLC0415

    local.down(_say)


@plainly
def status() -> None:
    """Show what of the local cloud runs."""
    from twinloop.commands import local  # noqa: PLC0415

    now = local.status()
    emulator = f" ({now.emulator})" if now.emulator else ""
    _say(f"{now.state}: AWS at {now.endpoint}{emulator}, SageMaker at {now.sagemaker_endpoint}")
    for component in now.components:
        word = "alive" if component.alive else styled("gone", "red")
        where = f"pid {component.pid}, port {component.port}, log {component.log}"
        console.print(f"  {component.name}:", word, where, soft_wrap=True)


def bring_up(emulator: str | None = None, *, deploy: bool = True) -> dict[str, str]:
    """Start (where needed) and deploy (where changed); returns the stack's outputs."""
    from twinloop.commands import local  # noqa: PLC0415

    now = local.up(emulator, _say)
    if not deploy:
        return {"endpoint": now.endpoint, "sagemaker": now.sagemaker_endpoint}
    started = time.monotonic()
    outputs = local.deploy(_say)
    _say(f"template.yaml is deployed ({time.monotonic() - started:.0f} s)")
    return outputs


def _say(text: str) -> None:
    console.print(text, soft_wrap=True)
