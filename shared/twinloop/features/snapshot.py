"""A snapshot: an immutable training set, the same bytes and the same id from the same state of the lake."""

# ruff: noqa: S608  statements are put together from our own definitions and contracts; values of data are bound
from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from twinloop.contracts.artefacts import FileEntry, SnapshotManifest
from twinloop.contracts.examples import Examples
from twinloop.contracts.system import System
from twinloop.errors import AlreadyExistsError, BadInputError
from twinloop.features import lake
from twinloop.features.cases import MOST_CASES, cases
from twinloop.features.chunks import user_chunks
from twinloop.features.files import ParquetFile, file_entry, write_json_lines
from twinloop.features.judged import BUNDLE, SHOWN_FILE
from twinloop.features.offline import asof_sql
from twinloop.features.outcomes import impression_schema, impressions, known_features, load_impressions
from twinloop.features.schema import feature_versions, interaction_columns, schema_hash
from twinloop.features.splits import PART_SQL, PARTS, make_boundaries
from twinloop.ports import ObjectStore

_ARROW = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "list<string>": pa.list_(pa.string()),
}
_BATCH_ROWS = 20_000
_CASES = "cases/test.jsonl.gz"


@dataclass(frozen=True)
class Resources:
    """What a snapshot may use of its machine. `folder` None: a temporary one, removed afterwards."""

    memory_mb: int = 2048
    threads: int = 2
    folder: Path | None = None


def snapshot_key(system: str, snapshot_id: str) -> str:
    """Return the prefix of a snapshot's objects, with its final slash."""
    return f"snapshots/{system}/{snapshot_id}/"


def make_snapshot(
    system: System,
    objects: ObjectStore,
    *,
    now: datetime,
    resources: Resources | None = None,
    minimum_cases: int = 10,
) -> SnapshotManifest:
    """Build the snapshot of a system's lake and store it; where it exists already, return it as it was made.

    Raises BadInputError where the lake does not hold enough to train and to judge, with what is missing.
    """
    resources = resources or Resources()
    with tempfile.TemporaryDirectory(prefix="snapshot-", dir=resources.folder) as work:
        folder = Path(work) / "files"
        manifest = build_snapshot(
            system, objects, folder, now=now, work=Path(work), resources=resources, minimum_cases=minimum_cases
        )
        return publish(objects, manifest, folder)


def build_snapshot(
    system: System,
    objects: ObjectStore,
    folder: Path,
    *,
    now: datetime,
    work: Path,
    resources: Resources,
    minimum_cases: int = 10,
) -> SnapshotManifest:
    """Write the snapshot's files and its manifest to a folder, as a training job sees them."""
    if system.examples is not None:
        return _build_of_examples(
            system,
            system.examples,
            objects,
            folder,
            now=now,
            work=work,
            resources=resources,
            minimum_cases=minimum_cases,
        )
    tables = {"events": "event_id", "items": "item_id", "users": "user_id"}
    sources = {table: lake.fetch(objects, system.spec.name, table, work / "lake" / table) for table in tables}
    if not sources["events"]:
        raise BadInputError(
            f"the lake has no events of {system.spec.name!r}; load data first: twinloop load {system.spec.name} PATH"
        )
    with lake.open_database(work / "duckdb", memory_mb=resources.memory_mb, threads=resources.threads) as connection:
        lake.load_events(connection, system, work / "lake" / "events")
        judged = system.outcomes is not None and system.outcomes.judged
        if not judged:
            first, last = _time_range(connection)
            make_boundaries(connection, system.spec.split)
        rows = {}
        for table in ("items", "users"):
            lake.load_entities(connection, table, tables[table], work / "lake" / table)
            rows[f"{table}/{table}.parquet"] = _write_table(connection, table, tables[table], folder)
        shown = _write_impressions(
            connection, system, folder, work / "lake" / "events", now=now, memory_mb=resources.memory_mb
        )
        rows |= shown  # before interactions: parts begin when lists were asked for
        if judged:
            first, last = _time_range(connection, judged=True)
        else:
            rows |= _write_interactions(connection, system, folder)
            rows |= _write_cases(connection, system, folder)
        if shown and (judged or rows[_CASES]) and system.counting is not None and system.outcomes is not None:
            from twinloop.features.judged_shown import write_shown  # noqa: PLC0415 - they use what uses this module
            from twinloop.features.judged_write import write_judged  # noqa: PLC0415

            held_out = folder / "test" / "impressions.parquet"
            rows |= write_shown(connection, system.outcomes, system.counting, folder, held_out)
            if not judged:
                rows |= write_judged(
                    connection, system.counting, folder, folder / _CASES, memory_mb=resources.memory_mb
                )
    (_check_enough_shown if judged else _check_enough)(system, rows, minimum_cases)
    draft = SnapshotManifest(
        **_common(system, now, sources, folder, rows),
        first_event=first,
        last_event=last,
        most_cases=MOST_CASES,
        outcomes=system.outcomes.told() if shown and system.outcomes else None,
        known_features=known_features(system.counting) if shown and system.counting else (),
    )
    return _complete(draft, folder)


