"""A deployed stack as the end-to-end tests see it: the ways to it that a user has."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq

from twinloop.commands import learn
from twinloop.commands.data import load_files
from twinloop.commands.target import Deployment
from twinloop.ingest.receipts import Receipt
from twinloop_local import LocalSettings

RECOMMENDATIONS = "/v1/video/recommendations"
EVENTS = "/v1/video/events"
Found = TypeVar("Found")


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    kind: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Cloud:
    """The stack under test and the ways to it that a user has: the command line and the API."""

    settings: LocalSettings
    place: Deployment

    def twinloop(self, *arguments: str | Path) -> str:
        """Run a command as in a fresh shell; returns what it printed."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        command = [str(Path(sys.executable).with_name("twinloop")), *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=own)
        assert done.returncode == 0, f"{' '.join(command)} said:\n{done.stdout}{done.stderr}"
        return done.stdout

    def call(self, path: str, body: Any = None, *, key: str | None = "", raw: bytes | None = None) -> Answer:
        """POST a body (as JSON; `raw` as it is), or GET without one. `key`: None sends none, "" the right one."""
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["x-api-key"] = key or self.place.api_key
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.place.api_url}{path}", data, headers)  # noqa: S310 - the stack's address
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return Answer(answer.status, answer.headers.get_content_type(), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers.get_content_type(), error.read())

    def recommend(self, user: str, **more: Any) -> dict[str, Any]:
        """Return the answer to a request for recommendations, which must be one."""
        answer = self.call(RECOMMENDATIONS, {"user_id": user, **more})
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    def load(self, system: str, folder: Path) -> dict[str, int]:
        """Load raw files, of which no row may be rejected; returns how many rows each table got."""
        loaded: dict[str, int] = {}
        for receipt in load_files(self.place, system, [folder]):
            assert not sum(receipt.quarantined.values()), receipt
            loaded[receipt.table] = loaded.get(receipt.table, 0) + sum(receipt.rows.values())
        return loaded

    def learn(self, system: str, rungs: Sequence[str]) -> dict[str, Any]:
        """Learn by these rungs, all of which must end well and one of which must be promoted; returns the verdict."""
        found, progress = learn.run(self.place, system, rungs)
        assert {job.status for job in progress.jobs} == {"Completed"}, progress.jobs
        assert found["promote"], found
        return found

    def scores(self, system: str, labelled: Path) -> dict[str, dict[str, Any]]:
        """Score what serves on a labelled file, in process and through the API."""
        return {
            how: json.loads(self.twinloop("evaluate", system, "--labelled", labelled, how))
            for how in ("--in-process", "--api")
        }

    def send(self, system: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Send what users did; returns the ids of the events that were rejected."""
        answer = self.call(f"/v1/{system}/events", {"events": events})
        assert answer.status == 202, answer
        return [one["event_id"] for one in answer.json["rejected"]]

    def wait_for_events(self, system: str, user: str, day: datetime, ids: set[str]) -> None:
        """Wait until the lake has these events of a user's day, and no others."""

        def there() -> bool:
            rows = self.lake_rows("events", f"{day:%Y-%m-%d}", system=system)
            return {row["event_id"] for row in rows if row["user_id"] == user} == ids

        wait_for(there, 180, "the events are in the lake")

    def lake_rows(self, table: str, date: str, *, system: str = "video") -> list[dict[str, Any]]:
        """Return the rows of one date, as every file of it has them."""
        store = self.place.store
        keys = list(store.keys(f"lake/{system}/{table}/dt={date}/"))
        return [row for key in keys for row in pq.read_table(io.BytesIO(store.read(key).body)).to_pylist()]


@dataclass(frozen=True)
class Loaded:
    """What was given to the ETL, and what was kept back."""

    folder: Path
    receipts: dict[str, Receipt]
    events: list[dict[str, Any]]
    held_out: Path
    items: dict[str, str]  # id -> title
    seen: dict[str, set[str]]


@dataclass(frozen=True)
class Learned:
    """The gate's answer, and how each job ended."""

    verdict: dict[str, Any]
    jobs: dict[str, str]


def answered_by(version: str, ask: Callable[[], Answer]) -> dict[str, Any]:
    """Wait until this release answers in full; returns what it says."""

    def told() -> dict[str, Any] | None:
        found: dict[str, Any] = ask().json
        return found if found.get("model_version") == version and not found["degraded"] else None

    return wait_for(told, 60, f"{version} answers")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a file of lines of JSON."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def wait_for(look: Callable[[], Found | None], seconds: float, what: str) -> Found:
    """Return what `look` finds as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.3)
    return found
