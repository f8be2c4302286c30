"""The SageMaker container contract: folders, hosts, hyperparameters in; a model, or a failure with its reason, out."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinloop.errors import BadInputError, TwinloopError
from twinloop.training.config import ConfigT, parse_hyperparameters

BASE_DIR_VARIABLE = "SAGEMAKER_BASE_DIR"  # the toolkit's own name for "another place than /opt/ml"
DEFAULT_BASE_DIR = "/opt/ml"
FAILURE_LENGTH = 1024  # what DescribeTrainingJob shows of the file


@dataclass(frozen=True)
class Job:
    """One run of one job: where its data is, where its model goes, and who else takes part."""

    rung: str
    base: Path
    hosts: tuple[str, ...]
    started: float

    @property
    def snapshot(self) -> Path:
        """The folder of the `snapshot` channel; raises BadInputError where the job was started without it."""
        folder = self.base / "input" / "data" / "snapshot"
        if not folder.is_dir():
            raise BadInputError(f"the job has no channel 'snapshot' ({folder} is missing); name it in InputDataConfig")
        return folder

    @property
    def champion(self) -> Path | None:
        """The folder of the `champion` channel: the component that learning is to go on from; None: from the start."""
        folder = self.base / "input" / "data" / "champion"
        return folder if folder.is_dir() else None

    @property
    def model_dir(self) -> Path:
        """What is put here becomes model.tar.gz."""
        return self.base / "model"

    @property
    def seconds(self) -> float:
        """Seconds since the job began."""
        return time.perf_counter() - self.started

    def say(self, message: str) -> None:
        """Print a line of progress."""
        print(f"[{self.rung} {self.seconds:6.1f}s] {message}", flush=True)


def run_job(
    rung: str,
    config: type[ConfigT],
    train: Callable[[ConfigT, Job], None],
    *,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Run a job by the contract; returns the process's exit code.

    Whatever goes wrong, `output/failure` says why in words: the message alone for what the caller can mend, the
    error's type and place as well for the rest.
    """
    base = Path((environ if environ is not None else os.environ).get(BASE_DIR_VARIABLE) or DEFAULT_BASE_DIR)
    try:
        job = Job(rung, base, _hosts(base), time.perf_counter())
        settings = parse_hyperparameters(_hyperparameters(base), config)
        if len(job.hosts) > 1:
            raise BadInputError(
                f"{rung} trains on one host and was started on {len(job.hosts)}; set InstanceCount to 1 "
                "(a bigger instance type is the way to more memory and cores)"
            )
        job.say(f"settings {settings.model_dump_json()}")
        train(settings, job)
        job.say("done")
    except TwinloopError as error:
        return _fail(base, f"{rung}: {error}")
    except MemoryError:
        return _fail(base, f"{rung}: out of memory; use a bigger instance type or a shorter time range")
    except Exception as error:  # noqa: BLE001 - the contract asks for a reason whatever the error was
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        return _fail(base, f"{rung}: {type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})")
    return 0


def _fail(base: Path, reason: str) -> int:
    print(f"failed: {reason}", file=sys.stderr, flush=True)
    folder = base / "output"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure").write_text(reason[:FAILURE_LENGTH], encoding="utf-8")
    return 1


def _hyperparameters(base: Path) -> dict[str, str]:
    values = _read(base / "input" / "config" / "hyperparameters.json")
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _hosts(base: Path) -> tuple[str, ...]:
    return tuple(_read(base / "input" / "config" / "resourceconfig.json").get("hosts") or ("localhost",))


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object; SageMaker leaves a file out where there is nothing to say."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInputError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInputError(f"{path.name} must hold a JSON object")
    return value
