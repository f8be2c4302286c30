"""The steps of `benchmarks/scale.py`, each a process of its own: `python -m benchmarks.scale_steps STEP DIR`.

Objects are files of a folder, so what is measured is the work and not a network. Every step prints what it made as one
line of JSON, its last one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinloop import systems
from twinloop.contracts.artefacts import ReleaseManifest
from twinloop.contracts.history import HistoryEntry, fitting, merge_histories, pack
from twinloop.contracts.tally import Layout, Tally
from twinloop.errors import AlreadyExistsError, ConflictError, NotFoundError
from twinloop.features.stores import Attributes, Entity, Known, settled
from twinloop.ports import StoredObject
from twinloop.registry.registry import Registry

SYSTEM = "video"
SNAPSHOT_MB = 3008 // 2  # what the template gives the function, half of it DuckDB's
RAW, OBJECTS, STORE = "simulated/raw", "objects", "store.sqlite"


class FolderStore:
    """ObjectStore on a folder, for one process at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()

    def read(self, key: str) -> StoredObject:
        """Return the object."""
        try:
            body = (self._root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFoundError(f"no object at {key!r}") from error
        return StoredObject(key, body, _etag(body))

    def write(self, key: str, body: bytes, *, content_type: str = "") -> str:
        """Write or overwrite."""
        del content_type
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return _etag(body)

    def write_new(self, key: str, body: bytes, *, content_type: str = "") -> str:
        """Write where nothing is yet."""
        with self._lock:
            if (self._root / key).exists():
                raise AlreadyExistsError(f"{key!r} is written once and is there already")
            return self.write(key, body, content_type=content_type)

    def replace(self, key: str, body: bytes, *, etag: str, content_type: str = "") -> str:
        """Write where the object is still that one."""
        with self._lock:
            if not (self._root / key).exists() or self.read(key).etag != etag:
                raise ConflictError(f"{key!r} was changed by somebody else; read it again and decide anew")
            return self.write(key, body, content_type=content_type)

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin so, in order."""
        top = self._root / prefix.rpartition("/")[0]
        found = (str(path.relative_to(self._root)) for path in top.rglob("*") if path.is_file())
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        """Delete what may be there."""
        (self._root / key).unlink(missing_ok=True)


class RowStore:
    """The writing half of a FeatureStore: rows of the table as DynamoDB would hold them, in SQLite."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute(
            "CREATE TABLE rows (pk TEXT, sk TEXT, data BLOB, attributes TEXT, PRIMARY KEY (pk, sk))"
        )
        self._connection.execute("BEGIN")
        self._lock = threading.Lock()
        self.bytes = 0

    def merge_many(self, system: str, entries: Mapping[str, Iterable[HistoryEntry]], *, length: int = 0) -> None:
        """Pack and write histories of users of whom nothing was there."""
        for user_id, theirs in entries.items():
            packed = pack(fitting(merge_histories((), theirs, length)))
            self._put(f"{system}#user#{user_id}", "history", packed, None)

    def settle(self, system: str, key: tuple[Entity, str], lake: Tally, attributes: Attributes, layout: Layout) -> None:
        """Pack and write counters and attributes."""
        known = settled(Known(), lake, attributes, layout)
        told = json.dumps(known.attributes, sort_keys=True, separators=(",", ":"))
        self._put(f"{system}#{key[0]}#{key[1]}", "features", known.counters, told)

    def _put(self, pk: str, sk: str, data: bytes, attributes: str | None) -> None:
        with self._lock:
            self._connection.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", (pk, sk, data, attributes))
            self.bytes += len(data) + len(attributes or "")

    def close(self) -> None:
        """Make it last."""
        self._connection.execute("COMMIT")
        self._connection.close()


def etl(work: Path) -> dict[str, Any]:
    """Bring every raw object in, one after the other, as the function does."""
    from twinloop.ingest.process import ingest  # noqa: PLC0415 - the other steps do not pay for it
    from twinloop.ingest.source import RawObject  # noqa: PLC0415

    objects, rows, quarantined = FolderStore(work / OBJECTS), 0, 0
    paths = sorted(path for path in (work / RAW).rglob("*") if path.is_file())
    for path in paths:
        key = f"raw/{SYSTEM}/{path.relative_to(work / RAW)}"
        with path.open("rb") as stream:
            raw = RawObject(key, "1", datetime.now(UTC), path.stat().st_size, stream)
            made = ingest(raw, systems.load(SYSTEM), objects)
        rows, quarantined = rows + sum(made.rows.values()), quarantined + sum(made.quarantined.values())
    lake = sum(path.stat().st_size for path in (work / OBJECTS / "lake").rglob("*") if path.is_file())
    return {"objects": len(paths), "rows": rows, "quarantined": quarantined, "lake_mb": round(lake / 1e6, 1)}


def snapshot(work: Path) -> dict[str, Any]:
    """Make the snapshot with the memory that the function has."""
    from twinloop.features.snapshot import Resources, make_snapshot  # noqa: PLC0415

    objects = FolderStore(work / OBJECTS)
    resources = Resources(memory_mb=SNAPSHOT_MB, threads=1, folder=work)
    manifest = make_snapshot(systems.load(SYSTEM), objects, now=datetime.now(UTC), resources=resources)
    sizes = {entry.path: round(entry.bytes / 1e6, 1) for entry in manifest.files}
    return {"snapshot_id": manifest.snapshot_id, "rows": manifest.rows, "mb": sizes}