def _build_of_examples(
    system: System,
    examples: Examples,
    objects: ObjectStore,
    folder: Path,
    *,
    now: datetime,
    work: Path,
    resources: Resources,
    minimum_cases: int,
) -> SnapshotManifest:
    """The same of a system that learns from labelled examples: nothing of histories, and no events are needed."""
    from twinloop.features.examples import tables_of, write_examples  # noqa: PLC0415 - most systems have none

    tables = tables_of(system, examples)
    sources = {table: lake.fetch(objects, system.spec.name, table, work / "lake" / table) for table in tables}
    with lake.open_database(work / "duckdb", memory_mb=resources.memory_mb, threads=resources.threads) as connection:
        written = write_examples(connection, system, examples, folder, work / "lake")
        rows = dict(written.rows)
        for table, key in (("items", "item_id"), ("users", "user_id")):
            if table in tables:
                rows[f"{table}/{table}.parquet"] = _write_table(connection, table, key, folder, examples=True)
    _check_enough_examples(system, rows, minimum_cases)
    draft = SnapshotManifest(
        **_common(system, now, sources, folder, rows),
        first_event=written.first,
        last_event=written.last,
        most_cases=examples.most_cases,
        example_columns=written.columns,
    )
    return _complete(draft, folder)


def _common(
    system: System, now: datetime, sources: Mapping[str, tuple[FileEntry, ...]], folder: Path, rows: Mapping[str, int]
) -> dict[str, Any]:
    """What the manifests of all snapshots say."""
    return {
        "snapshot_id": "",
        "system": system.spec.name,
        "created_at": now,
        "lake_files": tuple(entry for table in sorted(sources) for entry in sources[table]),
        "files": tuple(file_entry(folder, path, count) for path, count in sorted(rows.items())),
        "rows": {_short(path): count for path, count in sorted(rows.items())},
        "split": system.spec.split.model_dump(),
        "feature_versions": feature_versions(system.features),
        "schema_hash": schema_hash(system.features),
        "features": system.features,
        "history_length": system.spec.history_length,
        "segments": system.spec.segments,
    }


def _complete(draft: SnapshotManifest, folder: Path) -> SnapshotManifest:
    """Write the manifest with its id."""
    manifest = draft.model_copy(update={"snapshot_id": content_id(draft)})
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return manifest


def content_id(manifest: SnapshotManifest) -> str:
    """Return the id that a manifest's content gives it."""
    content = manifest.model_dump_json(exclude={"snapshot_id", "created_at"})
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def publish(objects: ObjectStore, manifest: SnapshotManifest, folder: Path) -> SnapshotManifest:
    """Store a built snapshot, its manifest last; a snapshot that is there already stays as it is and is returned."""
    prefix = snapshot_key(manifest.system, manifest.snapshot_id)
    key = prefix + "manifest.json"
    if key not in objects.keys(key):
        for entry in manifest.files:
            objects.write(prefix + entry.path, (folder / entry.path).read_bytes())
        try:
            objects.write_new(key, (folder / "manifest.json").read_bytes(), content_type="application/json")
            return manifest
        except AlreadyExistsError:
            pass  # somebody else made the same snapshot meanwhile, of the same bytes
    return SnapshotManifest.model_validate_json(objects.read(key).body)


def _time_range(connection: duckdb.DuckDBPyConnection, *, judged: bool = False) -> tuple[datetime, datetime]:
    """When the first and the last event came that say something: of what was shown, where that is what is judged."""
    events = "(SELECT time_ms FROM shown UNION ALL SELECT time_ms FROM said)" if judged else "events"
    row = connection.execute(f"SELECT min(time_ms), max(time_ms) FROM {events}").fetchone()
    if row is None or row[0] is None:
        raise BadInputError(
            "no event of the lake says anything about an item (only impressions?); "
            "load more data: events of users who watched, rated, liked or clicked something"
        )
    return datetime.fromtimestamp(row[0] / 1000, UTC), datetime.fromtimestamp(row[1] / 1000, UTC)


def _write_interactions(connection: duckdb.DuckDBPyConnection, system: System, folder: Path) -> dict[str, int]:
    """Write the three parts' interactions with their features; returns rows by path."""
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in interaction_columns(system.features).items()])
    return _write_parts(_interactions(connection, system), schema, folder, "interactions.parquet")


def _interactions(connection: duckdb.DuckDBPyConnection, system: System) -> Iterator[pa.RecordBatch]:
    """Yield all interactions with their features and their part, in the order of users, times and items."""
    features = asof_sql(system.features, events="chunk", labels="chunk", length=system.spec.history_length)
    lists = sum(feature.length for feature in system.features if feature.kind == "last_n")
    for first, last in user_chunks(connection, list_length=lists):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE chunk AS SELECT events.*, {PART_SQL} AS part"
            " FROM events LEFT JOIN boundaries USING (user_id) WHERE user_id BETWEEN ? AND ?",
            [first, last],
        )
        ordered = connection.sql(f"SELECT * FROM ({features}) ORDER BY user_id, time_ms, item_id")
        yield from ordered.to_arrow_reader(_BATCH_ROWS)


