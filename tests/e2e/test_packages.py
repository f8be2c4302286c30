"""What `sam build` made fits into Lambda, and holds all that it imports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployed import Cloud
from imports_alone import ROOT, missing_modules

from twinloop_local.deploy import build_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LIMIT = 250 * 1024 * 1024


@dataclass(frozen=True)
class Package:
    """One function as it is uploaded: its folder, and its layers by name, those of its own last.

    `called` are modules of systems that it has imported when it is called: see `contracts.system.later`.
    """

    code: Path
    layers: Mapping[str, Path]
    own: tuple[str, ...]
    called: tuple[str, ...]


@pytest.fixture(scope="module")
def packages(cloud: Cloud) -> dict[str, Package]:
    built = build_folder(cloud.settings)
    template: dict[str, Any] = yaml.safe_load((built / "template.yaml").read_text())
    resources = template["Resources"]
    shared = [layer["Ref"] for layer in template["Globals"]["Function"]["Layers"]]
    made = {}
    for name, function in resources.items():
        if function["Type"] == "AWS::Serverless::Function":
            own = tuple(layer["Ref"] for layer in function["Properties"].get("Layers", []))
            folders = {layer: built / resources[layer]["Properties"]["ContentUri"] for layer in (*shared, *own)}
            made[name] = Package(built / function["Properties"]["CodeUri"], folders, own, _called(name, function))
    assert len(made) >= 7
    return made


def _called(name: str, function: dict[str, Any]) -> tuple[str, ...]:
    served = function["Properties"].get("Environment", {}).get("Variables", {}).get("TWINLOOP_SYSTEM")
    if served:
        return (f"twinloop.systems.{served}.serve",)
    if name == "RefreshFunction":
        events = function["Properties"]["Events"].values()
        return tuple(f"twinloop.systems.{json.loads(one['Properties']['Input'])['system']}.refresh" for one in events)
    return ()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_every_function_and_its_layers_are_within_250_mb_unzipped(packages: dict[str, Package]) -> None:
    sizes = {name: sum(map(size, (made.code, *made.layers.values()))) for name, made in packages.items()}
    assert all(size(made.code) > 0 for made in packages.values())
    assert max(sizes.values()) <= LIMIT, {name: f"{found / 2**20:.0f} MB" for name, found in sizes.items()}


def test_every_function_finds_all_it_imports_in_its_own_layers(packages: dict[str, Package]) -> None:
    """The local cloud lends functions its own packages; here there are none but those of AWS's runtime."""
    missing = {
        name: missing_modules(made.code, list(made.layers.values()), made.called) for name, made in packages.items()
    }
    assert not any(missing.values()), missing


def test_no_function_carries_a_layer_that_it_does_not_need(packages: dict[str, Package]) -> None:
    for name, made in packages.items():
        for layer in set(made.own) - {"JobsLayer"}:  # which holds no modules but bundles
            rest = [folder for other, folder in made.layers.items() if other != layer]
            assert missing_modules(made.code, rest, made.called), f"{name} has {layer} for nothing"


def test_the_jobs_layer_has_the_source_of_every_job(packages: dict[str, Package]) -> None:
    bundles = packages["TrainFunction"].layers["JobsLayer"] / "python" / "twinloop_jobs"
    jobs = {script.parent.name for script in (ROOT / "training_jobs").glob("*/train.py")}
    assert {path.name.removesuffix(".tar.gz") for path in bundles.glob("*.tar.gz")} == jobs
    assert (bundles / "__init__.py").is_file()
