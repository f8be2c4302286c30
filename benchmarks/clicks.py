"""What becomes of a shown video, on KuaiRand-Pure: `python -m benchmarks.clicks` adds to benchmarks/quality.json.

Trained on 25-28 April 2022, tested on 29-30 April (the `date` column). The release is what the real snapshot and the
real job make of a lake with the earlier days; its ONNX file is asked about every impression of the later days, with
features and histories as of the moment before it, as serving would have had them. What users watched before that week
comes as ratings (5 for a long watch, else 1), spread evenly up to the time of the last: the data say no seconds of it,
so no counter of watching gets any.

Rows beside it see the same features as of the same moments: logistic regression on them and on one-hots, and XGBoost,
each with and without the tab of the app, which the release is told as serving is: in the request's context. For
seconds, means of buckets of duration. "Long" is KuaiRand's `long_view`: 18 seconds, or all of a shorter video;
everything is trained on it here.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import scipy.sparse as sp
import xgboost as xgb
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from twinloop.contracts.spec import Split
from twinloop.contracts.system import System
from twinloop.evaluation.probability import auc, calibration_ratio, normalised_entropy
from twinloop.evaluation.regression import absolute_errors, mae, xauc
from twinloop.features.snapshot import Resources, build_snapshot
from twinloop.ports import MemoryObjectStore
from twinloop.systems.video.serve import situation
from twinloop.systems.video.system import SYSTEM
from twinloop.training import local
from twinloop.training.artefact import session
from twinloop.training.impressions import read_impressions
from twinloop.training.multitask_graph import ask
from twinloop.training.snapshot import read_snapshot

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "support"))
import kuairand  # noqa: E402  the data's folder, and what its rows mean as events

KUAIRAND, MISSING = kuairand.FOLDER, kuairand.MISSING
RESULT = Path(__file__).with_name("quality.json")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RELEASE = "multitask_ranker"
FIRST_TEST_DAY = 20220429
WORLDS = 1_000
BUCKETS = 10
LONG = """CASE WHEN type = 'watch' AND watch_s IS NOT NULL THEN
    CASE WHEN duration_s > 0 AND watch_s >= least(duration_s, 18) THEN 1 ELSE 0 END END"""
Floats = NDArray[np.float64]
Row = dict[str, float]


def main() -> None:
    """Measure, print and add to the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    found = measure()
    if found is None:
        print(MISSING)
        return
    result = json.loads(options.output.read_text()) if options.output.exists() else {}
    options.output.write_text(json.dumps(result | {"kuairand": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def measure() -> dict[str, Any] | None:
    """Return the rows by name; None where the data are missing."""
    if not KUAIRAND.exists():
        return None
    with tempfile.TemporaryDirectory(prefix="clicks-") as work:
        folder = Path(work)
        raw = write_lake_tables(folder)
        made = chosen_by_the_last_day(raw, kuairand_system(), until=FIRST_TEST_DAY)
        earlier = snapshot(folder / "earlier", raw, made, until=FIRST_TEST_DAY)
        every = snapshot(folder / "every", raw, undivided(made))
        started = time.perf_counter()
        model = fitted(earlier, folder / "model")
        seconds = time.perf_counter() - started
        table = impressions(every)
        train, test = table[table.date < FIRST_TEST_DAY], table[table.date >= FIRST_TEST_DAY]
        names = [feature.name for feature in read_impressions(read_snapshot(earlier)).features]
        moments = [{"tab": int(tab)} for tab in test.tab]
        said = {RELEASE: release(model, earlier, every, test, moments)}
        said |= rows_beside(train, test, names)
    about = {"train": len(train), "test": len(test), "job_s": round(seconds, 1)}
    return {"command": "python -m benchmarks.clicks", "systems": ["video"], **about, **compare(test, said)}


def write_lake_tables(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a database of raw rows: `events` with their `date`, `items`, `users`."""
    raw = duckdb.connect(str(folder / "raw.duckdb"))
    source = KUAIRAND
    dated = f"""
        SELECT row_number() OVER (ORDER BY time_ms, user_id, video_id, play_time_ms, duration_ms) AS n, date
        FROM read_parquet('{source}/interactions.parquet')"""  # noqa: S608 - our own folder
    raw.execute(f"""
        CREATE TABLE events AS
        SELECT found.*, NULL::DOUBLE AS rating, dated.date FROM ({kuairand.EVENTS.format(folder=source)}) AS found
        JOIN ({dated}) AS dated ON found.request_id = 'k' || dated.n""")  # noqa: S608
    raw.execute(f"""
        INSERT INTO events BY NAME
        WITH watched AS (
            SELECT *, unnest(watch_seq) AS video_id, generate_subscripts(watch_seq, 1) AS place, len(watch_seq) AS many
            FROM read_parquet('{source}/histories.parquet'))
        SELECT 'h' || user_id || '-' || place AS event_id, 'rating' AS type,
            (last_time_ms - (many - place) * ((last_time_ms - 1649433600000) / many))::BIGINT AS time,
            user_id::VARCHAR AS user_id, video_id::VARCHAR AS item_id, 0 AS date,
            CASE WHEN list_contains(long_watch_seq, video_id) THEN 5 ELSE 1 END AS rating
        FROM watched""")  # noqa: S608
    ended(raw)
    raw.execute(f"CREATE TABLE items AS {kuairand.ITEMS.format(folder=source)}")
    raw.execute(f"""
        CREATE TABLE users AS SELECT user_id, json_object('registered_ms', registered_ms)::VARCHAR AS extra
        FROM ({kuairand.USERS.format(folder=source)})""")  # noqa: S608
    return raw


def ended(raw: duckdb.DuckDBPyConnection) -> None:
    """Show nothing to nobody, hours later: what came before is waited for, and is no part of a test of its own."""
    raw.execute("""
        INSERT INTO events BY NAME
        SELECT 'end' || hours AS event_id, 'impression' AS type, max(time) + hours * 3600000 AS time,
            'nobody' AS user_id, 'nothing' AS item_id, max(date) + 1 AS date
        FROM events, (SELECT unnest([2, 4]) AS hours) GROUP BY hours""")


def undivided(made: System) -> System:
    """Return the system without parts: its snapshot has every impression."""
    split = Split(strategy="per_user", validation=0.0, test=1e-9, minimum_events=1_000_000_000)
    return dataclasses.replace(made, spec=made.spec.model_copy(update={"split": split}))


def snapshot(folder: Path, raw: duckdb.DuckDBPyConnection, made: System, *, until: int = 0) -> Path:
    """Return the folder of a snapshot of the days before `until`; 0: of all."""
    days = f"WHERE date < {until}" if until else ""
    events = f"SELECT * EXCLUDE (date) REPLACE (epoch_ms(time) AS time) FROM events {days} ORDER BY time, event_id"  # noqa: S608
    objects = MemoryObjectStore()
    for table, query in (("events", events), ("items", "FROM items"), ("users", "FROM users")):
        body = io.BytesIO()
        raw.sql(query).df().to_parquet(body)
        objects.write(f"lake/{made.spec.name}/{table}/dt=2022-04-25/rows.parquet", body.getvalue())
    (folder / "work").mkdir(parents=True)
    build_snapshot(
        made,
        objects,
        folder / "snapshot",
        now=NOW,
        work=folder / "work",
        resources=Resources(),
        minimum_cases=0,
    )
    return folder / "snapshot"


def chosen_by_the_last_day(raw: duckdb.DuckDBPyConnection, made: System, *, until: int) -> System:
    """Return the system split at one moment for all, so that the last day before `until` is for choosing."""
    likes = raw.sql(
        f"SELECT date FROM events WHERE date < {until} AND (type IN ('click', 'like') OR rating > 4)"  # noqa: S608
    ).df()
    validation = float((likes.date == likes.date.max()).mean())
    split = Split(strategy="global", validation=validation, test=1e-4)
    return dataclasses.replace(made, spec=made.spec.model_copy(update={"split": split}))


def fitted(snapshot_of: Path, output: Path) -> Path:
    """Run the job; returns its graph. What retrieves is not judged here, so it is fitted for one epoch only."""
    if local.run(ROOT / "training_jobs" / "multitask_ranker", snapshot_of, output, {"tower_epochs": "1"}):
        raise RuntimeError("the job failed; its reason is above")
    return output / "engagement" / "model.onnx"


def kuairand_system() -> System:
    """Video whose long watch is KuaiRand's."""
    assert SYSTEM.outcomes is not None
    labels = {**SYSTEM.outcomes.labels, "long_watch": LONG}
    return dataclasses.replace(SYSTEM, outcomes=dataclasses.replace(SYSTEM.outcomes, labels=labels))


def impressions(every: Path) -> pd.DataFrame:
    """Return all impressions with their features as of their moment, and what KuaiRand itself says of each."""
    query = f"""
        SELECT shown.*, said.* EXCLUDE (who, what, moment), items.author_id, items.tags[1] AS tag
        FROM read_parquet('{every}/*/impressions.parquet') AS shown
        JOIN (
            SELECT user_id::VARCHAR AS who, video_id::VARCHAR AS what, time_ms AS moment, min(date) AS date,
                any_value(tab) AS tab, max(is_click) AS is_click, max(long_view) AS long_view,
                max(play_time_ms) / 1000 AS seconds
            FROM read_parquet('{KUAIRAND}/interactions.parquet') GROUP BY ALL
        ) AS said ON said.who = shown.user_id AND said.what = shown.item_id AND said.moment = shown.time_ms
        LEFT JOIN read_parquet('{every}/items/items.parquet') AS items USING (item_id)
        ORDER BY shown.user_id, shown.time_ms, shown.item_id"""  # noqa: S608
    return duckdb.execute(query).df()


def release(
    model: Path, earlier: Path, every: Path, test: pd.DataFrame, moments: list[dict[str, Any]]
) -> dict[str, Floats]:
    """Ask the exported model about every impression, each with its own user's history and its request's context."""
    opened, snapshot_of = session(model.read_bytes()), read_snapshot(earlier)
    manifest = json.loads((model.parent / "manifest.json").read_text())
    names, facts = manifest["known_names"], manifest["situation"]
    place = {item: n for n, item in enumerate(snapshot_of.items.ids)}
    lake = read_snapshot(every)
    likes, users = lake.everything, {user: n for n, user in enumerate(lake.user_ids)}
    index = np.array([place.get(item, -1) for item in lake.items.ids])
    begins = likes.offsets
    known, items = test[names].to_numpy(np.float32), test.item_id.map(place).fillna(-1).to_numpy(np.int64)
    said: dict[str, list[float]] = {"click": [], "long view": [], "seconds": []}
    for n, (user, moment) in enumerate(zip(test.user_id, test.time_ms, strict=True)):
        number = users.get(user, -1)
        mine = slice(begins[number], begins[number + 1]) if number >= 0 else slice(0, 0)
        end = mine.start + int(np.searchsorted(likes.times[mine], moment))
        theirs = slice(mine.start, end)
        answer = ask(
            opened,
            known=known[n : n + 1],
            items=items[n : n + 1],
            history=index[likes.items[theirs]],
            times=likes.times[theirs] // 1000,
            at=moment // 1000,
            situation=situation(facts, moments[n]),
        )
        for name, tensor in (("click", "click"), ("long view", "long_watch"), ("seconds", "watch_s")):
            said[name].append(float(answer[tensor][0]))
    return {name: np.array(values) for name, values in said.items()}


def rows_beside(train: pd.DataFrame, test: pd.DataFrame, names: list[str]) -> dict[str, dict[str, Floats]]:
    """Fit the rows that the release has to beat."""
    said = chances_beside(train, test, names, {"click": "is_click", "long view": "long_view"})
    for tab in ((), ("tab",)):
        deep = [xgb.DMatrix(part[[*names, *tab]].to_numpy(float)) for part in (train, test)]
        row = said[f"xgboost, 300 trees{' with tab' if tab else ''}"]
        row["seconds"] = _trees(deep, train.seconds.to_numpy(), "reg:squarederror")
    edges = np.quantile(train.item_duration_s[train.item_duration_s > 0], np.arange(1, BUCKETS) / BUCKETS)

    def bucket(rows: pd.DataFrame) -> NDArray[np.int64]:
        return np.where(rows.item_duration_s > 0, 1 + np.searchsorted(edges, rows.item_duration_s, side="right"), 0)

    means = train.seconds.groupby(bucket(train)).mean()
    said["mean of the duration's bucket"] = {"seconds": means.reindex(bucket(test)).to_numpy()}
    return said


def chances_beside(
    train: pd.DataFrame, test: pd.DataFrame, names: list[str], labels: dict[str, str]
) -> dict[str, dict[str, Floats]]:
    """Fit logistic regression and trees of what may come of an impression: target -> its column."""
    said: dict[str, dict[str, Floats]] = {}
    numbers = [np.hstack([part[names], np.sign(part[names]) * np.log1p(part[names].abs())]) for part in (train, test)]
    mean, spread = numbers[0].mean(axis=0), numbers[0].std(axis=0) + 1e-9
    standard = [sp.csr_matrix(np.clip((part - mean) / spread, -8, 8)) for part in numbers]
    for tab in ((), ("tab",)):
        which = " with tab" if tab else ""
        columns = [*tab, "item_id", "author_id", "tag"]
        hot = OneHotEncoder(handle_unknown="ignore", min_frequency=3).fit(train[columns].astype(str))
        wide = [
            sp.hstack([part, hot.transform(rows[columns].astype(str))]).tocsr()
            for part, rows in zip(standard, (train, test), strict=True)
        ]
        deep = [xgb.DMatrix(part[[*names, *tab]].to_numpy(float)) for part in (train, test)]
        linear, trees = {}, {}
        for name, label in labels.items():
            right = train[label].to_numpy()
            # .03 and the settings of the trees were best on the 28th of those tried, learning from the days before.
            fitted = LogisticRegression(C=0.03, max_iter=500).fit(wide[0], right)
            linear[name] = fitted.predict_proba(wide[1])[:, 1]
            trees[name] = _trees(deep, right, "binary:logistic")
        said |= {f"logistic regression{which}": linear, f"xgboost, 300 trees{which}": trees}
    return said


def _trees(parts: list[xgb.DMatrix], right: Floats, objective: str) -> Floats:
    told = {
        "eta": 0.03,
        "max_depth": 6,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
        "min_child_weight": 20,
        "nthread": 1,
    }
    parts[0].set_label(right)
    return xgb.train(told | {"objective": objective}, parts[0], 300).predict(parts[1])


def compare(test: pd.DataFrame, said: dict[str, dict[str, Floats]]) -> dict[str, dict[str, Row]]:
    """Return metrics by target and row, and how much better the release is, with its interval: users are drawn anew."""
    truth = {"click": test.is_click.to_numpy(), "long view": test.long_view.to_numpy()}
    seconds = test.seconds.to_numpy()
    users = np.unique(test.user_id, return_inverse=True)[1]
    draw, many = np.random.default_rng(20260101), int(users.max()) + 1
    worlds = [np.bincount(draw.integers(0, many, many), minlength=many)[users] for _ in range(WORLDS)]
    found: dict[str, dict[str, Row]] = {}
    for target, outcomes in truth.items():
        rows = {name: row[target] for name, row in said.items() if target in row}
        ours, drawn = auc(outcomes, rows[RELEASE]), _aucs(outcomes, rows[RELEASE], worlds)
        found[target] = {
            name: {
                "auc": auc(outcomes, row),
                "ne": normalised_entropy(outcomes, row),
                "calibration": calibration_ratio(outcomes, row),
            }
            | _gain(ours - auc(outcomes, row), drawn - _aucs(outcomes, row, worlds))
            for name, row in rows.items()
        }
    rows = {name: row["seconds"] for name, row in said.items() if "seconds" in row}
    errors = absolute_errors(seconds, rows[RELEASE])
    found["seconds of watching"] = {}
    for name, row in rows.items():
        less = absolute_errors(seconds, row) - errors
        found["seconds of watching"][name] = {
            "mae": mae(seconds, row),
            "xauc": xauc(seconds, row),
            "predicted / observed": row.sum() / seconds.sum(),
        } | _gain(less.mean(), np.array([np.average(less, weights=world) for world in worlds]))
    return {
        target: {name: {key: round(float(value), 4) for key, value in row.items()} for name, row in rows_of.items()}
        for target, rows_of in found.items()
    }


def _gain(mean: float, gains: Floats) -> Row:
    low, high = np.quantile(gains, (0.025, 0.975))
    return {
        "the release is better by": mean,
        "the release is better by low": low,
        "the release is better by high": high,
    }


def _aucs(outcomes: Floats, scores: Floats, worlds: list[NDArray[np.int64]]) -> Floats:
    """Return the AUC in every world, where a row counts as often as its user was drawn; as `probability.auc`."""
    place = np.unique(scores, return_inverse=True)[1]
    found = []
    for world in worlds:
        above = np.bincount(place, weights=world * outcomes)
        below = np.bincount(place, weights=world * (1 - outcomes))
        worse = np.cumsum(below) - below / 2
        found.append((above * worse).sum() / (above.sum() * below.sum()))
    return np.array(found)


if __name__ == "__main__":
    main()