def _write_cases(connection: duckdb.DuckDBPyConnection, system: System, folder: Path) -> dict[str, int]:
    """Write the cases of lists of validation and test; returns rows by path."""
    spec, chunks, rows = system.spec, user_chunks(connection), {}
    for part in PARTS[1:]:
        path = f"cases/{part}.jsonl.gz"
        lines = cases(connection, part, chunks, length=spec.history_length, segments=spec.segments, most=MOST_CASES)
        rows[path] = write_json_lines(folder / path, lines)
    return rows


def _write_impressions(
    connection: duckdb.DuckDBPyConnection, system: System, folder: Path, events: Path, *, now: datetime, memory_mb: int
) -> dict[str, int]:
    """Write the three parts' impressions; returns rows by path, none where nothing was shown."""
    outcomes, counting = system.outcomes, system.counting
    if outcomes is None or counting is None:
        return {}
    if not load_impressions(connection, system, events, now=now):
        if outcomes.judged:
            raise BadInputError(
                f"the lake has no impression of {system.spec.name!r} that was waited for {outcomes.window_minutes:g} "
                "minutes; load more data: events that show items to users, and what came of them"
            )
        return {}
    schema = impression_schema(outcomes, counting)
    return _write_parts(impressions(connection, system, memory_mb=memory_mb), schema, folder, "impressions.parquet")


def _write_parts(batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path, name: str) -> dict[str, int]:
    """Write rows into the file of the part that each says; returns rows by path."""
    with ExitStack() as stack:
        files = {part: stack.enter_context(ParquetFile(folder / part / name, schema)) for part in PARTS}
        for batch in batches:
            for part, file in files.items():
                chosen = batch.filter(pc.equal(batch["part"], part))
                file.write(pa.Table.from_batches([chosen]).select(schema.names))
    return {f"{part}/{name}": file.rows for part, file in files.items()}


def _write_table(
    connection: duckdb.DuckDBPyConnection, table: str, key: str, folder: Path, *, examples: bool = False
) -> int:
    """Write items or users in the order of their ids, the id first, then the other columns by name."""
    if table == "items" and not examples:
        lake.require_columns(
            connection, table, (("title", "VARCHAR"), ("tags", "VARCHAR[]"), ("published_ms", "BIGINT"))
        )
    names = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall() if row[0] != key]
    columns = ", ".join([key, *(lake.quoted(name) for name in sorted(names))])
    ordered = connection.sql(f"SELECT {columns} FROM {table} ORDER BY {key}")
    reader = ordered.to_arrow_reader(_BATCH_ROWS)
    with ParquetFile(folder / table / f"{table}.parquet", reader.schema) as file:
        for batch in reader:
            file.write(pa.Table.from_batches([batch]))
    return file.rows


def _short(path: str) -> str:
    """The name of a file's rows in the manifest: `train`, `items`, `cases/test`, `train/impressions`."""
    folder, _, name = path.partition("/")
    stem = name.partition(".")[0]
    return folder if stem in ("interactions", folder) else f"{folder}/{stem}"


def _check_enough(system: System, rows: dict[str, int], minimum_cases: int) -> None:
    """Refuse a snapshot that nothing could be learnt or judged from."""
    split = system.spec.split
    judged = rows[_CASES]
    if judged < minimum_cases:
        raise BadInputError(
            f"only {judged} users can be judged, at least {minimum_cases} are needed; load more data: "
            f"users with {split.minimum_events} or more positive events, some of them on items new to the user"
        )
    if not rows["train/interactions.parquet"]:
        raise BadInputError("no event is left to train on; load more data: events from before the test's time")


def _check_enough_shown(system: System, rows: dict[str, int], minimum_cases: int) -> None:
    """The same of a system that is judged by impressions, of which `BUNDLE` make a case."""
    judged, needed = rows[SHOWN_FILE], minimum_cases * BUNDLE
    if judged < needed:
        raise BadInputError(
            f"only {judged} impressions can be judged, at least {needed} are needed; load more data: "
            f"the last {system.spec.split.test:.0%} of what was shown are judged"
        )
    if not rows["train/impressions.parquet"]:
        raise BadInputError(
            "no impression is left to train on; load more data: impressions from before the test's time"
        )


def _check_enough_examples(system: System, rows: dict[str, int], minimum_cases: int) -> None:
    """The same of a system that learns from examples, of which a group makes a case."""
    split, judged = system.spec.split, rows[_CASES]
    if judged < minimum_cases:
        raise BadInputError(
            f"only {judged} groups of examples can be judged, at least {minimum_cases} are needed; load more data: "
            f"{split.test:.0%} of all groups are judged"
        )
    if not rows["train/examples.parquet"]:
        raise BadInputError("no example is left to train on; load more data: a group is either learnt from or judged")
