"""`open_bandit`: products of a shop of fashion, shown in three places.

The sample of the Open Bandit Dataset (Saito et al., 2020) that the package `obp` carries. Nobody says who the users
are, so those who have the same four features are one. The last 30 % are tested.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from benchmarks import clicks
from benchmarks.ads.models import Tested, fitted, parted, told
from benchmarks.ads.scores import judged

from twinloop.training.clicks import open_clicks


def on_open_bandit(work: Path, rungs: tuple[str, ...], simulated: int) -> dict[str, Any]:
    """The last 30 % of the showings; of so few clicks, whether as many were said as came, as far as chance tells."""
    del simulated
    package = importlib.util.find_spec("obp")
    if package is None or package.origin is None:
        return {"missing": "the package obp is not installed"}
    source = Path(package.origin).parent / "dataset" / "obd"
    events, items = [], []
    for path in sorted(source.glob("*/*/item_context.csv")):
        campaign = path.parent.name
        items.append(pd.read_csv(path, index_col=0).assign(campaign=campaign))
        shown = pd.read_csv(path.with_name(f"{campaign}.csv"), index_col=0)
        events.append(shown.assign(campaign=campaign, policy=path.parent.parent.name))
    shown, product = pd.concat(events, ignore_index=True), pd.concat(items).drop_duplicates(["campaign", "item_id"])
    features = [f"user_feature_{n}" for n in range(4)]
    moment = pd.to_datetime(shown.timestamp, format="ISO8601", utc=True)
    rows = pd.DataFrame(
        {
            "event_id": [f"o{n}" for n in range(len(shown))],
            "type": "impression",
            "time": moment.astype("datetime64[ms, UTC]").astype(np.int64),
            "user_id": shown[features].agg("-".join, axis=1),
            "item_id": shown.campaign + "-" + shown.item_id.astype(str),
            "position": shown.position.astype(np.int32),
            "clicked": shown.click,
            "context": [
                json.dumps({"slot": slot, "page": page})
                for slot, page in zip(shown.position.tolist(), shown.campaign, strict=True)
            ],
            "date": 0,
        }
    )
    ads = pd.DataFrame(
        {
            "item_id": product.campaign + "-" + product.item_id.astype(str),
            "advertiser_id": product.item_feature_3,
            "campaign_id": product.campaign,
            "attributes": [json.dumps({"category": value}) for value in product.item_feature_1],
        }
    )
    people = shown[features].drop_duplicates()
    users = pd.DataFrame(
        {
            "user_id": people.agg("-".join, axis=1),
            "extra": [
                json.dumps({"country": first, "age_group": second})
                for first, second in zip(people.user_feature_0, people.user_feature_1, strict=True)
            ],
        }
    )
    with duckdb.connect(str(work / "raw.duckdb")) as raw:
        for name, frame in (("events", rows), ("items", ads), ("users", users)):
            raw.register("frame", frame)
            raw.execute(f"CREATE TABLE {name} AS FROM frame")
        made = clicks.snapshot(work / "made", raw, parted(0.2, 0.3))
    test = Tested(*told(made, "test"))
    said, seconds = fitted(made, work / "models", rungs, test.rows)
    return {"train": len(open_clicks(made).read("train")), "job_s": seconds} | judged(test, said, ("page", "slot"))
