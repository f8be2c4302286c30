"""What `sam build` made fits into Lambda."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from deployed import Cloud

from twinloop_local.deploy import build_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LIMIT = 250 * 1024 * 1024


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_every_function_and_its_layers_are_within_250_mb_unzipped(cloud: Cloud) -> None:
    built = build_folder(cloud.settings)
    template: dict[str, Any] = yaml.safe_load((built / "template.yaml").read_text())
    resources = template["Resources"]
    shared = template["Globals"]["Function"]["Layers"]
    functions = {name: r for name, r in resources.items() if r["Type"] == "AWS::Serverless::Function"}
    assert len(functions) >= 7
    sizes = {}
    for name, function in functions.items():
        layers = [layer["Ref"] for layer in shared + function["Properties"].get("Layers", [])]
        folders = [
            function["Properties"]["CodeUri"],
            *(resources[layer]["Properties"]["ContentUri"] for layer in layers),
        ]
        sizes[name] = sum(size(built / folder) for folder in folders)
        assert size(built / folders[0]) > 0
    assert max(sizes.values()) <= LIMIT, {name: f"{found / 2**20:.0f} MB" for name, found in sizes.items()}
