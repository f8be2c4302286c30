"""Features of counters and attributes as of each label's moment, by DuckDB; the online twin is `values.py`.

Every event is counted, so a value is a difference of two running sums: as of the moment, and as of the start of the
window's first bucket. Definitions: `twinloop.contracts.features`.
"""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import duckdb

from twinloop.contracts.features import LARGEST, Counting, Feature

DAY_MS = 86_400_000
_COUNTED = frozenset({"total", "rate", "share"})


def mark_sql(expression: str) -> str:
    """Return `contracts.tally.mark_of` in SQL."""
    return f"CASE WHEN {expression} IS NULL THEN 0 ELSE (md5_number_upper({expression}) & 4294967295)::BIGINT END"


def tellable_sql(expression: str) -> str:
    """Return a number, or NULL where models cannot be told it; see `contracts.features.LARGEST`."""
    return f"CASE WHEN abs({expression}) <= {LARGEST!r}::DOUBLE THEN {expression} END"  # NaN is above all


def make_happened(connection: duckdb.DuckDBPyConnection, counting: Counting, *, events: str = "once") -> None:
    """Make `happened(user_id, item_id, time_ms, key, a0.., k0..)`: events' amounts, and the marks of their items.

    Args:
        connection: With the tables `items` and `users` of their latest rows.
        counting: What the system counts.
        events: A relation of the lake's events, each once, with `time_ms`.
    """
    _make_facts(connection, counting)
    amounts = ", ".join(f"({sql})::BIGINT AS a{n}" for n, sql in enumerate(counting.amounts_sql))
    known = "user_id IS NOT NULL AND item_id IS NOT NULL AND time_ms IS NOT NULL"
    some = " OR ".join(f"a{n} > 0" for n in range(len(counting.measures)))
    marks = "".join(f", coalesce(item_facts.k{n}, {_own(name)}) AS k{n}" for n, name in enumerate(counting.marks))
    connection.execute(f"""
        CREATE OR REPLACE TABLE happened AS
        WITH counted AS (
            SELECT user_id, item_id, time_ms, md5_number_upper(event_id::VARCHAR) AS key, {amounts}
            FROM {events} AS events
        )
        SELECT counted.*{marks} FROM counted LEFT JOIN item_facts USING (item_id) WHERE ({some}) AND {known}
    """)


def _own(mark: str) -> str:
    """The mark of an item that no table knows."""
    return mark_sql("counted.item_id") if mark == "item_id" else "0"


def _make_facts(connection: duckdb.DuckDBPyConnection, counting: Counting) -> None:
    """Make `item_facts` and `user_facts`: the attributes that features and marks are made of."""
    for table, key in (("items", "item_id"), ("users", "user_id")):
        columns = "".join(f", {sql} AS v_{name}" for name, sql in counting.attributes.get(table, {}).items())
        facts = f"SELECT {key}{columns} FROM {table}"
        kinds = connection.execute(f"DESCRIBE {facts}").fetchall()
        told = ", ".join(f"{tellable_sql(name)} AS {name}" for name, kind, *_ in kinds if kind in {"DOUBLE", "FLOAT"})
        replaced = f"* REPLACE ({told})" if told else "*"
        marks = ""
        if table == "items":
            marks = "".join(
                f", {mark_sql('item_id' if name == 'item_id' else f'v_{name}')} AS k{n}"
                for n, name in enumerate(counting.marks)
            )
        connection.execute(
            f"CREATE OR REPLACE TABLE {key[:4]}_facts AS SELECT *{marks} FROM (SELECT {replaced} FROM ({facts}))"
        )


def asof(
    connection: duckdb.DuckDBPyConnection,
    counting: Counting,
    *,
    labels: str = "labels",
    happened: str = "happened",
    features: Sequence[Feature] | None = None,
) -> str:
    """Return the query that gives every label one more column per feature that is not of the history, float64.

    Args:
        connection: With what `make_happened` makes.
        counting: What the system counts, and the definitions.
        labels: A relation with `user_id`, `item_id`, `time_ms` (epoch milliseconds) and whatever else.
        happened: All events of the labels' users, and where features of items are asked for, of their items.
        features: Which ones; all by default.
    """
    names = [str(row[0]) for row in connection.execute(f"DESCRIBE SELECT * FROM {labels}").fetchall()]
    chosen = counting.features if features is None else features
    features = [feature for feature in chosen if feature.source != "history"]
    columns = ", ".join([*(f'"{name}"' for name in names), *(f'{_value(counting, f)} AS "{f.name}"' for f in features)])
    # An item that no table knows is still itself.
    marks = "".join(
        f", coalesce(item_facts.k{n}, {mark_sql('labels.item_id') if name == 'item_id' else 0}) AS _k{n}"
        for n, name in enumerate(counting.marks)
    )
    facts = "".join(
        f", {table[:4]}_facts.v_{name} AS _{table[:4]}_{name}"
        for table, attributes in counting.attributes.items()
        for name in attributes
    )
    steps = [
        f"asked AS (SELECT labels.*{marks}{facts} FROM {labels} AS labels"
        " LEFT JOIN item_facts ON item_facts.item_id = labels.item_id"
        " LEFT JOIN user_facts ON user_facts.user_id = labels.user_id)",
    ]
    last = "asked"
    kinds: tuple[Literal["user", "item"], ...] = ("user", "item")
    for entity in kinds:
        if any((f.entity == "item") == (entity == "item") for f in features):
            steps += _entity_steps(counting, entity, features, last, happened)
            last = f"asked_{entity}"
    for n, mark in enumerate(counting.marks):
        wanted = [f for f in features if f.entity == "user_item" and f.attribute == mark]
        if wanted:
            steps += _mark_steps(counting, n, wanted, last)
            last = f"asked_mark{n}"
    return f"WITH {', '.join(steps)} SELECT {columns} FROM {last}"


