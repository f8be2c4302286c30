"""`simulated`, `simulated_few`: ads of the simulator, whose true probabilities are known.

As the truth is known, so is the best possible score. The last tenth is tested. Of 1,000 people and 200 ads, one showing
in fifty clicked, nobody can know the tastes (`floor`); `simulated_few` is the same with 50 people and 50 ads, one
showing in ten clicked, and tastes that hardly turn in these 28 days.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
from benchmarks import clicks
from benchmarks.ads.models import Tested, fitted, told
from benchmarks.ads.scores import judged

from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import AdsSettings, WorldSettings
from twinloop.systems.ads.system import SYSTEM
from twinloop.training.clicks import open_clicks


def on_simulated(
    work: Path,
    rungs: tuple[str, ...],
    simulated: int,
    *,
    users: int = 1000,
    items: int = 200,
    click_rate: float = 0.02,
    taste_turn_days: float = WorldSettings.taste_turn_days,
    seed: int = 0,
) -> dict[str, Any]:
    """The last tenth of simulated showings, every rung against the true probabilities."""
    world = WorldSettings(users=users, items=items, days=28, seed=seed, taste_turn_days=taste_turn_days)
    # Showings and clicks are events.
    settings = AdsSettings(events=int(simulated * (1 + click_rate)), click_rate=click_rate)
    raw = simulated_ads(work, world, settings)
    made = clicks.snapshot(work / "made", raw, SYSTEM)
    rows, table = told(made, "test")
    truth = raw.sql(f"""
        SELECT user_id, item_id, epoch_ms(time::TIMESTAMP) AS time_ms, 1 - product(1 - p_click::DOUBLE) AS p
        FROM read_parquet('{work}/world/truth.parquet') GROUP BY ALL""").df()  # noqa: S608
    table = table.merge(truth, how="left", on=["user_id", "item_id", "time_ms"], validate="one_to_one")
    test = Tested(rows, table)
    said, seconds = fitted(made, work / "models", rungs, rows)
    said["true probabilities"] = table.p.to_numpy()
    found = judged(test, said, ("slot", "device", "activity"))
    best = found["rows"]["true probabilities"]["ne"]
    for row in found["rows"].values():
        row["ne above the truth's"] = round(row["ne"] / best - 1, 4)
    return {"train": len(open_clicks(made).read("train")), "job_s": seconds} | found


def simulated_ads(work: Path, world: WorldSettings, settings: AdsSettings) -> duckdb.DuckDBPyConnection:
    """Return a database of simulated rows: `events` with their `date`, `items`, `users`; `world/` has the truth."""
    source = work / "world"
    simulate(source, world, settings, kind="parquet")
    raw = duckdb.connect(str(work / "raw.duckdb"))
    raw.execute(f"""
        CREATE TABLE events AS
        SELECT event_id, type, epoch_ms(time::TIMESTAMP) AS time, user_id, item_id, request_id, position, bid,
            to_json(context)::VARCHAR AS context, strftime(time::TIMESTAMP, '%Y%m%d')::INTEGER AS date
        FROM read_parquet('{source}/raw/events/*.parquet');
        CREATE TABLE items AS SELECT item_id, advertiser_id, campaign_id, to_json(attributes)::VARCHAR AS attributes
        FROM read_parquet('{source}/raw/items/*.parquet');
        CREATE TABLE users AS SELECT user_id, json_object('country', country, 'age_group', age_group)::VARCHAR AS extra
        FROM read_parquet('{source}/raw/users/*.parquet')""")  # noqa: S608 - our own folder
    return raw
