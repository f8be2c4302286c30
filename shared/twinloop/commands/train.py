"""`twinloop train`: one rung on one snapshot, here or as a SageMaker job, without the rest of the loop."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from twinloop import systems
from twinloop.aws.images import training_images
from twinloop.aws.sagemaker_sdk import submit_with_model_trainer
from twinloop.aws.training_jobs import publish_bundle
from twinloop.commands.models import System
from twinloop.commands.screen import console, plainly
from twinloop.commands.target import Deployment, deployment, project_root
from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.spec import Rung
from twinloop.errors import BadInputError, NotFoundError, TwinloopError
from twinloop.training.bundle import build_source_bundle
from twinloop.training.launch import TrainingSettings, job_name, training_job_request
from twinloop.training.local import run


@plainly
def train(
    system: System,
    rung: Annotated[str, typer.Argument(help="A rung of the system's ladder.")],
    on: Annotated[str, typer.Option(help="`here`: a process; `sagemaker`: a training job.")] = "here",
    snapshot: Annotated[str, typer.Option(help="Snapshot id; the latest one where it is not given.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for a SageMaker job to end.")] = True,
) -> None:
    """Train one rung on a snapshot. Nothing is judged or promoted."""
    chosen = next((known for known in systems.load(system).spec.rungs if known.name == rung), None)
    if chosen is None:
        known = ", ".join(entry.name for entry in systems.load(system).spec.rungs)
        raise NotFoundError(f"{system} has no rung {rung!r}; its ladder is {known}")
    place = deployment()
    key = _snapshot(place, system, snapshot)
    if on == "sagemaker":
        job = _submit(place, system, chosen, key, wait=wait)
        console.print(
            f"{job}: {'ended' if wait else 'submitted'}; model under s3://{place.store.bucket}/jobs/{job}/",
            soft_wrap=True,
        )
    elif on == "here":
        output = project_root() / "build" / "models" / system / rung
        code = run(project_root() / "training_jobs" / rung, _download(place, key), output, chosen.hyperparameters)
        if code:
            raise TwinloopError(f"{rung} failed; its reason is above")
        console.print(f"{output}", soft_wrap=True)
    else:
        raise BadInputError(f"--on is `here` or `sagemaker`, not {on!r}")


def _snapshot(place: Deployment, system: str, wanted: str) -> str:
    prefix = f"snapshots/{system}/"
    manifests = [key for key in place.store.keys(prefix) if key.endswith("/manifest.json")]
    found = [key for key in manifests if not wanted or key.split("/")[2] == wanted]
    if not found:
        raise NotFoundError(f"there is no snapshot {wanted or 'yet'}; `twinloop learn {system}` takes one")

    def created_at(key: str) -> datetime:
        return SnapshotManifest.model_validate_json(place.store.read(key).body).created_at

    newest = found[0] if len(found) == 1 else max(found, key=created_at)
    return newest.removesuffix("manifest.json")


def _download(place: Deployment, key: str) -> Path:
    folder = project_root() / "build" / key
    for name in place.store.keys(key):
        path = project_root() / "build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(place.store.read(name).body)
    return folder


def _submit(place: Deployment, system: str, rung: Rung, key: str, *, wait: bool) -> str:
    out = place.outputs
    settings = TrainingSettings(
        stack=place.name,
        bucket=place.store.bucket,
        role=out["TrainingRole"],
        images=training_images(xgboost=out.get("XgboostImage", ""), pytorch=out.get("PytorchImage", "")),
    )
    body = build_source_bundle(project_root() / "training_jobs" / rung.name)
    request = training_job_request(
        settings=settings,
        job=job_name(place.name, system, rung.name, hashlib.sha256(body).hexdigest()),
        system=system,
        snapshot_key=key,
        rung=rung,
        source=publish_bundle(place.store, rung.name, body),
    )
    return submit_with_model_trainer(request, wait=wait, logs=wait)