def _entity_steps(
    counting: Counting, entity: Literal["user", "item"], features: Sequence[Feature], labels: str, happened: str
) -> list[str]:
    """The running sums of an entity, and the labels with those of the moment and of every window's start."""
    key = f"{entity}_id"
    mine = [f for f in features if f.entity == entity or (entity == "user" and f.entity == "user_item")]
    sums, lasts = _needs(counting, [f for f in mine if f.entity == entity or f.kind == "share"])
    order = f"PARTITION BY {key} ORDER BY time_ms, key"
    over = f"OVER ({order} ROWS UNBOUNDED PRECEDING)"
    running = "".join(f", (sum(a{m}) {over})::BIGINT AS s{m}" for m in sums)
    running += "".join(f", max(CASE WHEN a{m} > 0 THEN time_ms END) {over} AS l{m}" for m in lasts)
    joins = [f"ASOF LEFT JOIN {entity}_moments AS now ON now.{key} = labels.{key} AND labels.time_ms > now.time_ms"]
    columns = [f"now.time_ms AS _{entity}_latest", f"now.rn AS _{entity}_rn"]
    columns += [f"now.s{m} AS _{entity}_s{m}" for m in sums] + [f"now.l{m} AS _{entity}_l{m}" for m in lasts]
    for window in _windows(mine):
        alias, start = f"w{_tag(window)}", _start("labels", window)
        joins.append(
            f"ASOF LEFT JOIN {entity}_moments AS {alias} ON {alias}.{key} = labels.{key} AND {start} > {alias}.time_ms"
        )
        columns += [f"{alias}.rn AS _{entity}_{alias}_rn"]
        columns += [f"{alias}.s{m} AS _{entity}_{alias}_s{m}" for m in sums]
    kept = ""
    if entity == "user":  # crosses are computed from it
        amounts = range(len(counting.measures))
        kept = "".join(f", k{n}" for n in range(len(counting.marks))) + "".join(f", a{m}" for m in amounts)
    return [
        f"{entity}_placed AS (SELECT {key}, time_ms, key{kept}, row_number() OVER ({order}) AS rn{running},"
        f" lead(time_ms) OVER ({order}) IS DISTINCT FROM time_ms AS ends FROM {happened})",
        f"{entity}_moments AS (SELECT * FROM {entity}_placed WHERE ends)",
        f"asked_{entity} AS (SELECT labels.*, {', '.join(columns)} FROM {labels} AS labels {' '.join(joins)})",
    ]


def _mark_steps(counting: Counting, number: int, features: Sequence[Feature], labels: str) -> list[str]:
    """The running sums of a user's events with one mark, and the labels with those of their own item's mark.

    Events are told by their place in the user's sequence, since only the latest of them count.
    """
    mark, memory = f"k{number}", counting.memory["user"]
    sums, lasts = _needs(counting, features)
    over = f"OVER (PARTITION BY user_id, {mark} ORDER BY rn ROWS UNBOUNDED PRECEDING)"
    running = "".join(f", (sum(a{m}) {over})::BIGINT AS s{m}" for m in sums)
    running += "".join(
        f", max(CASE WHEN a{m} > 0 THEN time_ms END) {over} AS l{m}, max(CASE WHEN a{m} > 0 THEN rn END) {over} AS r{m}"
        for m in lasts
    )
    on = f"{{0}}.user_id = labels.user_id AND {{0}}.{mark} = labels._{mark}"
    joins = [f"ASOF LEFT JOIN mark{number} AS now ON {on.format('now')} AND coalesce(labels._user_rn, 0) >= now.rn"]
    columns = [f"CASE WHEN now.r{m} > labels._user_rn - {memory} THEN now.l{m} END AS _k{number}_l{m}" for m in lasts]
    columns += [f"now.s{m} AS _k{number}_s{m}" for m in sums]
    froms = []
    for window in _windows(features):
        tag = _tag(window)
        begun = f"coalesce(_user_w{tag}_rn, 0)" if window[0] else "0"
        # Everything up to this place is outside: forgotten, or before the window.
        froms.append(f"greatest(coalesce(_user_rn, 0) - {memory}, {begun}, 0) AS _k{number}_from{tag}")
        alias, place = f"w{tag}", f"labels._k{number}_from{tag}"
        joins.append(f"ASOF LEFT JOIN mark{number} AS {alias} ON {on.format(alias)} AND {place} >= {alias}.rn")
        columns += [f"{alias}.s{m} AS _k{number}_{alias}_s{m}" for m in sums]
        shared, _ = _needs(counting, [f for f in features if f.kind == "share" and (f.bucket_ms, f.buckets) == window])
        if shared:
            all_of = f"user_placed AS all{tag} ON all{tag}.user_id = labels.user_id AND all{tag}.rn = {place}"
            joins.append(f"LEFT JOIN {all_of}")
            columns += [f"all{tag}.s{m} AS _k{number}_all{tag}_s{m}" for m in shared]
    placed = ", ".join(froms)
    return [
        f"mark{number} AS (SELECT user_id, {mark}, rn{running} FROM user_placed WHERE {mark} != 0)",
        f"begun{number} AS (SELECT *{', ' + placed if placed else ''} FROM {labels})",
        f"asked_mark{number} AS (SELECT labels.*, {', '.join(columns)} FROM begun{number} AS labels {' '.join(joins)})",
    ]


