"""Puts the template up on a running local cloud with the real `sam build` and `sam deploy`."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import ClientError

from twinloop_local.clients import client
from twinloop_local.cloud import status
from twinloop_local.errors import LocalCloudError
from twinloop_local.gateway import apply_gateway_responses
from twinloop_local.sam import run_sam
from twinloop_local.settings import ACCOUNT, LocalSettings
from twinloop_local.sources import PROJECT, fingerprint

Progress = Callable[[str], None]


def deploy(
    settings: LocalSettings,
    *,
    template: Path | None = None,
    parameters: Mapping[str, str] | None = None,
    sources: Iterable[Path] | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, str]:
    """Build and deploy; what has not changed is neither built nor deployed again.

    Args:
        settings: The stack; it must be up.
        template: The SAM template; the project's own by default.
        parameters: Template parameters; by default what the project's template needs here.
        sources: Files and folders whose change asks for a new build; the project's by default.
        progress: Told in words what is being done and how long it took.

    Returns:
        The stack's outputs.

    Raises:
        LocalCloudError: The local cloud is not up.
        DeployError: sam failed; the message ends with what it said.
    """
    if status(settings).state != "running":
        raise LocalCloudError(f"the local cloud {settings.stack} is not up; run `twinloop up` first")
    template = template or settings.root / "template.yaml"
    wanted = fingerprint([template, *(sources if sources is not None else _project(settings))])
    chosen = local_parameters(settings) if parameters is None else dict(parameters)
    folder = build_folder(settings, template).parent
    with _locked(folder):
        _build(settings, template, folder, wanted, progress)
        deployed = settings.state_dir / "deployed.json"
        now = json.dumps({"sources": wanted, "template": str(template), "parameters": chosen}, sort_keys=True)
        if deployed.exists() and deployed.read_text() == now:
            progress("the stack is as the sources are; nothing to deploy")
        else:
            _deploy(settings, folder, chosen, progress)
            apply_gateway_responses(settings)
            deployed.write_text(now)
    return outputs(settings)


def local_parameters(settings: LocalSettings) -> dict[str, str]:
    """What the project's template is told here. Functions find the emulator themselves, SageMaker they must be told."""
    return {"Stage": "local", "SageMakerEndpointUrl": settings.sagemaker_endpoint}


def outputs(settings: LocalSettings) -> dict[str, str]:
    """Outputs of the deployed stack.

    Raises:
        LocalCloudError: Nothing is deployed.
    """
    try:
        stacks = client(settings, "cloudformation").describe_stacks(StackName=settings.stack)["Stacks"]
    except ClientError as error:
        raise LocalCloudError(f"no stack {settings.stack} on {settings.endpoint}: deploy it first") from error
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", ())}


def build_folder(settings: LocalSettings, template: Path | None = None) -> Path:
    """Where `sam build` puts what it makes of a template, the project's own by default."""
    template = template or settings.root / "template.yaml"
    return settings.root / "build" / "sam" / _short(str(template.resolve())) / "out"


def _project(settings: LocalSettings) -> list[Path]:
    return [settings.root / name for name in PROJECT]


def _build(settings: LocalSettings, template: Path, folder: Path, wanted: str, progress: Progress) -> None:
    built = folder / "fingerprint"
    if built.exists() and built.read_text() == wanted:
        progress("the build is up to date")
        return
    built.unlink(missing_ok=True)
    progress("sam build: packaging functions and layers")
    began = time.monotonic()
    shutil.rmtree(folder / "out", ignore_errors=True)
    arguments = ["build", "--template-file", str(template), "--build-dir", str(folder / "out")]
    arguments += ["--base-dir", str(template.parent), "--build-in-source", "--parallel"]
    run_sam(settings, arguments, settings.state_dir / "logs" / "sam-build.log")
    built.write_text(wanted)
    progress(f"sam build: done ({time.monotonic() - began:.1f} s)")


def _deploy(settings: LocalSettings, folder: Path, parameters: Mapping[str, str], progress: Progress) -> None:
    progress(f"sam deploy: creating the stack {settings.stack}")
    began = time.monotonic()
    bucket = f"{settings.stack}-deployments-{ACCOUNT}"
    _create_bucket(settings, bucket)
    arguments = ["deploy", "--template-file", str(folder / "out" / "template.yaml"), "--stack-name", settings.stack]
    arguments += ["--s3-bucket", bucket, "--region", settings.region, "--no-progressbar"]
    arguments += ["--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]
    arguments += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--disable-rollback"]
    if parameters:
        arguments += ["--parameter-overrides", *(f"{name}={value}" for name, value in sorted(parameters.items()))]
    run_sam(settings, arguments, settings.state_dir / "logs" / "sam-deploy.log")
    progress(f"sam deploy: done ({time.monotonic() - began:.1f} s)")


def _create_bucket(settings: LocalSettings, bucket: str) -> None:
    s3 = client(settings, "s3")
    # As on AWS, the first region must not be named, and every other must.
    place = {} if settings.region == "us-east-1" else {"LocationConstraint": settings.region}
    try:
        s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
    except s3.exceptions.BucketAlreadyOwnedByYou:
        return


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Stacks side by side share one build."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
