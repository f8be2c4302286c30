"""Impressions with what came of them, and what was known just before: the rows that engagement is learnt from.

Work goes through chunks, so that memory does not grow with the lake: of items for what is known of them, of users for
everything else. Neither changes a value. Definitions: `twinloop.contracts.outcomes`.
"""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from twinloop.contracts.features import Counting, Feature
from twinloop.contracts.outcomes import Outcomes, text_column
from twinloop.contracts.spec import Split
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.features import lake
from twinloop.features.chunks import ranges_of_ids
from twinloop.features.counted import asof, make_happened
from twinloop.features.splits import PART_SQL, move_to_requests

_ROWS_A_MB = 200  # events and impressions of a chunk for each MB that DuckDB may use
_BATCH_ROWS = 20_000
_HASH = "md5_number_upper(user_id || '/' || item_id || '/' || time_ms)"


def known_features(counting: Counting) -> tuple[Feature, ...]:
    """Return the definitions of an impression's features: all but those of histories."""
    return tuple(feature for feature in counting.features if feature.source != "history")


def impression_schema(outcomes: Outcomes, counting: Counting) -> pa.Schema:
    """Return the columns of `impressions.parquet`."""
    numbers = [*outcomes.item_facts, *(f"label_{name}" for name in outcomes.labels)]
    numbers += [feature.name for feature in known_features(counting)]
    first = [("user_id", pa.string()), ("item_id", pa.string()), ("time_ms", pa.int64()), ("position", pa.int32())]
    texts = [f"context_{name}" for name in outcomes.context] + [text_column(name) for name in outcomes.texts]
    return pa.schema([*first, *((name, pa.string()) for name in texts), *((name, pa.float32()) for name in numbers)])


def load_impressions(connection: duckdb.DuckDBPyConnection, system: System, folder: Path, *, now: datetime) -> bool:
    """Make `happened`, `shown`, `said` and `impressions`; returns whether there is any impression to learn from.

    It moves the boundaries of `boundaries` to when lists were asked for, so nothing may be parted before it. An
    impression whose window reaches into the next part is left out: what came of it was not known when that part began.

    A user's parts are where their positives are, so the lists of a part were chosen by what came of them, and say
    nothing true about how often something comes. Predictions are judged, therefore, by all impressions since one moment
    for everybody, `judged_from(time_ms)`: the last ones, as many as the test's share. They are test, whatever else is.

    A system that is judged by impressions has only such parts: validation is the share before them, train all earlier
    ones. `events` may be empty then, and there are no `boundaries`.

    Args:
        connection: With the tables `events`, `items`, `users` and `boundaries`.
        system: Whose.
        folder: With the lake's events.
        now: The moment. An event of later, by a clock that is ahead, says nothing of what is over.
    """
    outcomes = system.outcomes
    if outcomes is None or system.counting is None:
        return False
    if not lake.any_event(connection, system, folder, outcomes.shown_sql):
        return False
    counting = lake.require_attributes(connection, system)
    named = [*counting.amounts_sql, outcomes.shown_sql, *outcomes.labels.values()]
    lake.load_once(connection, system, folder, [*named, "context"] if outcomes.context else named)
    make_happened(connection, counting, events="once")
    _load_shown(connection, outcomes, now_ms=round(now.timestamp() * 1000))
    _check_texts(connection, outcomes)
    if not outcomes.judged:
        move_to_requests(connection, outcomes)
    connection.execute("DROP TABLE once")
    edge = _sample_edge(connection, outcomes.most)
    sampled = "" if edge is None else f"AND {_HASH} <= {edge}::UBIGINT"
    judged = _make_judged_from(connection, system.spec.split.test, sampled)
    parted = _part_by_time(connection, system.spec.split, judged, sampled) if outcomes.judged else _PART_BY_USER
    # Events of one user, item and moment are one impression, told by that event of them that tells most: facts of
    # several would make a moment that nobody had.
    facts = ["position", *(f"context_{name}" for name in outcomes.context)]
    most = " + ".join(f"({name} IS NOT NULL)::INTEGER" for name in ["nullif(position, -1)", *facts[1:]])
    first = ", ".join(f"{name} DESC" for name in [f"({most})", *facts])
    connection.execute(f"""
        CREATE TABLE impressions AS
        WITH places AS (
            SELECT user_id, item_id, time_ms, {", ".join(facts)} FROM shown WHERE waited {sampled}
            QUALIFY row_number() OVER (PARTITION BY user_id, item_id, time_ms ORDER BY {first}) = 1
        ),
        parted AS ({parted.format(judged=judged)})
        SELECT * EXCLUDE (test_ms, validation_ms) FROM parted WHERE CASE part
            WHEN 'test' THEN true
            WHEN 'validation' THEN time_ms + {outcomes.window_ms} < least(test_ms, {judged})
            ELSE time_ms + {outcomes.window_ms} < least(validation_ms, test_ms, {judged}) END
        ORDER BY user_id
    """)
    return connection.execute("SELECT 1 FROM impressions LIMIT 1").fetchone() is not None