def _value(counting: Counting, feature: Feature) -> str:
    """The expression of one feature over the joined labels."""
    default = f"{feature.default!r}::DOUBLE"
    entity = "item" if feature.entity == "item" else "user"
    if feature.source == "attributes":
        column = f"_{entity}_{feature.attribute}"
        value = f"{column}::DOUBLE"
        if feature.kind == "age":
            # `greatest` passes over NULL, so an age of nobody would be 0.
            value = (
                f"CASE WHEN {column} IS NOT NULL THEN greatest(time_ms - {column}::BIGINT, 0) / {DAY_MS}::DOUBLE END"
            )
        return f"coalesce({value}, {default})"
    alive = f"_{entity}_latest >= time_ms - {round(feature.time_to_live_days * DAY_MS)}"
    return f"CASE WHEN {alive} THEN coalesce({_counted(counting, feature)}, {default}) ELSE {default} END"


def _counted(counting: Counting, feature: Feature) -> str:
    of = counting.measures.index(feature.of)
    mark = f"_k{counting.marks.index(feature.attribute)}" if feature.entity == "user_item" else ""
    if feature.kind == "recency":
        latest = f"{mark or '_' + feature.entity}_l{of}"
        return f"(time_ms - {latest}) / {DAY_MS}::DOUBLE"
    if feature.kind == "total":
        return f"{_sum(feature, mark, of)}::DOUBLE * {feature.scale!r}::DOUBLE"
    if feature.kind == "share":
        tag = _tag((feature.bucket_ms, feature.buckets))
        below = f"(coalesce(_user_s{of}, 0) - coalesce({mark}_all{tag}_s{of}, 0))"
    else:
        below = _sum(feature, mark, counting.measures.index(feature.per))
    above = f"({_sum(feature, mark, of)}::DOUBLE + {feature.prior * feature.weight!r}::DOUBLE)"
    return f"{above} / nullif({below}::DOUBLE + {feature.weight!r}::DOUBLE, 0)"


def _sum(feature: Feature, mark: str, measure: int) -> str:
    """The sum of a measure in the feature's window."""
    alias = f"_w{_tag((feature.bucket_ms, feature.buckets))}"
    name = mark or f"_{feature.entity}"
    if not mark and not feature.bucket_ms:
        return f"coalesce({name}_s{measure}, 0)"
    return f"(coalesce({name}_s{measure}, 0) - coalesce({name}{alias}_s{measure}, 0))"


def _needs(counting: Counting, features: Iterable[Feature]) -> tuple[list[int], list[int]]:
    """The measures whose sums, and those whose latest times, features are made of."""
    sums, lasts = set(), set()
    for feature in features:
        if feature.kind == "recency":
            lasts.add(counting.measures.index(feature.of))
        elif feature.kind in _COUNTED:
            sums |= {counting.measures.index(name) for name in (feature.of, feature.per) if name}
    return sorted(sums), sorted(lasts)


def _windows(features: Iterable[Feature]) -> list[tuple[int, int]]:
    """The windows, as (bucket's length, buckets); without a start only where the user's memory gives it one."""
    return sorted(
        {(f.bucket_ms, f.buckets) for f in features if f.kind in _COUNTED and (f.bucket_ms or f.entity == "user_item")}
    )


def _tag(window: tuple[int, int]) -> str:
    return f"{window[0] // 3_600_000}x{window[1]}"


def _start(labels: str, window: tuple[int, int]) -> str:
    """The first moment of a window."""
    length, buckets = window
    return f"({labels}.time_ms // {length} - {buckets}) * {length}" if length else "0"
