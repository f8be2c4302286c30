"""A stack of its own for the end-to-end tests: the real template, real data, one run of the learning loop."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed import Cloud, Learned, Loaded, write_lines
from ports import free_port

from twinloop.aws import clients
from twinloop.commands import learn
from twinloop.commands.cloud import bring_up
from twinloop.commands.data import load_files
from twinloop.commands.target import deployment
from twinloop.datasets.catalogue import shown_with
from twinloop.datasets.movielens import write_movielens_100k
from twinloop_local import LocalSettings, down

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("AWS_", "TWINLOOP_STACK"))]:
        del os.environ[name]
    emulator = request.config.getoption("--emulator")
    os.environ |= {
        "TWINLOOP_STACK": f"twinloop-e2e-{emulator}",
        "TWINLOOP_PORT": str(free_port()),
        "TWINLOOP_SAGEMAKER_PORT": str(free_port()),
        "TWINLOOP_STOP_GRACE": "5",
    }
    settings = LocalSettings.from_environment(ROOT)
    clients.forget()
    down(settings)  # what a killed run of these tests may have left
    try:
        bring_up(emulator)
        yield Cloud(settings, deployment())
    finally:
        down(settings)
        os.environ.clear()
        os.environ.update(before)
        clients.forget()


@pytest.fixture(scope="session")
def loaded(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """MovieLens 100K: of what each user liked the first 80 % in the lake, the rest in a labelled file."""
    folder = tmp_path_factory.mktemp("movielens") / "raw"
    write_movielens_100k(folder)
    earlier, later = _split(_read(folder / "events.jsonl"))
    write_lines(folder / "events.jsonl", earlier)
    held_out = folder.parent / "events-held-out.jsonl"
    write_lines(held_out, later)
    receipts = {made.table: made for made in load_files(cloud.place, "video", [folder])}
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for row in earlier:
        seen[row["user_id"]].add(row["item_id"])
    titles = {row["item_id"]: row["title"] for row in _read(folder / "items.jsonl")}
    return Loaded(folder, receipts, earlier, held_out, titles, dict(seen))


@pytest.fixture(scope="session")
def learned(cloud: Cloud, loaded: Loaded) -> Learned:
    verdict, progress = learn.run(cloud.place, "video", shown_with("video").rungs)
    return Learned(verdict, {job.name: f"{job.status} {job.reason}".strip() for job in progress.jobs})


def _split(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    liked: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["rating"] >= 4:
            liked[row["user_id"]].append(row)
    earlier, later = [], []
    for theirs in liked.values():
        theirs.sort(key=lambda row: row["time"])
        cut = int(len(theirs) * 0.8) if len(theirs) >= 5 else len(theirs)
        earlier += theirs[:cut]
        later += theirs[cut:]
    return earlier, later


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
