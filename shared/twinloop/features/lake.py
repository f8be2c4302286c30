"""A system's lake as DuckDB tables: files fetched to a work folder, every event once, every entity's latest row."""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb

from twinloop.contracts.artefacts import FileEntry
from twinloop.contracts.columns import Kind, dated, kinds
from twinloop.contracts.features import Counting
from twinloop.contracts.model import Contract, identity
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.features.counted import make_happened
from twinloop.ports import ObjectStore

_PARALLEL_READS = 16
_BATCH_ROWS = 10_000
_REQUIRED = ("event_id", "user_id", "item_id", "time", "type")
_SQL_TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "float": "DOUBLE",
    "int": "BIGINT",
    "bool": "BOOLEAN",
    "time": "BIGINT",  # epoch milliseconds
    "list": "VARCHAR[]",
    "json": "VARCHAR",
}


def fetch(
    objects: ObjectStore, system: str, table: str, folder: Path, *, dates: Sequence[str] | None = None
) -> tuple[FileEntry, ...]:
    """Copy a table's Parquet files into a folder; numbered names keep the order of their keys.

    `dates`: only those partitions, as `2026-01-31`; by default all.
    """
    root = f"lake/{system}/{table}/"
    prefixes = [root] if dates is None else [f"{root}dt={date}/" for date in dates]
    keys = sorted(key for prefix in prefixes for key in objects.keys(prefix) if key.endswith(".parquet"))
    folder.mkdir(parents=True, exist_ok=True)

    def copy(numbered: tuple[int, str]) -> FileEntry:
        number, key = numbered
        body = objects.read(key).body
        (folder / f"{number:08d}.parquet").write_bytes(body)
        return FileEntry(path=key, sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))

    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        return tuple(pool.map(copy, enumerate(keys)))


