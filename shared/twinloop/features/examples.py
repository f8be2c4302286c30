"""Labelled examples out of the lake: the system's query over its raw tables, in parts that divide no group."""

# Tables whose names begin with _ are ours: no raw table's does.
# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from twinloop.contracts.artefacts import Case
from twinloop.contracts.examples import FILE, KEYS, SLICES, Examples
from twinloop.contracts.spec import Split
from twinloop.contracts.system import System
from twinloop.errors import BadInputError, IntegrityError
from twinloop.features import lake
from twinloop.features.files import ParquetFile, write_json_lines
from twinloop.features.splits import PARTS

CASES_FILE = "cases/test.jsonl.gz"
_BATCH_ROWS = 2_000  # texts may be long
_KEY_TYPES = ("VARCHAR", "VARCHAR", "BIGINT")
_HASH_DIGITS = 16  # of SHA-256, hexadecimal: as many as decide in which part a group is


@dataclass(frozen=True)
class Written:
    """What was written: rows by path, the columns of examples as `name:type`, and the times of the first and last."""

    rows: dict[str, int]
    columns: tuple[str, ...]
    first: datetime
    last: datetime


def tables_of(system: System, examples: Examples) -> tuple[str, ...]:
    """Return the raw tables that a system's examples are made of."""
    return tuple(table for table in ("items", "users", "events", *examples.tables) if table in system.tables)


def write_examples(
    connection: duckdb.DuckDBPyConnection, system: System, examples: Examples, folder: Path, raw: Path
) -> Written:
    """Write the parts' examples and the cases of test; afterwards the raw tables are in the database.

    Args:
        connection: An empty database.
        system: Whose.
        examples: Its.
        folder: Of the snapshot.
        raw: A folder of the lake's files for each of `tables_of`.

    Raises:
        BadInputError: There are no examples, or the rows of the lake do not suit the query.
        IntegrityError: The query does not return what `Examples` asks for, or a case is not one.
    """
    for table in tables_of(system, examples):
        lake.load_table(connection, table, system.tables[table], raw / table)
    names = _run(connection, system, examples)
    first, last = _check(connection, system, examples)
    _make_parts(connection, system.spec.split)
    schema = _schema(connection, names)
    if examples.slices is not None:
        schema = schema.append(pa.field(SLICES, pa.list_(pa.string())))
    rows = _write_parts(connection, names, schema, folder, examples)
    rows[CASES_FILE] = write_json_lines(folder / CASES_FILE, _cases(connection, examples, names))
    columns = tuple(f"{field.name}:{_told(field.type)}" for field in schema)
    return Written(rows, columns, _moment(first), _moment(last))


def _run(connection: duckdb.DuckDBPyConnection, system: System, examples: Examples) -> list[str]:
    """Make the table `_examples` of what the query returns; returns its columns, those of `KEYS` first."""
    name = system.spec.name
    try:
        connection.execute(f"CREATE TABLE _examples AS {examples.sql}")
    except duckdb.ConversionException as error:
        raise BadInputError(f"the lake of {name} holds values that its examples cannot be made of: {error}") from error
    except duckdb.Error as error:
        raise IntegrityError(f"the query of {name}'s examples does not run: {error}") from error
    kinds = {row[0]: row[1] for row in connection.execute("DESCRIBE _examples").fetchall()}
    for key, expected in zip(KEYS, _KEY_TYPES, strict=True):
        if kinds.get(key) != expected:
            raise IntegrityError(f"{name}'s query of examples must return {key} as {expected}, not {kinds.get(key)}")
    if examples.slices is not None and SLICES in kinds:
        raise IntegrityError(f"{name}'s query of examples returns {SLICES}, which `Examples.slices` is to tell")
    return [*KEYS, *(column for column in kinds if column not in KEYS)]


def _check(connection: duckdb.DuckDBPyConnection, system: System, examples: Examples) -> tuple[int, int]:
    """Return the times of the first and the last example; raises where there is none, or an id is not one."""
    row = connection.execute(
        "SELECT count(*), count(DISTINCT example_id), min(time_ms), max(time_ms),"
        " count(*) FILTER (WHERE example_id IS NULL OR group_id IS NULL OR time_ms IS NULL) FROM _examples"
    ).fetchone()
    count, distinct, first, last, empty = row or (0, 0, None, None, 0)
    name = system.spec.name
    if not count:
        tables = ", ".join(tables_of(system, examples))
        raise BadInputError(
            f"the lake holds nothing that {name} can learn from: its examples are made of {tables}; "
            f"load more data: twinloop load {name} PATH"
        )
    if empty:
        raise IntegrityError(f"{name}'s query of examples returns {empty} rows without one of {', '.join(KEYS)}")
    if distinct < count:
        raise IntegrityError(f"{name}'s query of examples returns {count} rows with only {distinct} example_id")
    return first, last


