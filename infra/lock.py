"""Write the lock files anew: `make lock`. Needs uv. Environment and layer locks are for Linux x86_64.

Variables:
    TWINLOOP_WHEELS  a folder or page with a CPU build of PyTorch, so that the resolver sees that one
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "requirements"
# Dependencies of this LocalStack that came out after it break it ("No component plugins found").
LOCALSTACK_RELEASED = "2026-03-05"
COMMON = ["--python-platform", "x86_64-manylinux_2_28", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]


def main() -> None:
    """Resolve every lock from its source."""
    wheels = os.environ.get("TWINLOOP_WHEELS")
    find = ["--find-links", wheels] if wheels else []
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write((LOCKS / "torch.txt").read_text())
        pins.flush()
        # torch has a lock of its own: its CPU build must never be replaced by a CUDA one.
        without_torch = ["--extra", "dev", "--no-emit-package", "torch", "-c", pins.name, *find]
        _compile("3.11", ROOT / "pyproject.toml", LOCKS / "dev.txt", *without_torch)
    _compile("3.13", LOCKS / "ministack.in", LOCKS / "ministack.txt")
    _compile("3.11", LOCKS / "sam.in", LOCKS / "sam.txt")
    _compile("3.13", LOCKS / "localstack.in", LOCKS / "localstack.txt", "--exclude-newer", LOCALSTACK_RELEASED)
    _compile("3.13", LOCKS / "lambda-runtime.in", LOCKS / "lambda-runtime.txt", "--only-binary", ":all:")
    for source in sorted((LOCKS / "layers").glob("*.in")):
        _compile("3.13", source, source.with_suffix(".txt"), "--only-binary", ":all:")


def _compile(python: str, source: Path, lock: Path, *options: str) -> None:
    print(f"{lock.relative_to(ROOT)} ...", flush=True)
    command = ["uv", "pip", "compile", str(source), "-o", str(lock), "--python-version", python, *COMMON, *options]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"uv found no resolution of {source.relative_to(ROOT)}; its message is above")


if __name__ == "__main__":
    main()
