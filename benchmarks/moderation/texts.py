"""Rows of the data sets, and the snapshot that the real ingest makes of them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.clicks import ROOT
from numpy.typing import NDArray

from twinloop.contracts.spec import Split
from twinloop.contracts.system import System
from twinloop.features.snapshot import Resources, build_snapshot
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore

DATA = ROOT.parent / "shared" / "data"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOLD_MS = 1_700_000_000_000
HATE, OFFENSIVE, NEITHER = 0, 1, 2
MLMA_LABELS = ("abusive", "disrespectful", "fearful", "hateful", "normal", "offensive")
Row = dict[str, Any]
Ints = NDArray[np.int64]


def davidson(data: Path) -> list[Row]:
    """Return a row a tweet: its text, every annotator's word, its class."""
    rows = []
    with (data / "davidson" / "labeled_data.csv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            counts = [int(row[name]) for name in ("hate_speech", "offensive_language", "neither")]
            words = [kind for kind, count in enumerate(counts) for _ in range(count)]
            labels = [("hate", int(word == HATE), f"a{n}") for n, word in enumerate(words)]
            labels += [("offensive", int(word != NEITHER), f"a{n}") for n, word in enumerate(words)]
            kind = int(row["class"])
            rows.append({"id": f"d{number}", "text": row["tweet"], "labels": labels, "stratum": kind, "class": kind})
    return rows


def mlma(data: Path) -> list[Row]:
    """Return a row a tweet: its text, and of every label whether it was given."""
    rows = []
    with (data / "mlma" / "en_dataset.csv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            given = set(row["sentiment"].split("_"))
            labels = [(label, int(label in given), "a0") for label in MLMA_LABELS]
            rows.append({"id": f"m{number}", "text": row["tweet"], "labels": labels, "stratum": row["sentiment"]})
    return rows


def stratified(strata: NDArray[Any], seed: int) -> Ints:
    """Return the places of a tenth of each stratum, drawn by the seed."""
    draw, chosen = np.random.default_rng(seed), []
    for stratum in np.unique(strata):
        places = draw.permutation(np.flatnonzero(strata == stratum))
        chosen += places[: round(len(places) / 10)].tolist()
    return np.sort(np.array(chosen, np.int64))


def snapshot(place: Path, rows: Iterable[Row], system: System) -> Path:
    """Return the folder of a snapshot of these rows, divided as the system says."""
    items, labels = [], []
    for row in rows:
        items.append({"item_id": row["id"], "text": row["text"]})
        labels += [
            {"item_id": row["id"], "label": label, "value": value, "source": "import", "reviewer_id": who,
             "time": TOLD_MS}
            for label, value, who in row["labels"]
        ]  # fmt: skip
    store = MemoryObjectStore()
    for table, content in (("items", items), ("labels", labels)):
        body = "".join(json.dumps(row) + "\n" for row in content).encode()
        raw = RawObject(f"raw/moderation/{table}/rows.jsonl", "v1", NOW, len(body), io.BytesIO(body))
        receipt = ingest(raw, system, store)
        if receipt.refused:
            raise RuntimeError(receipt.refused)
    (place / "work").mkdir()
    build_snapshot(
        system, store, place / "snapshot", now=NOW, work=place / "work", resources=Resources(), minimum_cases=0
    )
    return place / "snapshot"


def parted(system: System) -> System:
    """Return the system with next to no test part of its own: what is tested is left out before."""
    split = Split(strategy="by_group", validation=0.1, test=1e-6)
    return dataclasses.replace(system, spec=system.spec.model_copy(update={"split": split}))
