"""What the gate is handed of a job, and what it said, as a benchmark's result has it: rounded."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def packed(folder: Path) -> bytes:
    """Return a folder as the archive that a job leaves."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        tar.add(folder, arcname=".")
    return body.getvalue()


def of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a judgement by `log_gain` said: its words, and every rung's log loss, gains and what they must be."""
    rungs = {}
    for entry in record["candidates"]:
        gained = entry["metrics"]["log_gain"]
        row = {"log_loss": -gained["mean"], "log_loss low": -gained["high"], "log_loss high": -gained["low"]}
        # What a rung must gain over the trivial one is told once, with what it costs, where that is the simpler one.
        for gain in (entry["gains"][over] for over in ("baseline", "simpler", "champion") if over in entry["gains"]):
            name = f"better than {gain['rival']} by"
            row |= {name: gain["mean"], f"{name} low": gain["low"], f"{name} high": gain["high"]}
            row[f"{name} at least"] = gain["margin"]
        row |= {"p50_ms": entry["latency_p50_ms"], "p99_ms": entry["latency_p99_ms"], "mb": entry["size_mb"]}
        rungs[entry["rung"]] = rounded(row) | {"standing": entry["standing"]}
    return {
        "judged": max((entry["impressions"] for entry in record["candidates"]), default=0),
        "cases": record["cases"],
        "promoted": record["rung"] if record["promote"] else "nobody",
        "verdict": record["verdict"],
        "rows": rungs,
    }


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return numbers to five places, those within too."""
    return {name: rounded(value) if isinstance(value, dict) else round(float(value), 5) for name, value in row.items()}
