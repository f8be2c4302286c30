"""What jobs make of a snapshot, and what their models say of its showings."""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from benchmarks.clicks import ROOT, Floats

from twinloop.contracts.spec import Split
from twinloop.contracts.system import System
from twinloop.systems.ads.system import SYSTEM
from twinloop.training import local
from twinloop.training.artefact import session
from twinloop.training.click_graph import ask
from twinloop.training.clicks import Rows, open_clicks
from twinloop.training.impressions import FILE

RUNGS = tuple(rung.name for rung in SYSTEM.spec.rungs)
LINEAR = "logistic"  # the rung that others are to beat
Row = dict[str, float]


class Tested(NamedTuple):
    """Showings that nothing was learnt from: as models read them, and as a table, row by row."""

    rows: Rows
    table: pd.DataFrame


def parted(validation: float, test: float, *, window_minutes: float | None = None) -> System:
    """Return ads with other parts, and another window where one is said."""
    outcomes = SYSTEM.outcomes
    assert outcomes is not None
    if window_minutes is not None:
        outcomes = dataclasses.replace(outcomes, window_minutes=window_minutes)
    split = Split(strategy="global", validation=validation, test=test, minimum_events=1)
    return dataclasses.replace(SYSTEM, spec=SYSTEM.spec.model_copy(update={"split": split}), outcomes=outcomes)


def told(snapshot: Path, *parts: Any) -> Tested:
    """Return the showings of parts: as jobs read them, and as the files have them, in the same order."""
    opened = open_clicks(snapshot)
    read = [opened.read(part) for part in parts]
    files = [pd.read_parquet(snapshot / part / FILE).sort_values("time_ms", kind="stable") for part in parts]
    table = pd.concat(files, ignore_index=True)
    rows = functools.reduce(Rows.join, read)
    assert (rows.times == table.time_ms).all()
    assert (rows.clicked == table.label_click).all()
    return Tested(rows, table)


def fitted(snapshot: Path, models: Path, rungs: tuple[str, ...], test: Rows) -> tuple[dict[str, Floats], Row]:
    """Return what each rung's release says of the showings, and how many seconds its job took."""
    said, seconds = {}, {}
    for rung in rungs:
        seconds[rung] = trained(snapshot, models / rung, rung)
        said[rung] = says(models / rung, test)
    return said, seconds


def trained(snapshot: Path, output: Path, rung: str, *, champion: Path | None = None) -> float:
    """Run a rung's job; returns how many seconds it took."""
    started = time.perf_counter()
    if local.run(ROOT / "training_jobs" / rung, snapshot, output, {}, champion=champion):
        raise RuntimeError(f"the job {rung} failed; its reason is above")
    return round(time.perf_counter() - started, 1)


def says(output: Path, test: Rows) -> Floats:
    """Return the chances that what a job left gives showings."""
    opened = session((output / "click" / "model.onnx").read_bytes())
    return ask(opened, test).astype(np.float64)
