"""Source bundles: the same bytes every time, whole without the rest of the package, and pinned as the locks are."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from twinloop.training.bundle import build_source_bundle, main

ROOT = Path(__file__).parents[3]
JOBS = sorted(path.parent for path in (ROOT / "training_jobs").glob("*/train.py"))
NAMED = pytest.mark.parametrize("job", JOBS, ids=[job.name for job in JOBS])


def names(bundle: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        return archive.getnames()


def test_there_are_jobs() -> None:
    assert {job.name for job in JOBS} >= {"popularity", "ease", "xgboost_trees", "two_tower"}


def test_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    bundles = []
    for place in ("a", "b"):
        job = tmp_path / place / "job"
        (job / "__pycache__").mkdir(parents=True)
        (job / "__pycache__" / "train.pyc").write_text(place)
        for name in ("train.py", "requirements.txt") if place == "a" else ("requirements.txt", "train.py"):
            (job / name).write_text("same")
        bundles.append(build_source_bundle(job))
    assert bundles[0] == bundles[1]
    (tmp_path / "b" / "job" / "train.py").write_text("other")
    assert build_source_bundle(tmp_path / "b" / "job") != bundles[0]


@NAMED
def test_a_job_imports_from_its_bundle_alone(job: Path, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(build_source_bundle(job))) as archive:
        archive.extractall(tmp_path)  # noqa: S202 - our own archive, and filters came with 3.11.4
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import train, twinloop\n"
        "print(twinloop.__file__)\n"
        "strays = [m for m in sys.modules if m.startswith('twinloop.') and not "
        "(sys.modules[m].__file__ or '').startswith(sys.argv[1])]\n"
        "assert not strays, strays\n"
        "heavy = {'boto3', 'botocore', 'duckdb', 'sagemaker'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(tmp_path))


@NAMED
def test_what_a_job_requires_is_pinned_as_in_the_lock(job: Path) -> None:
    locks = "".join((ROOT / "requirements" / name).read_text() for name in ("dev.txt", "encoder.txt"))
    lock = dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", locks, re.MULTILINE))
    lines = (job / "requirements.txt").read_text().splitlines()
    wanted = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert wanted.keys() >= {"onnx", "onnxruntime", "pyarrow", "pydantic"}
    assert {name: lock[name] for name in wanted} == wanted
    # The container's own. A job that needs both frameworks runs in PyTorch's, and brings the smaller one.
    own = {"torch"} if "import torch" in (job / "train.py").read_text() else {"torch", "xgboost", "xgboost-cpu"}
    assert not wanted.keys() & own


def test_every_job_gets_a_bundle(tmp_path: Path) -> None:
    main(ROOT / "training_jobs", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{job.name}.tar.gz" for job in JOBS]
    body = (tmp_path / "out" / "ease.tar.gz").read_bytes()
    assert {"train.py", "requirements.txt", "twinloop/__init__.py", "twinloop/training/job.py"} <= set(names(body))
    assert not [name for name in names(body) if "pycache" in name or "/serving/" in name or "/systems/" in name]