def open_database(folder: Path, *, memory_mb: int, threads: int) -> duckdb.DuckDBPyConnection:
    """Return DuckDB on a file in the folder, which spills there past its memory."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(str(folder / "work.duckdb"))
    connection.execute(f"SET memory_limit = '{memory_mb}MB'")
    connection.execute(f"SET temp_directory = '{folder / 'spill'}'")
    connection.execute(f"SET threads = {threads}")
    connection.execute("SET preserve_insertion_order = false")  # every query that needs an order says so
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def latest_rows(
    objects: ObjectStore, system: System, table: str, columns: Sequence[str], *, memory_mb: int = 2048, threads: int = 2
) -> Iterator[dict[str, Any]]:
    """Yield some columns of the latest row of each user or item in the lake, in the order of the first of them.

    Raises BadInputError where there is none.
    """
    name = system.spec.name
    with tempfile.TemporaryDirectory(prefix="lake-") as folder:
        work = Path(folder)
        if not fetch(objects, name, table, work / table):
            raise BadInputError(f"the lake has no {table} of {name}; load them first: twinloop load {name} PATH")
        with open_database(work / "duckdb", memory_mb=memory_mb, threads=threads) as connection:
            load_table(connection, table, system.tables[table], work / table)
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {columns[0]}")
            while batch := rows.fetchmany(_BATCH_ROWS):
                yield from (dict(zip(columns, row, strict=True)) for row in batch)


def load_events(connection: duckdb.DuckDBPyConnection, system: System, folder: Path) -> None:
    """Make `events(user_id, item_id, time_ms, strength)`: evidence only, in the order of users and their time.

    Of rows with one event_id the first by file and row counts; events of one user, item and time are one event with
    the greatest strength, as in a history.
    """
    once = _once(connection, system, folder)
    connection.execute(f"""
        CREATE TABLE events AS
        WITH once AS ({once}),
        evidence AS (
            SELECT user_id::VARCHAR AS user_id, item_id::VARCHAR AS item_id,
                time_ms, ({system.strength_sql})::DOUBLE AS strength
            FROM once
        )
        SELECT user_id, item_id, time_ms, max(strength) AS strength FROM evidence
        WHERE strength IS NOT NULL AND user_id IS NOT NULL AND item_id IS NOT NULL AND time_ms IS NOT NULL
        GROUP BY ALL ORDER BY user_id, time_ms, item_id
    """)


def load_happened(connection: duckdb.DuckDBPyConnection, system: System, folder: Path) -> None:
    """Make what features of counters are computed from, of every event and not only evidence.

    Args:
        connection: With the tables `items` and `users`.
        system: One that counts; what is made of it says `counted.make_happened`.
        folder: With the lake's events.
    """
    counting = require_attributes(connection, system)
    make_happened(connection, counting, events=f"({_once(connection, system, folder)})")


def require_attributes(connection: duckdb.DuckDBPyConnection, system: System) -> Counting:
    """Give the tables `items` and `users` what counting may ask of them; returns what the system counts."""
    if system.counting is None:
        raise BadInputError(f"{system.spec.name} counts nothing: it has no features of counters")
    for table, attributes in system.counting.attributes.items():
        contract = system.tables.get(table)
        fields = contract.model_fields if contract is not None else {}
        names = [name.removesuffix("_at") + "_ms" if name.endswith("_at") else name for name in fields]
        kinds = {"tags": "VARCHAR[]", "duration_s": "DOUBLE"}
        columns = [(n, kinds.get(n, "BIGINT" if n.endswith("_ms") else "VARCHAR")) for n in names]
        require_columns(connection, table, columns if attributes else ())
    return system.counting


def load_once(connection: duckdb.DuckDBPyConnection, system: System, folder: Path, expressions: Iterable[str]) -> None:
    """Make `once`: every event once, in the order of users, with what some expressions name of it.

    Columns that no row fills are there, too: `user_id`, `item_id`, `event_id`, `time_ms`, `request_id`, `position`.
    """
    query = _once(connection, system, folder)
    present = [row[0] for row in connection.execute(f"DESCRIBE {query}").fetchall()]
    text = " ".join(expressions)
    always = ["event_id", "user_id", "item_id", "time_ms", "request_id", "position"]
    named = [name for name in present if name in always or re.search(rf"\b{re.escape(name)}\b", text)]
    absent = "".join(f", NULL AS {name}" for name in always if name not in present)
    columns = ", ".join(quoted(name) for name in named)
    connection.execute(f"CREATE TABLE once AS SELECT {columns}{absent} FROM ({query}) ORDER BY user_id")


def any_event(connection: duckdb.DuckDBPyConnection, system: System, folder: Path, condition: str) -> bool:
    """Return whether any row of the events meets a condition."""
    rows = _rows(connection, system, folder)
    return connection.execute(f"SELECT 1 FROM ({rows}) WHERE {condition} LIMIT 1").fetchone() is not None


def _once(connection: duckdb.DuckDBPyConnection, system: System, folder: Path) -> str:
    """The query of every event once, the first by file and row, with `time_ms` and all columns of the contract."""
    rows = _rows(connection, system, folder)
    return f"{rows} QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY lake_file, file_row_number) = 1"


def _rows(connection: duckdb.DuckDBPyConnection, system: System, folder: Path) -> str:
    """The query of the rows of the lake's events, as often as they came; of none where there is no file."""
    if not any(folder.glob("*.parquet")):
        columns = ", ".join(
            f"NULL::{_SQL_TYPES[kind]} AS {quoted(name)}" for name, kind in kinds(system.tables["events"]).items()
        )
        places = "NULL::BIGINT AS time_ms, NULL::VARCHAR AS lake_file, NULL::BIGINT AS file_row_number"
        return f"SELECT {columns}, {places} FROM (SELECT 1) WHERE false"
    files = str(folder / "*.parquet")
    types = _column_types(connection, files)
    missing = [column for column in _REQUIRED if column not in types]
    if missing:
        raise BadInputError(f"the lake's events have no column {', '.join(missing)}; load them again through the ETL")
    # A column of the contract that no row ever filled may be absent from the files.
    absent = "".join(f", NULL AS {quoted(c)}" for c in system.tables["events"].model_fields if c not in types)
    return f"""
        SELECT * REPLACE (user_id::VARCHAR AS user_id, item_id::VARCHAR AS item_id){absent},
            {_milliseconds("time", types["time"])} AS time_ms
        FROM read_parquet(
            '{files}', union_by_name = true, hive_partitioning = false,
            filename = 'lake_file', file_row_number = true)
    """