def _make_parts(connection: duckdb.DuckDBPyConnection, split: Split) -> None:
    """Make `_parts(group_id, hash, part)`: in which part each group is, as `Split` has it."""
    # Rounded, because 1 - .2 - .1 is a hair above .7 and floor must not see the hair.
    keep_train, keep_both = round(1 - split.test - split.validation, 9), round(1 - split.test, 9)
    if split.strategy == "by_group":
        # The smallest hashes are test's. Cases, too, are those with the smallest: of test, they are a sample like any.
        part = "CASE WHEN hash[:$digits] < $test THEN 'test' WHEN hash[:$digits] < $both THEN 'validation' ELSE 'train'"
        values: dict[str, Any] = {
            "digits": _HASH_DIGITS,
            "test": _hexadecimal(split.test),
            "both": _hexadecimal(1 - keep_train),
        }
    else:
        # Groups of one moment in the order of their hash: it must not be the ids' order that decides.
        part = (
            "CASE WHEN place > floor(total * $both::DOUBLE) THEN 'test'"
            " WHEN place > floor(total * $train::DOUBLE) THEN 'validation' ELSE 'train'"
        )
        values = {"train": keep_train, "both": keep_both}
    connection.execute(
        f"""
        CREATE TABLE _parts AS
        WITH groups AS (SELECT group_id, sha256(group_id) AS hash, min(time_ms) AS first FROM _examples GROUP BY ALL),
        placed AS (
            SELECT *, row_number() OVER (ORDER BY first, hash) AS place, count(*) OVER () AS total FROM groups
        )
        SELECT group_id, hash, {part} END AS part FROM placed
        """,
        values,
    )


def _hexadecimal(share: float) -> str:
    """Return the first digits of a hash that this share of all hashes is below."""
    return f"{int(share * 16**_HASH_DIGITS):0{_HASH_DIGITS}x}"


def _write_parts(
    connection: duckdb.DuckDBPyConnection, names: list[str], schema: pa.Schema, folder: Path, examples: Examples
) -> dict[str, int]:
    columns, rows = ", ".join(f"examples.{lake.quoted(name)}" for name in names), {}
    with ExitStack() as stack:
        for part in PARTS:
            file = stack.enter_context(ParquetFile(folder / part / FILE, schema))
            ordered = connection.sql(
                f"SELECT {columns} FROM _examples AS examples JOIN _parts USING (group_id) WHERE part = '{part}'"
                " ORDER BY group_id, example_id"
            )
            for batch in ordered.to_arrow_reader(_BATCH_ROWS):
                made = pa.Table.from_batches([batch])
                if examples.slices is not None:
                    told = [sorted(set(examples.slices(row))) for row in made.to_pylist()]
                    made = made.append_column(schema.field(SLICES), pa.array(told, schema.field(SLICES).type))
                file.write(made)
            rows[f"{part}/{FILE}"] = file.rows
    return rows


def _schema(connection: duckdb.DuckDBPyConnection, names: list[str]) -> pa.Schema:
    columns = ", ".join(lake.quoted(name) for name in names)
    schema: pa.Schema = connection.sql(f"SELECT {columns} FROM _examples LIMIT 0").to_arrow_table().schema
    for field in schema:
        _told(field.type)
    return schema.remove_metadata()


def _told(kind: pa.DataType) -> str:
    """Return the name of a column's type: `string`, `double`, `list<int64>`; raises IntegrityError for others."""
    if pa.types.is_list(kind):
        return f"list<{_told(kind.value_type)}>"
    plain = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if not any(test(kind) for test in plain):
        raise IntegrityError(f"examples hold text, numbers, truth values and lists of them; cast what is {kind}")
    return str(kind)


def _cases(connection: duckdb.DuckDBPyConnection, examples: Examples, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the cases of test, those of the groups with the smallest hashes first."""
    made: set[str] = set()
    for group_id, rows in groupby(_test_rows(connection, names), key=itemgetter("group_id")):
        if len(made) == examples.most_cases:
            return
        case = examples.case(tuple(rows))
        if case is None:
            continue
        if not isinstance(case, Case) or case.case_id in made:
            raise IntegrityError(f"what was made of group {group_id!r} is no case, or has another one's case_id")
        made.add(case.case_id)
        yield case.model_dump(mode="json")


def _test_rows(connection: duckdb.DuckDBPyConnection, names: list[str]) -> Iterator[Mapping[str, Any]]:
    columns = ", ".join(f"examples.{lake.quoted(name)}" for name in names)
    ordered = connection.sql(
        f"SELECT {columns} FROM _examples AS examples JOIN _parts USING (group_id) WHERE part = 'test'"
        " ORDER BY hash, group_id, example_id"
    )
    for batch in ordered.to_arrow_reader(_BATCH_ROWS):
        yield from batch.to_pylist()


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