def impressions(connection: duckdb.DuckDBPyConnection, system: System, *, memory_mb: int) -> Iterator[pa.RecordBatch]:
    """Yield the impressions by (user_id, time_ms, item_id): the columns of `impression_schema`, and `part`.

    Args:
        connection: After `load_impressions`.
        system: One with outcomes and counting.
        memory_mb: What DuckDB may use; how large chunks are.
    """
    outcomes, counting = system.outcomes, system.counting
    if outcomes is None or counting is None:
        return
    rows = memory_mb * _ROWS_A_MB
    features = known_features(counting)
    load_item_values(connection, counting, [f for f in features if f.entity == "item"], memory_mb=memory_mb)
    facts = [f"coalesce(item_facts.v_{of}, 0)::DOUBLE AS {name}" for name, of in outcomes.item_facts.items()]
    facts += [f"{_fact_of(name)} AS {text_column(name)}" for name in outcomes.texts]
    of_users = any(name.startswith("users.") for name in outcomes.texts)
    labels = [f"coalesce(came.l{n}, 0) AS label_{name}" for n, name in enumerate(outcomes.labels)]
    for first, last in _ranges(connection, "user_id", "impressions", rows):
        for table in ("happened", "shown", "said", "impressions"):
            mine = f"SELECT * FROM {table} WHERE user_id BETWEEN ? AND ?"
            connection.execute(f"CREATE OR REPLACE TEMP TABLE my_{table} AS {mine}", [first, last])
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE my_labels AS
            SELECT {", ".join(["my_impressions.*", *facts, *labels])} FROM my_impressions
            LEFT JOIN ({_came(outcomes)}) AS came USING (user_id, item_id, time_ms)
            LEFT JOIN item_facts USING (item_id) {"LEFT JOIN user_facts USING (user_id)" if of_users else ""}
        """)
        others = [feature for feature in features if feature.entity != "item"]
        valued = asof(connection, counting, labels="my_labels", happened="my_happened", features=others)
        query = f"""
            SELECT * FROM ({valued}) AS asked JOIN item_values USING (item_id, time_ms)
            ORDER BY user_id, time_ms, item_id
        """
        yield from connection.sql(query).to_arrow_reader(_BATCH_ROWS)


def load_labelled(
    connection: duckdb.DuckDBPyConnection, system: System, folder: Path, *, now: datetime, span_ms: int
) -> int:
    """Make `labelled(user_id, item_id, time_ms, request_id, label_<name>, ...)`: showings with what came of them.

    Nothing is waited for: a showing whose window is not over has what came until now.

    Args:
        connection: Of `lake.open_database`.
        system: One with outcomes.
        folder: With the lake's events.
        now: The moment. What is said to happen later comes from a clock that is ahead.
        span_ms: How long before the end showings are of use.

    Returns:
        The end: the moment of the latest event up to now, epoch milliseconds. What happened later is not in the lake
        yet. 0: no event.

    Raises:
        BadInputError: The events lack a column, or the system has no outcomes.
    """
    outcomes = system.outcomes
    if outcomes is None:
        raise BadInputError(f"{system.spec.name} does not say what comes of a showing")
    lake.load_once(connection, system, folder, [outcomes.shown_sql, *outcomes.labels.values()])
    now_ms = round(now.timestamp() * 1000)
    row = connection.execute(f"SELECT {_latest(now_ms)} FROM once").fetchone()
    end = int(row[0]) if row and row[0] is not None else 0
    connection.execute("DELETE FROM once WHERE time_ms < ?", [end - span_ms])
    _load_shown(connection, dataclasses.replace(outcomes, context=()), now_ms=end)
    connection.execute("DROP TABLE once")
    labels = "".join(f", coalesce(came.l{n}, 0) AS label_{name}" for n, name in enumerate(outcomes.labels))
    connection.execute(f"""
        CREATE TABLE labelled AS
        SELECT DISTINCT shown.user_id, shown.item_id, shown.time_ms, shown.request_id{labels} FROM shown
        LEFT JOIN ({_came(outcomes, "said", "shown")}) AS came USING (user_id, item_id, time_ms)
    """)
    return end


def _make_judged_from(connection: duckdb.DuckDBPyConnection, share: float, sampled: str) -> int:
    """Make `judged_from`: the moment since which that share of the impressions came; returns it."""
    since = _since(connection, 1 - share, sampled)
    connection.execute("CREATE TABLE judged_from AS SELECT ?::BIGINT AS time_ms", [since])
    return since


def _since(connection: duckdb.DuckDBPyConnection, share: float, sampled: str) -> int:
    """The moment before which that share of the impressions came."""
    found = connection.execute(
        f"SELECT coalesce(quantile_disc(time_ms, ?::DOUBLE), 0) FROM shown WHERE waited {sampled}", [share]
    ).fetchone()
    return int(found[0]) if found else 0


def _part_by_time(connection: duckdb.DuckDBPyConnection, split: Split, judged: int, sampled: str) -> str:
    """The query of the impressions with their parts, which begin for everybody at the same moments."""
    # Rounded, because 1 - .2 - .1 is a hair above .7.
    validated = _since(connection, round(1 - split.test - split.validation, 9), sampled)
    return f"""
        SELECT *, CASE WHEN time_ms >= {judged} THEN 'test' WHEN time_ms >= {validated} THEN 'validation'
            ELSE 'train' END AS part, {judged}::BIGINT AS test_ms, {validated}::BIGINT AS validation_ms FROM places
    """


def _check_texts(connection: duckdb.DuckDBPyConnection, outcomes: Outcomes) -> None:
    """Refuse an attribute that is no text in the lake: online it would not be known as one."""
    kinds = {
        f"{table}s.{row[0].removeprefix('v_')}": str(row[1])
        for table in ("item", "user")
        for row in connection.execute(f"DESCRIBE {table}_facts").fetchall()
    }
    for name in outcomes.texts:
        if kinds[name] != "VARCHAR":
            raise BadInputError(f"the attribute {name} is no text in the lake, but {kinds[name]}")


def _fact_of(name: str) -> str:
    """The column of an attribute, `items.<name>` or `users.<name>`."""
    table, _, attribute = name.partition(".")
    return f"{table[:4]}_facts.v_{attribute}"


def _next(part: str) -> str:
    """The moment at which a user's part begins."""
    return f"(boundaries.{part}_start)[1]"