def train(work: Path, rung: str) -> dict[str, Any]:
    """Run the rung's job on the snapshot; where it refuses, that is the end of the process."""
    from twinloop.training.local import run  # noqa: PLC0415

    settings = {entry.name: entry.hyperparameters for entry in systems.load(SYSTEM).spec.rungs}[rung]
    job = Path(__file__).resolve().parents[1] / "training_jobs" / rung
    output = work / "models" / rung
    shutil.rmtree(output, ignore_errors=True)
    if code := run(job, _snapshot_folder(work), output, settings):
        raise SystemExit(code)
    archive = work / OBJECTS / "jobs" / f"scale-{rung}" / "output" / "model.tar.gz"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(output, arcname=".")
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    metrics = json.loads((output / "retrieval" / "metrics.json").read_text())
    return {"mb": round(size / 1e6, 1), **{name: round(value, 5) for name, value in metrics.items()}}


def gate(work: Path, rungs: Sequence[str], failed: Mapping[str, str]) -> dict[str, Any]:
    """Judge what was trained, as the function does, and register it."""
    from twinloop.evaluation.messages import JudgeRequest, RungResult  # noqa: PLC0415
    from twinloop.evaluation.run import judge_results  # noqa: PLC0415
    from twinloop.serving.loading import load_models  # noqa: PLC0415

    objects = FolderStore(work / OBJECTS)
    results = [
        RungResult(rung=rung, status="Completed", model_key=f"jobs/scale-{rung}/output/model.tar.gz") for rung in rungs
    ]
    results += [RungResult(rung=rung, status="Failed", reason=why) for rung, why in failed.items()]
    folder = _snapshot_folder(work)
    request = JudgeRequest(system=SYSTEM, snapshot_key=f"snapshots/{SYSTEM}/{folder.name}/", results=tuple(results))
    answer = judge_results(request, objects, systems.load(SYSTEM), load_models)
    record = json.loads(objects.read(answer.report_key.replace(".html", ".json")).body)
    judged = {
        entry["rung"]: {
            **{name: round(interval["mean"], 5) for name, interval in entry["metrics"].items()},
            **{name: round(entry[name], 2) for name in ("latency_p50_ms", "latency_p99_ms", "size_mb")},
            "standing": entry["standing"],
        }
        for entry in record["candidates"]
    }
    return {"cases": record["cases"], "promote": answer.promote, "verdict": answer.verdict, "judged": judged}


def serve_release(work: Path, rung: str) -> dict[str, Any]:
    """Let the release of a rung serve, whatever the gate thought of it: its size is what is measured next."""
    registry, release = _release(work, rung)
    registry.promote(release.version, why="its size is measured", by="benchmark")
    return {"version": release.version}


def serve_beside(work: Path, rung: str, aliases: Sequence[str]) -> dict[str, Any]:
    """Put releases of the same models beside the champion, under these aliases; others point nowhere."""
    registry, release = _release(work, rung)
    for alias in ("challenger", "shadow"):
        if alias not in aliases:
            if (state := registry.alias(alias)) is not None and state.version is not None:
                registry.move_alias(alias, None, why="one less", by="benchmark")
            continue
        draft = registry.draft_release(
            rung=rung, snapshot_id=alias, schema_hash=release.schema_hash, components=release.components
        )
        version = registry.register_release(draft, {"metrics.json": b"{}"})
        registry.move_alias(alias, version, why="its size is measured", by="benchmark")
    return {}


def _release(work: Path, rung: str) -> tuple[Registry, ReleaseManifest]:
    registry = Registry(FolderStore(work / OBJECTS), SYSTEM)
    of_rung = [found for found in map(registry.release, registry.versions()) if found.rung == rung]
    snapshot_id = _snapshot_folder(work).name
    return registry, next(found for found in of_rung if found.snapshot_id == snapshot_id)


def materialise(work: Path) -> dict[str, Any]:
    """Bring histories, counters and attributes of everybody and everything into a store."""
    from twinloop.features.materialise import materialise as into  # noqa: PLC0415
    from twinloop.features.snapshot import Resources  # noqa: PLC0415

    (work / STORE).unlink(missing_ok=True)
    store = RowStore(work / STORE)
    resources = Resources(memory_mb=SNAPSHOT_MB, threads=1, folder=work)
    rows: Any = store  # materialising only writes
    done = into(systems.load(SYSTEM), FolderStore(work / OBJECTS), rows, features=rows, resources=resources)
    store.close()
    return done | {"store_mb": round(store.bytes / 1e6, 1)}


def _snapshot_folder(work: Path) -> Path:
    (manifest,) = (work / OBJECTS / "snapshots" / SYSTEM).glob("*/manifest.json")
    return manifest.parent


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def main() -> None:
    """Run one step and print what it made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "step", choices=["etl", "snapshot", "train", "gate", "serve_release", "serve_beside", "materialise"]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("more", nargs="*", type=json.loads)
    options = parser.parse_args()
    print(json.dumps(globals()[options.step](options.work, *options.more)), flush=True)


if __name__ == "__main__":
    main()
