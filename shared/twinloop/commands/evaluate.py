"""`twinloop evaluate`: what serves now, against events that it has never seen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from twinloop import systems
from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.commands.api import ask
from twinloop.commands.models import System as SystemName
from twinloop.commands.screen import plainly
from twinloop.commands.target import Deployment, deployment
from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import POSITIVE
from twinloop.contracts.system import Ranked, System
from twinloop.errors import BadInputError, NotFoundError
from twinloop.evaluation.gate import summarise
from twinloop.evaluation.replay import replay
from twinloop.features.stores import OnlineStore
from twinloop.ingest.process import ingest
from twinloop.ingest.receipts import Receipt
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.serving.releases import ReleaseLoader

_READERS = 16


@plainly
def evaluate(
    system: SystemName,
    events: Annotated[Path, typer.Option(help="Labelled events that no job has seen, in any raw format.")],
    api: Annotated[bool, typer.Option("--api/--in-process", help="Ask the deployed API, or its code here.")] = False,
    alias: Annotated[str, typer.Option(help="Which release to judge in process.")] = "champion",
) -> None:
    """Score the served release on a labelled file; prints one JSON object of metrics with intervals."""
    typer.echo(json.dumps(score(deployment(), system, events, api=api, alias=alias), indent=1))


def score(place: Deployment, name: str, events: Path, *, api: bool = False, alias: str = "champion") -> dict[str, Any]:
    """Return metrics with intervals, of the deployed API or of its code in this process.

    A user's history is what the online store knows of them; what they liked in the file, and had not met before, is
    what should have been recommended.

    Raises:
        BadInputError: The file cannot be read, or holds nothing to judge by.
        NotFoundError: Nothing serves yet.
    """
    system, registry = systems.load(name), place.registry(name)
    state = registry.alias(alias)
    if state is None:
        raise NotFoundError(f"{name} has no {alias} yet; `twinloop learn {name}` makes one")
    liked, made = _liked(system, events)
    cases = list(_cases(system, DynamoOnlineStore(place.outputs["Table"]), liked))
    if not cases:
        raise BadInputError(f"{events} has no positive event on an item that is new to its user; nothing to judge by")
    if api:
        scores = replay(place, cases, lambda where, case: system.judge(_Api(where, system, case), case))
    else:
        predictor = ReleaseLoader(registry, system.predictor).load(state.version).predictor
        scores = replay(predictor, cases, system.judge)
    return {
        "system": name,
        "release": state.version,
        "rung": registry.release(state.version).rung,
        "asked": "api" if api else "in process",
        "cases": len(cases),
        "confidence": system.spec.gate.confidence,
        "metrics": {metric: asdict(found) for metric, found in summarise(system.spec.gate, scores).items()},
        "latency_ms": {"p50": round(scores.latency(50), 3), "p99": round(scores.latency(99), 3)},
        "rows": sum(made.rows.values()),
        "rejected_rows": made.quarantined,
    }


class _Api:
    """The deployed API in a predictor's place, for one case's user."""

    def __init__(self, place: Deployment, system: System, case: Case) -> None:
        self._place, self._system, self._user = place, system, case.request["user_id"]

    def rank(self, history: object, exclude: object, limit: int) -> Ranked:
        del history, exclude  # the API knows them itself; that is what is judged
        path = f"/v1/{self._system.spec.name}/{self._system.spec.verb}"
        items = ask(self._place, path, {"user_id": self._user, "limit": limit})["items"]
        scores = np.array([item["score"] for item in items], dtype=np.float32)
        return Ranked(tuple(item["item_id"] for item in items), scores)


def _liked(system: System, events: Path) -> tuple[Mapping[str, dict[str, int]], Receipt]:
    """Read a file as the ETL would; returns user -> liked item -> first time in ms, and the receipt."""
    if not events.is_file():
        raise BadInputError(f"{events}: there is no such file")
    store = MemoryObjectStore()
    with events.open("rb") as body:
        key = f"raw/{system.spec.name}/events/{events.name}"
        made = ingest(RawObject(key, "file", datetime.now(UTC), events.stat().st_size, body), system, store)
    if made.refused and not made.rows:
        raise BadInputError(f"{events}: {made.refused}")
    liked: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for key in made.files:
        for row in pq.read_table(pa.BufferReader(store.read(key).body)).to_pylist():
            if (system.strength(row) or 0.0) >= POSITIVE:
                moment = int(row["time"].timestamp() * 1000)
                first = liked[row["user_id"]].get(row["item_id"], moment)
                liked[row["user_id"]][row["item_id"]] = min(first, moment)
    return liked, made


def _cases(system: System, store: OnlineStore, liked: Mapping[str, dict[str, int]]) -> Iterator[Case]:
    users = sorted(liked)
    with ThreadPoolExecutor(_READERS) as pool:
        histories = pool.map(lambda user: store.history(system.spec.name, user), users)
        for user, history in zip(users, histories, strict=True):
            met = {entry.item_id for entry in history}
            relevant = [item for item in sorted(liked[user]) if item not in met]
            if relevant:
                entries = [[entry.item_id, entry.time_ms, entry.strength] for entry in history]
                request = {"user_id": user, "time_ms": min(liked[user].values()), "history": entries}
                yield Case(case_id=user, request=request, truth={"relevant": relevant})