# The query of the impressions with the parts of their users, but for the last ones, which are judged.
_PART_BY_USER = f"""
    SELECT events.*, CASE WHEN events.time_ms >= {{judged}} THEN 'test' ELSE {PART_SQL} END AS part,
        {_next("test")} AS test_ms, {_next("validation")} AS validation_ms
    FROM places AS events LEFT JOIN boundaries USING (user_id)
"""


def _load_shown(connection: duckdb.DuckDBPyConnection, outcomes: Outcomes, *, now_ms: int) -> None:
    """Make `shown` and `said` of `once`. `waited`: whether the window is over, by the lake and by the clock."""
    complete = "user_id IS NOT NULL AND item_id IS NOT NULL AND time_ms IS NOT NULL"
    who = "user_id, item_id, time_ms, request_id::VARCHAR AS request_id"
    amounts = ", ".join(f"({sql})::DOUBLE AS l{n}" for n, sql in enumerate(outcomes.labels.values()))
    context = "".join(f", {_said_of(name)} AS context_{name}" for name in outcomes.context)
    anything = " OR ".join(f"l{n} IS NOT NULL" for n in range(len(outcomes.labels)))
    connection.execute(f"""
        CREATE TABLE shown AS
        SELECT {who}, coalesce(position, -1)::INTEGER AS position{context},
            time_ms + {outcomes.window_ms} <= (SELECT coalesce({_latest(now_ms)}, 0) FROM once) AS waited
        FROM once WHERE ({outcomes.shown_sql}) AND {complete} ORDER BY user_id;
        CREATE TABLE said AS
        SELECT * FROM (SELECT {who}, {amounts} FROM once WHERE {complete}) WHERE {anything} ORDER BY user_id
    """)


def _latest(now_ms: int) -> str:
    """How far the lake is: an event of later has a clock that is ahead, and says nothing of what is still to come."""
    return f"max(time_ms) FILTER (WHERE time_ms <= {now_ms})"


