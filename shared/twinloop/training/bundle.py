"""A job's source bundle for SageMaker's script mode: train.py, what it requires, and this package.

`python -m twinloop.training.bundle training_jobs OUT` writes OUT/<rung>.tar.gz for every job. Standard library alone,
and the same sources always give the same bytes, so that a bundle can be named by its hash.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# What a job imports; the rest of the package belongs to functions and the command line.
_ROOMS = ("contracts", "evaluation", "text", "training")
_MODULES = ("__init__.py", "errors.py", "features/__init__.py", "features/hashing.py", "features/schema.py", "py.typed")
# What a job takes besides that learns from a system's own columns: the code by which serving makes them, too.
_OF_SYSTEMS = ("features", "systems")


def build_source_bundle(job: Path) -> bytes:
    """Return sourcedir.tar.gz of one folder of training_jobs/."""
    files = {path.relative_to(job): path for path in job.rglob("*") if path.is_file()}
    own = any(b"twinloop.systems" in path.read_bytes() for path in job.rglob("*.py"))
    for room in (*_ROOMS, *(_OF_SYSTEMS if own else ())):
        files |= {Path("twinloop") / path.relative_to(_PACKAGE): path for path in (_PACKAGE / room).rglob("*.py")}
    files |= {Path("twinloop") / name: _PACKAGE / name for name in _MODULES}
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(files):
            if "__pycache__" in name.parts:
                continue
            body = files[name].read_bytes()
            entry = tarfile.TarInfo(name.as_posix())
            entry.size, entry.mode, entry.mtime = len(body), 0o644, 0
            archive.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


def main(jobs: Path, out: Path) -> None:
    """Write a bundle for every job."""
    out.mkdir(parents=True, exist_ok=True)
    for script in sorted(jobs.glob("*/train.py")):
        (out / f"{script.parent.name}.tar.gz").write_bytes(build_source_bundle(script.parent))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
