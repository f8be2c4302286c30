"""The runtime functions run with: a Python with the real Lambda runtime client and boto3, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from twinloop_localstack.lambdas.errors import ExecutorError

VARIABLE = "TWINLOOP_LAMBDA_RUNTIME"
_LOOK = """
import importlib.util, json, sys, sysconfig
missing = [name for name in ("awslambdaric", "boto3") if importlib.util.find_spec(name) is None]
version = "python%d.%d" % sys.version_info[:2]
print(json.dumps([version, sys.base_prefix, sysconfig.get_path("purelib"), missing]))
"""


@dataclass(frozen=True)
class Runtime:
    """Where it is.

    Attributes:
        name: As AWS names it, `python3.13`.
        python: The environment's interpreter.
        base: Folder of the Python that the environment was made from; it has `bin/<name>`.
        packages: Folder with the environment's packages.
    """

    name: str
    python: Path
    base: Path
    packages: Path


def find_runtime(folder: Path) -> Runtime:
    """Look at the environment in a folder.

    Raises:
        ExecutorError: There is none, or it lacks something.
    """
    python = folder / "bin" / "python"
    way_out = f"install it with `make environments`, or name another one by {VARIABLE}"
    if not os.access(python, os.X_OK):
        raise ExecutorError(f"no Lambda runtime at {folder}: {way_out}")
    done = subprocess.run([str(python), "-I", "-c", _LOOK], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ExecutorError(f"the Lambda runtime at {folder} does not run ({done.stderr.strip()}): {way_out}")
    name, base, packages, missing = json.loads(done.stdout)
    if missing:
        raise ExecutorError(f"the Lambda runtime at {folder} lacks {', '.join(missing)}: {way_out}")
    return Runtime(name, python.absolute(), Path(base), Path(packages))