def load_entities(connection: duckdb.DuckDBPyConnection, table: str, key: str, folder: Path) -> None:
    """Make `items` or `users`: the latest row of each id, times as epoch milliseconds in `..._ms` columns.

    Ids that only events name are there too, with nothing else known, so that every interaction finds its entities.
    """
    rows = "SELECT NULL::VARCHAR AS id WHERE false"
    if any(folder.glob("*.parquet")):
        files = str(folder / "*.parquet")
        types = _column_types(connection, files)
        if key not in types:
            raise BadInputError(f"the lake's {table} have no column {key}; load them again through the ETL")
        # A row's own word on how new it is counts more than when its file came.
        latest = "updated_at DESC NULLS LAST, " if "updated_at" in types else ""
        columns = "".join(", " + _entity_column(name, kind) for name, kind in types.items() if name != key)
        rows = (
            f"SELECT {key}::VARCHAR AS id{columns} FROM read_parquet('{files}', union_by_name = true,"
            " filename = 'lake_file', file_row_number = true, hive_partitioning = false)"
            f" WHERE {key} IS NOT NULL QUALIFY row_number() OVER"
            f" (PARTITION BY {key} ORDER BY {latest}lake_file DESC, file_row_number DESC) = 1"
        )
    connection.execute(f"""
        CREATE TABLE {table} AS
        WITH known AS ({rows}), named AS (SELECT DISTINCT {key} AS id FROM events)
        SELECT coalesce(known.id, named.id) AS {key}, known.* EXCLUDE (id)
        FROM known FULL JOIN named ON known.id = named.id ORDER BY 1
    """)


def load_table(connection: duckdb.DuckDBPyConnection, table: str, contract: type[Contract], folder: Path) -> None:
    """Make a table of a raw table's rows, each once as `identity` knows it, with every column of its contract.

    Times are epoch milliseconds in `..._ms` columns, objects JSON text. Of rows with the same identity the first by
    file and row counts where they have a time of their own, otherwise the latest.

    Raises BadInputError where the lake's rows lack a column that they are known by.
    """
    wanted = {(_ms(name) if kind == "time" else name): _SQL_TYPES[kind] for name, kind in kinds(contract).items()}
    if not any(folder.glob("*.parquet")):
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in wanted.items())
        connection.execute(f"CREATE TABLE {quoted(table)} ({columns})")
        return
    files = str(folder / "*.parquet")
    types = _column_types(connection, files)
    key = identity(contract)
    missing = [name for name in key if name not in types]
    if missing:
        raise BadInputError(f"the lake's {table} have no column {missing[0]}; load them again through the ETL")
    found = {_ms(name) if kind.startswith("TIMESTAMP") else name: (name, kind) for name, kind in types.items()}
    columns = ", ".join(
        (_entity_column(*found[name]) if name in found else f"NULL::{kind} AS {quoted(name)}")
        for name, kind in wanted.items()
    )
    rows = (
        f"FROM read_parquet('{files}', union_by_name = true, hive_partitioning = false,"
        " filename = 'lake_file', file_row_number = true)"
    )
    if not key:
        connection.execute(f"CREATE TABLE {quoted(table)} AS SELECT DISTINCT {columns} {rows} ORDER BY ALL")
        return
    latest = "updated_at DESC NULLS LAST, " if "updated_at" in types else ""
    place = "lake_file, file_row_number" if dated(contract) else f"{latest}lake_file DESC, file_row_number DESC"
    names = ", ".join(map(quoted, key))
    connection.execute(
        f"CREATE TABLE {quoted(table)} AS SELECT {columns} {rows}"
        f" QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY {place}) = 1"
    )


def require_columns(connection: duckdb.DuckDBPyConnection, table: str, columns: Iterable[tuple[str, str]]) -> None:
    """Give a table the columns it lacks, empty."""
    present = {row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()}
    for name, kind in columns:
        if name not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")


def _column_types(connection: duckdb.DuckDBPyConnection, files: str) -> dict[str, str]:
    query = f"DESCRIBE SELECT * FROM read_parquet('{files}', union_by_name = true, hive_partitioning = false)"
    return {row[0]: str(row[1]) for row in connection.execute(query).fetchall()}


def _entity_column(name: str, kind: str) -> str:
    """The expression of one column of an entity; `published_at` becomes `published_ms`."""
    column = quoted(name)
    if kind.startswith("TIMESTAMP") or (name.endswith("_at") and kind == "BIGINT"):
        return f"{_milliseconds(column, kind)} AS {quoted(_ms(name))}"
    return column


def _ms(name: str) -> str:
    """Return the column that holds a time in epoch milliseconds: `time_ms`, and `created_ms` of `created_at`."""
    return name.removesuffix("_at") + "_ms"


def _milliseconds(column: str, kind: str) -> str:
    return f"epoch_ms({column})" if kind.startswith("TIMESTAMP") else f"{column}::BIGINT"


def quoted(name: str) -> str:
    """Return a column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
