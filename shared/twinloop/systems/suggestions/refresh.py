"""The events that the lake holds now, behind the models that serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twinloop import systems
from twinloop.contracts.signature import RANKING
from twinloop.contracts.system import Refresh, Refreshed
from twinloop.errors import BadInputError, IntegrityError
from twinloop.features.lake import latest_rows
from twinloop.ports import ObjectStore
from twinloop.registry.refresh import check_left, put_in_place
from twinloop.registry.registry import Registry
from twinloop.serving.loading import load_models
from twinloop.systems.suggestions import catalogue

_COLUMNS = (
    *("item_id", "title", "topics", "organizer_id", "lat", "lon", "time_zone"),
    *("starts_ms", "published_ms", "price", "capacity", "cancelled"),
)


def refresh(objects: ObjectStore, asked: Refresh) -> Refreshed:
    """Give a release that serves the events that come up, as the lake has them now, and let the new one serve.

    Of organisers the release's own records stay: those are what its models were learnt with. An event that has only
    begun since changes nothing, since serving leaves it out. `Refreshed.fresh` counts events that came, went or are
    others. Raises as `registry.refresh.refresh`.
    """
    system = systems.load("suggestions")
    registry = Registry(objects, system.spec.name)
    state = registry.alias(asked.alias)
    if state is None:
        raise BadInputError(f"suggestions have no {asked.alias} whose events could be refreshed")
    components = {name: dict(files) for name, files in registry.read_release(state.version).items()}
    try:
        before = catalogue.unpack(components[RANKING][catalogue.FILE])
    except KeyError as error:
        raise IntegrityError(f"the {asked.alias} {state.version} has no {catalogue.FILE}; learn anew") from error
    since_ms = int(asked.now().timestamp() * 1000)
    coming = {before.ids[row] for row in range(len(before))[before.upcoming(since_ms, float("inf"))]}
    left: set[str] = set()

    def noted() -> Iterator[dict[str, Any]]:
        for row in latest_rows(objects, system, "items", _COLUMNS, memory_mb=asked.memory_mb):
            if row["item_id"] in coming:
                left.add(row["item_id"])
            yield row

    data = catalogue.pack(noted(), before.records, since_ms=since_ms)
    check_left(len(left), len(coming), asked.least_share)
    after = catalogue.unpack(data)
    changes = catalogue.changed(before, after, since_ms)
    if not changes:
        return Refreshed(None, 0, 0, "nothing has changed: what serves has the events that the lake holds")
    components[RANKING][catalogue.FILE] = data

    def check(made: Mapping[str, Mapping[str, bytes]]) -> None:
        system.predictor(load_models(made))

    words = f"{len(after)} upcoming events, {len(changes)} of them others than before"
    version = put_in_place(registry, asked.alias, state.version, components, check, words=words, by=asked.by)
    said = f"{version} serves: {len(after):,} upcoming events; {len(changes):,} came, went or were changed"
    return Refreshed(version, len(after), len(changes), said)
