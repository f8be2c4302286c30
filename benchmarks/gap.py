"""How far from the best possible score: `python -m benchmarks.gap` writes benchmarks/gap.json.

A simulated world knows the true probabilities of its impressions. The release that the real snapshot and the real job
make of its first twelve days is asked about the last two, as `benchmarks.clicks` does on real data, and stands beside
the truth: with the place that each video was shown at, which nobody who ranks can know, and without it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from benchmarks.clicks import chosen_by_the_last_day, ended, fitted, release, snapshot, undivided
from numpy.typing import NDArray

from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import VideoSettings, WorldSettings
from twinloop.evaluation.probability import auc, calibration_ratio, normalised_entropy
from twinloop.evaluation.regression import mae, xauc
from twinloop.systems.video.system import SYSTEM

RESULT = Path(__file__).with_name("gap.json")
WORLD = WorldSettings(users=3_000, items=1_000, days=14)
APPLICATION = VideoSettings(events=400_000)
FIRST_TEST_DAY = 20250113
Floats = NDArray[np.float64]


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    told = json.dumps(measure(), indent=1) + "\n"
    options.output.write_text(told)
    print(told)


def measure() -> dict[str, Any]:
    """Return the scores of the release and of the truth, by target."""
    with tempfile.TemporaryDirectory(prefix="gap-") as work:
        folder = Path(work)
        simulate(folder / "world", WORLD, APPLICATION, kind="parquet")
        raw = tables(folder)
        made = chosen_by_the_last_day(raw, SYSTEM, until=FIRST_TEST_DAY)
        earlier = snapshot(folder / "earlier", raw, made, until=FIRST_TEST_DAY)
        every = snapshot(folder / "every", raw, undivided(made))
        model = fitted(earlier, folder / "model")
        test = impressions(every, folder / "world" / "truth.parquet")
        moments = [{"device": device} for device in test.device]
        return {"command": "python -m benchmarks.gap", "systems": ["video"], "test": len(test)} | compare(
            test, release(model, earlier, every, test, moments)
        )


def tables(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a database of the world's raw rows, as the lake has them: `events` with their `date`, `items`, `users`."""
    raw, world = duckdb.connect(str(folder / "raw.duckdb")), folder / "world" / "raw"
    raw.execute("SET TimeZone = 'UTC'")
    raw.execute(f"""
        CREATE TABLE events AS
        SELECT * REPLACE (epoch_ms(time) AS time, to_json(context)::VARCHAR AS context), NULL::DOUBLE AS rating,
            strftime(time, '%Y%m%d')::INTEGER AS date
        FROM read_parquet('{world}/events/*.parquet')""")  # noqa: S608 - our own folder
    for table in ("items", "users"):
        raw.execute(f"CREATE TABLE {table} AS FROM read_parquet('{world}/{table}/*.parquet')")
    ended(raw)
    return raw


def impressions(every: Path, truth: Path) -> pd.DataFrame:
    """Return the last days' impressions with their features as of their moment, and the truth of each."""
    return duckdb.execute(f"""
        SELECT shown.*, json_extract_string(shown.context_device, '$') AS device, truth.* EXCLUDE (user_id, item_id)
        FROM read_parquet('{every}/*/impressions.parquet') AS shown
        JOIN (
            SELECT user_id, item_id, epoch_ms(time) AS moment, clicked, long_view, watch_s, p_seen, p_click,
                p_long_view, expected_watch_s
            FROM read_parquet('{truth}') WHERE strftime(time AT TIME ZONE 'UTC', '%Y%m%d')::INTEGER >= {FIRST_TEST_DAY}
        ) AS truth ON truth.user_id = shown.user_id AND truth.item_id = shown.item_id AND truth.moment = shown.time_ms
        ORDER BY shown.user_id, shown.time_ms, shown.item_id""").df()  # noqa: S608


def compare(test: pd.DataFrame, said: dict[str, Floats]) -> dict[str, Any]:
    """Return metrics by target: of the release, of the truth, and of the truth at a usual place."""
    seen = test.p_seen.to_numpy(np.float64)
    found: dict[str, Any] = {}
    for target, outcome, chance in (("click", "clicked", "p_click"), ("long view", "long_view", "p_long_view")):
        outcomes, true = test[outcome].to_numpy(np.float64), test[chance].to_numpy(np.float64)
        rows = {"release": said[target], "true, at a usual place": true / seen * seen.mean(), "true": true}
        found[target] = {
            name: _rounded(
                auc=auc(outcomes, row),
                ne=normalised_entropy(outcomes, row),
                calibration=calibration_ratio(outcomes, row),
            )
            for name, row in rows.items()
        }
    seconds, true = test.watch_s.to_numpy(np.float64), test.expected_watch_s.to_numpy(np.float64)
    rows = {"release": said["seconds"], "true, at a usual place": true / seen * seen.mean(), "true": true}
    found["seconds of watching"] = {
        name: _rounded(mae=mae(seconds, row), xauc=xauc(seconds, row)) for name, row in rows.items()
    }
    return found


def _rounded(**values: float) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}


if __name__ == "__main__":
    main()
