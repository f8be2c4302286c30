"""`pip install twinloop[cli]` is enough to be told what there is; what needs more says what to install."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from twinloop.commands.screen import EXTRAS

# Only the modules named are importable, beside the standard library: as after an installation of nothing else.
LEAN = """
import json, sys
allowed, arguments = json.loads(sys.argv[1]), sys.argv[2:]
class Lean:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lean())
import importlib.util
whole = importlib.util.find_spec
def find_spec(name, package=None):
    try:
        return whole(name, package)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
sys.argv = ["twinloop", *arguments]
from twinloop.cli import main
main()
"""


def installed_by(extra: str) -> set[str]:
    """Distributions that `twinloop[extra]` brings, by their normal names."""
    seen: set[tuple[str, str]] = set()
    waiting = [("twinloop", extra)]
    while waiting:
        name, wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", name).lower()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for other platforms
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": wanted}):
                waiting += [(need.name, further) for further in ({"", *need.extras})]
    return {name for name, _ in seen}


def modules(extra: str) -> list[str]:
    brought = installed_by(extra)
    found = importlib.metadata.packages_distributions().items()
    names = {top for top, by in found if any(re.sub(r"[-_.]+", "-", name).lower() in brought for name in by)}
    return sorted({*names, "twinloop", "twinloop_local"})  # editable installations list no modules


def twinloop(extra: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LEAN, json.dumps(modules(extra)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"], ["train", "--help"], ["data", "--help"]])
def test_help_needs_nothing_but_the_command_line(arguments: list[str]) -> None:
    done = twinloop("cli", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Usage: twinloop" in done.stdout


def test_definitions_are_listed_with_nothing_but_the_command_line() -> None:
    done = twinloop("cli", "features", "video")
    assert done.returncode == 0, done.stderr
    assert "user_click_rate_7d" in done.stdout


def test_the_local_cloud_names_its_extra() -> None:
    done = twinloop("cli", "status")
    assert done.returncode == 1
    assert done.stderr.strip() == "error this needs psutil: pip install 'twinloop[local]'"
    assert twinloop("local", "status").returncode == 0


@pytest.mark.parametrize("module", sorted(EXTRAS))
def test_the_extra_that_is_named_brings_the_module(module: str) -> None:
    assert module in modules(EXTRAS[module])
    assert module not in modules("cli")
