"""What a function imports is looked for in its own folder, its layers, and AWS's runtime, and nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from imports_alone import ROOT, RUNTIME, missing_modules

pytestmark = pytest.mark.skipif(not RUNTIME.exists(), reason="AWS's runtime is not installed: make environments")


@pytest.fixture
def function(tmp_path: Path) -> Path:
    folder = tmp_path / "function"
    folder.mkdir()
    return folder


def layer(folder: Path, **modules: str) -> Path:
    """A layer with these modules, `__` for a dot."""
    for name, text in modules.items():
        path = folder / "python" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_what_aws_brings_and_what_a_layer_brings_is_found(function: Path, tmp_path: Path) -> None:
    (function / "handler.py").write_text("import json, boto3, botocore.session, brought\n")
    assert missing_modules(function, [layer(tmp_path / "layer", brought="import math\n")]) == {}


@pytest.mark.parametrize("package", ["pydantic", "numpy", "pytest", "ministack", "twinloop"])
def test_what_only_this_machine_has_is_missing(function: Path, package: str) -> None:
    (function / "handler.py").write_text(f"import {package}\n")
    assert missing_modules(function, []) == {package: "the handler"}


def test_an_import_that_waits_for_a_call_is_looked_at_too(function: Path, tmp_path: Path) -> None:
    (function / "handler.py").write_text("from twinloop.first import go\n")
    first = "def go():\n    from twinloop import second\n    return second\n"
    second = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import duckdb\ndef later():\n    import pyarrow\n"
    )
    ours = layer(tmp_path / "layer", twinloop__first=first, twinloop__second=second)
    assert missing_modules(function, [ours]) == {"pyarrow": "twinloop.second"}


def test_the_code_layer_is_the_package_as_it_is(tmp_path: Path) -> None:
    build = [str(RUNTIME / "bin" / "python"), str(ROOT / "infra" / "layers" / "build.py"), "code", str(tmp_path)]
    subprocess.run(build, check=True)
    source, made = ROOT / "shared" / "twinloop", tmp_path / "python" / "twinloop"

    def modules(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}

    assert modules(made) == modules(source)
