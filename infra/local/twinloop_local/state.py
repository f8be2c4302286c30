"""What a running stack has written down about itself: `.twinloop/<stack>/state.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from twinloop_local.processes import ProcessId

FILE = "state.json"


@dataclass
class StackState:
    """Ports and processes of one stack."""

    port: int
    sagemaker_port: int
    emulator: str = "ministack"
    processes: dict[str, ProcessId] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Replace the file in one step, so that a reader never sees half of it."""
        temporary = folder / f"{FILE}.new"
        temporary.write_text(json.dumps(asdict(self), indent=1))
        os.replace(temporary, folder / FILE)


def read(folder: Path) -> StackState | None:
    """The state in the folder; None where there is none or it is not legible (a crash while it was made)."""
    try:
        raw = json.loads((folder / FILE).read_text())
        return StackState(raw["port"], raw["sagemaker_port"], raw["emulator"], _processes(raw["processes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _processes(raw: Mapping[str, Mapping[str, float]]) -> dict[str, ProcessId]:
    return {name: ProcessId(int(entry["pid"]), float(entry["started"])) for name, entry in raw.items()}
