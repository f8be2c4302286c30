"""`kuairand`: clicks of the last two days, every rung against simple models beside it.

Videos of KuaiRand-Pure are ads, their authors as advertisers, their first tag as campaign and as category, the tab of
the app as the page. Trained on 25-28 April 2022, tested on 29-30 April. Nothing of what users watched before is told:
nobody says what they were shown. Rows beside it are those of `benchmarks/clicks.py`, which see the same counters and
ids; only those "with tab" are told the page, too, and so are the ones to be held against. The best rung once more,
"calibrated live": at the beginning of every hour of the test days `monitoring` fits offsets to what the rung said of
showings of these days whose hour of waiting is over, and they hold for that hour. In the first two there are none, as
after every promotion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
from benchmarks import clicks
from benchmarks.ads.live import calibrated_live
from benchmarks.ads.models import Row, Tested, fitted, parted, told
from benchmarks.ads.scores import LIVE, judged
from benchmarks.clicks import FIRST_TEST_DAY, Floats

from twinloop.evaluation.probability import log_loss
from twinloop.systems.ads.features import LIVE as LIVE_SETTINGS
from twinloop.training.clicks import open_clicks

LABEL = {"click": "is_click"}


class Days(NamedTuple):
    """Showings of KuaiRand before some days and of these, and what rungs trained on the former say of the latter."""

    train: pd.DataFrame
    test: Tested
    said: dict[str, Floats]
    seconds: Row
    snapshot: Path


def on_kuairand(work: Path, rungs: tuple[str, ...], simulated: int) -> dict[str, Any]:
    """Clicks of the last two days, every rung against the rows beside it."""
    del simulated
    if not clicks.KUAIRAND.exists():
        return {"missing": clicks.MISSING}
    days = on_days(work, rungs, FIRST_TEST_DAY)
    train, test, said = days.train, days.test, days.said
    clicked = test.rows.clicked.astype(np.float64)
    best = min(said, key=lambda name: log_loss(clicked, said[name]))
    said[f"{best}{LIVE}"] = calibrated_live(test, said[best], LIVE_SETTINGS)
    names = [feature.name for feature in open_clicks(days.snapshot).features]
    said |= {name: row["click"] for name, row in clicks.chances_beside(train, test.table, names, LABEL).items()}
    return {"train": len(train), "job_s": days.seconds} | judged(test, said, ("page", "activity"))


def on_days(work: Path, rungs: tuple[str, ...], first: int, until: int = 20220501) -> Days:
    """Train on the days of KuaiRand before `first`, and ask about those from then on and before `until`."""
    raw = videos_as_ads(work)
    shown = raw.sql(f"SELECT date FROM events WHERE type = 'impression' AND date < {first}").df()  # noqa: S608
    last_day = float((shown.date == shown.date.max()).mean())
    earlier = clicks.snapshot(work / "earlier", raw, parted(last_day, 1e-4), until=first)
    # A click is at the moment of its showing here. A short window leaves no showing out between parts, all being asked.
    every = clicks.snapshot(work / "every", raw, parted(1e-4, 1e-4, window_minutes=0.01))
    rows, table = told(every, "train", "validation", "test")
    dated = raw.sql("SELECT user_id, item_id, epoch_ms(make_timestamp(time * 1000)) AS time_ms, min(date) AS date "
                    "FROM events WHERE type = 'impression' GROUP BY ALL").df()  # fmt: skip
    table = table.merge(dated, how="left", on=["user_id", "item_id", "time_ms"], validate="one_to_one")
    table = table.rename(columns={"text_items_advertiser_id": "author_id", "text_items_category": "tag"})
    table = table.assign(tab=table.context_page, is_click=table.label_click)
    later = ((table.date >= first) & (table.date < until)).to_numpy()
    test = Tested(rows.take(later), table[later])
    said, seconds = fitted(earlier, work / "models", rungs, test.rows)
    return Days(table[table.date < first], test, said, seconds, earlier)


def videos_as_ads(work: Path) -> duckdb.DuckDBPyConnection:
    """Return a database of KuaiRand's rows as those of ads: `events` with their `date`, `items`, `users`."""
    raw = clicks.write_lake_tables(work)
    raw.execute("""
        CREATE OR REPLACE TABLE events AS
        SELECT event_id, type, time, user_id, item_id, request_id, date,
            CASE WHEN type = 'impression' THEN json_object('page', context::JSON -> 'tab')::VARCHAR END AS context
        FROM events WHERE type IN ('impression', 'click');
        UPDATE events SET type = 'click', context = NULL WHERE item_id = 'nothing';
        CREATE OR REPLACE TABLE items AS
        SELECT item_id, author_id AS advertiser_id, tags[1] AS campaign_id,
            json_object('category', tags[1])::VARCHAR AS attributes FROM items""")
    return raw