def _said_of(name: str) -> str:
    """A fact of an event's context, as JSON."""
    return f"CASE WHEN json_valid(context::VARCHAR) THEN json_extract(context::VARCHAR, '$.\"{name}\"')::VARCHAR END"


def _sample_edge(connection: duckdb.DuckDBPyConnection, most: int) -> int | None:
    """The hash up to which impressions are taken; None where all of them are."""
    hashes = f"SELECT DISTINCT {_HASH} AS place FROM shown WHERE waited"
    counted = connection.execute("SELECT count(*) FROM shown WHERE waited").fetchone()
    if counted is None or counted[0] <= most:
        return None
    edge = connection.execute(f"SELECT place FROM ({hashes}) ORDER BY place LIMIT 1 OFFSET {most - 1}").fetchone()
    return None if edge is None else int(edge[0])


def load_item_values(
    connection: duckdb.DuckDBPyConnection,
    counting: Counting,
    features: Sequence[Feature],
    *,
    memory_mb: int,
    labels: str = "impressions",
    into: str = "item_values",
) -> None:
    """Make a table of the features of items as of each label, once for each (item_id, time_ms).

    An item's events are never parted: one that everybody meets may make a larger chunk than the others, and spill.

    Args:
        connection: With what `counted.make_happened` makes.
        counting: What the system counts.
        features: Of items alone.
        memory_mb: What DuckDB may use; how large chunks are.
        labels: A table with `item_id` and `time_ms`.
        into: The table's name.
    """
    columns = "".join(f', "{feature.name}"::FLOAT AS "{feature.name}"' for feature in features)
    begin = f"CREATE OR REPLACE TABLE {into} AS"
    for first, last in _ranges(connection, "item_id", labels, memory_mb * _ROWS_A_MB):
        mine = "SELECT * FROM happened WHERE item_id BETWEEN ? AND ?"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE my_happened AS {mine}", [first, last])
        mine = f"SELECT DISTINCT NULL::VARCHAR AS user_id, item_id, time_ms FROM {labels} WHERE item_id BETWEEN ? AND ?"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE my_moments AS {mine}", [first, last])
        valued = asof(connection, counting, labels="my_moments", happened="my_happened", features=features)
        connection.execute(f"{begin} SELECT item_id, time_ms{columns} FROM ({valued})")
        begin = f"INSERT INTO {into}"


def _came(outcomes: Outcomes, said: str = "my_said", shown: str = "my_shown") -> str:
    """The query of what was said of each moment that an item was shown at: the latest that the event can belong to."""
    on = "{0}.user_id = said.user_id AND {0}.item_id = said.item_id AND said.time_ms >= {0}.time_ms"
    most = ", ".join(f"max(l{n}) AS l{n}" for n in range(len(outcomes.labels)))
    return f"""
        WITH placed AS (
            SELECT said.*, CASE WHEN said.request_id IS NULL THEN any_request.time_ms
                ELSE greatest(same_request.time_ms, no_request.time_ms) END AS shown_ms
            FROM {said} AS said
            ASOF LEFT JOIN {shown} AS any_request ON {on.format("any_request")}
            ASOF LEFT JOIN (SELECT * FROM {shown} WHERE request_id IS NULL) AS no_request
                ON {on.format("no_request")}
            ASOF LEFT JOIN (SELECT * FROM {shown} WHERE request_id IS NOT NULL) AS same_request
                ON same_request.request_id = said.request_id AND {on.format("same_request")}
        )
        SELECT user_id, item_id, shown_ms AS time_ms, {most} FROM placed
        WHERE time_ms - shown_ms <= {outcomes.window_ms} GROUP BY user_id, item_id, shown_ms
    """


def _ranges(connection: duckdb.DuckDBPyConnection, key: str, labels: str, rows: int) -> list[tuple[str, str]]:
    """Ranges of ids, first and last, in order, that hold all labels and about so many rows each."""
    sizes = connection.execute(f"""
        WITH events AS (SELECT {key}, count(*) AS size FROM happened GROUP BY {key}),
        mine AS (SELECT {key}, count(*) AS size FROM {labels} GROUP BY {key})
        SELECT {key}, mine.size + coalesce(events.size, 0) FROM mine LEFT JOIN events USING ({key}) ORDER BY {key}
    """)
    return ranges_of_ids(sizes, rows)
