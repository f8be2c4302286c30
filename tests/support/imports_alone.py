"""Whether a function's folder and its layers hold all that it imports, beside what AWS's runtime brings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python 3.13, and beside it exactly the packages of AWS's runtime.
RUNTIME = ROOT / ".envs" / "lambda-runtime"

# Imports the handler and what it has imported by name when it is called; then every import of every module of ours that
# is loaded by then, those within functions too.
_PROBE = """
import ast, importlib, json, sys
sys.path[:0] = json.loads(sys.argv[1])
missing, seen = {}, set()

def load(name, asker):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing.setdefault(error.name, asker)

def wanted(tree):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module != "__future__":
            yield node.module, [alias.name for alias in node.names]
        yield from wanted(node)

load("handler", "the handler")
for called in json.loads(sys.argv[2]):
    load(called, "the handler")
while todo := {name for name in sys.modules if name.split(".")[0] in ("handler", "twinloop")} - seen:
    for name in sorted(todo):
        seen.add(name)
        path = getattr(sys.modules[name], "__file__", None)
        if not path:
            continue
        for module, names in wanted(ast.parse(open(path, encoding="utf-8").read())):
            found = load(module, name)
            for part in names:
                if found and not hasattr(found, part):
                    load(f"{module}.{part}", name)
print("\\n" + json.dumps(missing))
"""


def missing_modules(function: Path, layers: Sequence[Path], called: Sequence[str] = ()) -> dict[str, str]:
    """Return the modules that cannot be imported, each with the first of our modules that asks for it.

    `called` are modules that the handler has imported by their names when it is called.

    The function's folder comes first, then its layers, then the runtime's packages, as on AWS; nothing else is there.
    """
    [packages] = (RUNTIME / "lib").glob("python3.13/site-packages")
    path = [str(function), *(str(layer / "python") for layer in layers), str(packages)]
    command = [str(RUNTIME / "bin" / "python"), "-I", "-S", "-B", "-c", _PROBE, json.dumps(path), json.dumps(called)]
    environment = {"AWS_DEFAULT_REGION": "us-east-1", "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": "/tmp/matplotlib"}  # noqa: S108
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found
