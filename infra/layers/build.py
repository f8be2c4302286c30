"""Build one Lambda layer: our code, the training jobs' source bundles, or a slim set of locked packages.

Usage: python3.13 build.py LAYER ARTIFACTS_DIR

Package layers are kept under build/layers/ by the hash of their lock file and this script: a second build copies.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "requirements" / "layers"

# In the runtime already, or in the base layer, or never imported by what we use.
LEFT_OUT = {
    "etl": {"boto3", "botocore", "s3transfer", "urllib3", "jmespath", "typing-extensions", "setuptools"},
    "plot": {"numpy", "packaging"},
    "refresh": {"numpy", "protobuf", "typing-extensions"},
}
# Not needed to run: tests, C headers, static libraries, and parts of packages that nothing here calls.
SLIM = (
    "**/tests",
    "**/include",
    "**/*.a",
    "**/*.pyi",
    "**/__pycache__",
    "bin",
    "pyarrow/libarrow_flight*",
    "pyarrow/_flight*",
    "pyarrow/*.pxd",
    "pyarrow/*.pyx",
    "pyarrow/src",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/datasets",
    "matplotlib/mpl-data/sample_data",
    "onnx/backend",
    "onnx/reference",
    "numpy/**/_examples",
)


def main() -> None:
    """Build the layer named on the command line."""
    layer, target = sys.argv[1], Path(sys.argv[2]) / "python"
    target.mkdir(parents=True, exist_ok=True)
    if layer == "code":
        _copy_code(target)
    elif layer == "jobs":
        _bundle_jobs(target)
    else:
        shutil.copytree(_packages(layer), target, dirs_exist_ok=True)


def _copy_code(target: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "shared" / "twinloop", target / "twinloop", ignore=ignore, dirs_exist_ok=True)


def _bundle_jobs(target: Path) -> None:
    """One reproducible source bundle a job, for SageMaker's script mode, as package data that functions can read."""
    out = target / "twinloop_jobs"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "shared")}
    command = [sys.executable, "-m", "twinloop.training.bundle", str(ROOT / "training_jobs"), str(out)]
    subprocess.run(command, check=True, env=environment)
    (out / "__init__.py").write_text('"""Source bundles of the training jobs."""\n')


def _packages(layer: str) -> Path:
    lock = (LOCKS / f"{layer}.txt").read_bytes()
    digest = hashlib.sha256(lock + Path(__file__).read_bytes()).hexdigest()[:16]
    kept = ROOT / "build" / "layers" / f"{layer}-{digest}"
    if kept.is_dir():
        return kept
    partial = kept.with_name(f"{kept.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    wanted = partial.with_suffix(".txt")
    wanted.write_text(_without(lock.decode(), LEFT_OUT.get(layer, set())))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--target", str(partial)]
    # numpy's and pyarrow's wheels carry the newest of these tags, older pure packages any.
    for tag in ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
        command += ["--platform", tag]
    command += ["--python-version", "3.13", "--implementation", "cp", "-r", str(wanted)]
    subprocess.run(command, check=True)
    for pattern in SLIM:
        for path in sorted(partial.glob(pattern), reverse=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    wanted.unlink()
    partial.rename(kept)
    return kept


def _without(lock: str, names: set[str]) -> str:
    """Drop entries of a hashed requirements file; an entry starts at the margin and goes on indented."""
    entries = re.split(r"\n(?=\S)", lock)
    return "\n".join(entry for entry in entries if entry.split("==")[0].strip().lower() not in names) + "\n"


if __name__ == "__main__":
    main()
