"""`twinloop features`: what is known of users and items, how it is defined, and what it is of somebody now."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from twinloop import systems
from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.commands.models import System as SystemName
from twinloop.commands.screen import console, plainly
from twinloop.commands.target import deployment
from twinloop.contracts.features import Feature
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.features import online
from twinloop.features.stores import FeatureStore

_DAY_MS = 86_400_000
# After the event; attributes change when the snapshot function materialises.
_FRESHNESS = {
    "history": "seconds",
    "counters": "seconds",
    "attributes": "materialise",
}


@plainly
def features(
    system: SystemName,
    user: Annotated[str | None, typer.Option(help="Show this user's values now.")] = None,
    item: Annotated[
        str | None, typer.Option(help="With --user: values of this item too, and of both together.")
    ] = None,
) -> None:
    """List a system's feature definitions, or show what they are of a user now, with ages."""
    known = systems.load(system)
    if user is None:
        if item is not None:
            raise BadInputError("--item goes with --user: say who is asked about")
        console.print(definitions_table(known))
        return
    store = DynamoFeatureStore(deployment().outputs["Table"])
    console.print(values_table(known, store, user, item, at_ms=int(time.time() * 1000)))


def definitions_table(system: System) -> Table:
    """Return the definitions: type, window, default, time to live, freshness, owner."""
    table = _table(
        f"{system.spec.name}: features", "feature", "of", "type", "window", "default", "lives", "fresh", "owner"
    )
    for feature in system.definitions:
        table.add_row(
            feature.name,
            feature.entity.replace("_", " x "),
            _type(feature),
            "all" if feature.window_days is None else f"{feature.window_days:g} d",
            "[]" if feature.kind == "last_n" else f"{feature.default:g}",
            "for ever" if feature.source == "attributes" else f"{feature.time_to_live_days:g} d",
            _FRESHNESS[feature.source],
            feature.owner,
        )
    return table


def values_table(system: System, store: FeatureStore, user: str, item: str | None, *, at_ms: int) -> Table:
    """Return what the definitions are of a user, and of an item, at a moment."""
    from twinloop.features import values  # noqa: PLC0415 - numpy, which the list of definitions does without

    recalled = store.recall(system.spec.name, user, [item] if item is not None else [])
    of_history = [feature for feature in system.definitions if feature.source == "history"]
    found = online.compute(recalled.history, of_history, at_ms, length=system.spec.history_length)
    latest = max((entry.time_ms for entry in recalled.history if entry.time_ms < at_ms), default=None)
    counted: Mapping[str, values.Values] = {}
    if system.counting is not None:
        counted = values.compute(system.counting, at_ms, recalled.user, recalled.items)
    whose = f"user {user}" if item is None else f"user {user}, item {item}"
    table = _table(f"{system.spec.name}: {whose}", "feature", "value", "age of what it is made of", "")
    for feature in system.definitions:
        if feature.source == "history":
            value = found[feature.name]
            age = None if latest is None else at_ms - latest
            shown = ", ".join(value.value) if isinstance(value.value, tuple) else f"{value.value:g}"
            table.add_row(feature.name, shown, _age(age), _flag(value.expired))
        elif feature.name in counted:
            one = counted[feature.name]
            age_ms = float(one.ages_ms[0])
            age = None if math.isnan(age_ms) else round(age_ms)
            table.add_row(feature.name, f"{one.values[0]:g}", _age(age), _flag(bool(one.expired[0])))
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "feature")
    return table


def _type(feature: Feature) -> str:
    """What is computed, in the words of the definition."""
    if feature.kind == "last_n":
        return f"list of {feature.length}"
    said = {"rate": f"{feature.of} / {feature.per}", "attribute": feature.attribute, "age": feature.attribute}
    detail = said.get(feature.kind, feature.of)
    shared = f", same {feature.attribute}" if feature.entity == "user_item" else ""
    return f"{feature.kind} {detail}{shared}".strip()


def _age(age_ms: int | None) -> str:
    if age_ms is None:
        return "-"
    for length, unit in ((_DAY_MS, "d"), (3_600_000, "h"), (60_000, "min")):
        if age_ms >= length:
            return f"{age_ms / length:.1f} {unit}"
    return f"{age_ms / 1000:.1f} s"


def _flag(expired: bool) -> Text:
    return Text("expired: the default", "yellow") if expired else Text("")
