"""Features as of each label's moment, by DuckDB: never from anything at or after it.

An entity's events are its latest `length` ones before the moment, as in a stored history, so that the offline value
and the online one are the same number. Definitions: `twinloop.contracts.features`; the online twin: `online.py`.
"""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from twinloop.contracts.features import Feature
from twinloop.contracts.history import DEFAULT_LENGTH, POSITIVE
from twinloop.errors import BadInputError

DAY_MS = 86_400_000

# Running sums over an entity's events in the order of a history. Suffix _all: all events up to and with this one;
# _cut: the part of them that a history of bounded length no longer holds. A feature's value is a difference of two.
_SUMS = {
    "rows": ("count(*)", "UNBOUNDED PRECEDING AND CURRENT ROW"),
    "positives": ("count(*) FILTER (WHERE strength >= {positive})", "UNBOUNDED PRECEDING AND CURRENT ROW"),
    "strengths": ("sum(strength)", "UNBOUNDED PRECEDING AND CURRENT ROW"),
    "positives_cut": (
        "count(*) FILTER (WHERE strength >= {positive})",
        "UNBOUNDED PRECEDING AND {length} PRECEDING",
    ),
    "strengths_cut": ("sum(strength)", "UNBOUNDED PRECEDING AND {length} PRECEDING"),
}
_NEEDS = {
    "last_n": ("positives", "positives_cut"),
    "count": ("positives", "positives_cut"),
    "mean": ("rows", "strengths", "strengths_cut"),
    "recency": (),
}


def compute(
    events: pa.Table, labels: pa.Table, features: Sequence[Feature], *, length: int = DEFAULT_LENGTH
) -> pa.Table:
    """Return the labels with one more column per feature, in no particular order.

    Args:
        events: `user_id`, `item_id`, `time_ms` int64, `strength`; any order, duplicates merged as histories do.
        labels: the entity's id and `time_ms`, and whatever else; `user_id` or `item_id` by the features' entity.
        features: Definitions; lists become list<string>, everything else float64.
        length: How many events of an entity count (`SystemSpec.history_length`).
    """
    with duckdb.connect() as connection:
        connection.register("raw_events", events)
        connection.register("labels", labels)
        connection.execute(
            "CREATE TEMP TABLE events AS SELECT user_id, item_id, time_ms, max(strength) AS strength"
            " FROM raw_events GROUP BY ALL"
        )
        return connection.sql(asof_sql(features, length=length)).to_arrow_table()


def asof_sql(
    features: Sequence[Feature], *, events: str = "events", labels: str = "labels", length: int = DEFAULT_LENGTH
) -> str:
    """Return the query over two relations that gives every label its features.

    `events` must hold one row per user, item and time; see `compute` for the columns.
    """
    for entity in ("item", "user"):
        chosen = [feature for feature in features if feature.entity == entity]
        if chosen:
            labels = f"({_entity_sql(chosen, entity, events, labels, length)})"
    return f"SELECT * FROM {labels} AS labels"


def _entity_sql(features: Sequence[Feature], entity: str, events: str, labels: str, length: int) -> str:
    """The query for the features of one entity: an as-of join to its latest moment, and one more per window."""
    key = f"{entity}_id"
    other = "item_id" if entity == "user" else "user_id"
    sums = sorted({need for feature in features for need in _NEEDS[feature.kind]})
    windows = sorted({_ms(feature.window_days) for feature in features if _windowed(feature)})
    joins = [_asof("latest", key, "labels.time_ms")]
    # A window holds events at its start, so what lies before it ends one tick earlier.
    joins += [_asof(f"w{n}", key, f"labels.time_ms - {window}") for n, window in enumerate(windows)]
    with_lists = ""
    if any(feature.kind == "last_n" for feature in features):
        with_lists = (
            f", lists AS (SELECT {key}, list({other} ORDER BY time_ms, {other}) AS ids FROM {events}"
            f" WHERE strength >= {POSITIVE} GROUP BY {key})"
        )
        joins.append(f"LEFT JOIN lists ON lists.{key} = labels.{key}")
    values = ", ".join(_value(feature, windows, length) + f' AS "{feature.name}"' for feature in features)
    return (
        f"WITH moments AS ({_moments(key, other, events, sums, length)}){with_lists}"
        f" SELECT labels.*, {values} FROM {labels} AS labels {' '.join(joins)}"
    )


def _moments(key: str, other: str, events: str, sums: Sequence[str], length: int) -> str:
    """One row per entity and time with the running sums just after it."""
    if not sums:
        return f"SELECT {key}, time_ms FROM {events}"
    order = f"PARTITION BY {key} ORDER BY time_ms, {other}"
    columns = []
    for name in sums:
        aggregate, frame = _SUMS[name]
        over = f"({order} ROWS BETWEEN {frame.format(length=length)})"
        columns.append(f"coalesce({aggregate.format(positive=POSITIVE)} OVER {over}, 0) AS {name}")
    return (
        f"SELECT {key}, time_ms, {', '.join(columns)} FROM {events}"
        f" QUALIFY lead(time_ms) OVER ({order}) IS DISTINCT FROM time_ms"
    )


def _asof(alias: str, key: str, moment: str) -> str:
    return f"ASOF LEFT JOIN moments AS {alias} ON labels.{key} = {alias}.{key} AND {moment} > {alias}.time_ms"


def _windowed(feature: Feature) -> bool:
    return feature.window_days is not None and feature.kind != "recency"


def _value(feature: Feature, windows: Sequence[int], length: int) -> str:
    """The expression of one feature over the joined moments."""
    alive = f"latest.time_ms >= labels.time_ms - {_ms(feature.time_to_live_days)}"
    if feature.window_days is not None:
        alive += f" AND latest.time_ms >= labels.time_ms - {_ms(feature.window_days)}"
    before = dict.fromkeys(("rows", "positives", "strengths"), "0")
    if _windowed(feature):
        alias = f"w{windows.index(_ms(feature.window_days))}"
        before = {name: f"coalesce({alias}.{name}, 0)" for name in before}
    default = f"{feature.default!r}::DOUBLE"
    match feature.kind:
        case "recency":
            value = f"(labels.time_ms - latest.time_ms) / {DAY_MS}::DOUBLE"
        case "count":
            value = f"(latest.positives - greatest({before['positives']}, latest.positives_cut))::DOUBLE"
        case "mean":
            # The later of the two starts wins; sums need not grow, so the row counts decide.
            value = (
                f"(latest.strengths - CASE WHEN {before['rows']} > latest.rows - {length}"
                f" THEN {before['strengths']} ELSE latest.strengths_cut END)::DOUBLE"
                f" / least(latest.rows - {before['rows']}, {length})"
            )
        case "last_n":
            start = f"greatest({before['positives']}, latest.positives_cut, latest.positives - {feature.length})"
            value = f"lists.ids[{start} + 1 : latest.positives]"
            return f"CASE WHEN {alive} THEN coalesce({value}, []) ELSE [] END"
    return f"CASE WHEN {alive} THEN {value} ELSE {default} END"


def _ms(days: float | None) -> int:
    if days is None:
        raise BadInputError("a feature without a window has no window's length")
    return round(days * DAY_MS)
