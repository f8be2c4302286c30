"""How right probabilities of clicks are: `python -m benchmarks.ads` adds to benchmarks/quality.json.

Every rung of the ladder is what the real snapshot and the real job make of a lake; its ONNX file is asked about
showings that came after everything it learnt from, with features as of the moment before each.

`kuairand`: videos of KuaiRand-Pure as ads, their authors as advertisers, their first tag as campaign and as category,
the tab of the app as the page. Trained on 25-28 April 2022, tested on 29-30 April. Nothing of what users watched before
is told: nobody says what they were shown. Rows beside it are those of `benchmarks/clicks.py`, which see the same
counters and ids; only those "with tab" are told the page, too, and so are the ones to be held against. The best rung
once more, "calibrated live": at the beginning of every hour of the test days `monitoring` fits offsets to what the rung
said of showings of these days whose hour of waiting is over, and they hold for that hour. In the first two there are
none, as after every promotion.

Its window and ridges were chosen on 27 and 28 April, by `--choose-live`: `logistic`, trained on 25-26 April, is
calibrated live through both days, and trained on 25-27 April through the last one; of all settings whose log loss of
all these showings is within a standard error of the best one's (users resampled), the one whose worst page on either
walk is nearest to as many clicks as came. The test days were not looked at for it.

`kuairand_gate`: what the gate says of the archives that the same jobs leave, where nothing serves yet: one snapshot of
all six days, of which 28 April is validation and 29-30 April are the test, judged by the code that judges in the cloud.
`--work` keeps its report.

`simulated`: ads of the simulator, whose true probabilities are known, as is therefore the best possible score. The last
tenth is tested. Of 1,000 people and 200 ads, one showing in fifty clicked, nobody can know the tastes
(`benchmarks/ads_floor.py`); `simulated_few` is the same with 50 people and 50 ads, one showing in ten clicked, and
tastes that hardly turn in these 28 days.

`since_last`: 300,000 simulated events of 28 days. A champion knows all but the last day; the job goes on from it, and
starts anew, one after the other on the same machine. What all three say of the test showings is held side by side,
and how fast the job chose to go on, by log loss of users that it had not learnt from.

`open_bandit`: the sample of the Open Bandit Dataset (Saito et al., 2020) that the package `obp` carries: products shown
in three places of a shop of fashion. Nobody says who the users are, so those who have the same four features are one.
The last 30 % are tested.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import io
import itertools
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
from benchmarks import clicks
from benchmarks.clicks import FIRST_TEST_DAY, RESULT, ROOT, WORLDS, Floats, kuairand
from numpy.typing import NDArray

from twinloop.contracts.artefacts import SnapshotManifest
from twinloop.contracts.live import LiveSettings
from twinloop.contracts.segments import segment_value
from twinloop.contracts.spec import Split
from twinloop.contracts.system import System
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import AdsSettings, WorldSettings
from twinloop.evaluation.messages import JudgeRequest, RungResult
from twinloop.evaluation.probability import auc, calibration_ratio, ece, log_loss, log_losses, normalised_entropy
from twinloop.evaluation.run import judge_results
from twinloop.monitoring.calibration import shifted
from twinloop.monitoring.live import offsets
from twinloop.monitoring.matured import Showings
from twinloop.ports import MemoryObjectStore
from twinloop.serving.loading import load_models
from twinloop.systems.ads.features import LIVE as LIVE_SETTINGS
from twinloop.systems.ads.features import slices_of
from twinloop.systems.ads.system import SYSTEM
from twinloop.training import local
from twinloop.training.artefact import session
from twinloop.training.click_graph import ask
from twinloop.training.clicks import Rows, open_clicks
from twinloop.training.impressions import FILE

RUNGS = tuple(rung.name for rung in SYSTEM.spec.rungs)
LINEAR = "logistic"  # the rung that others are to beat
LEAST = 1000  # showings of a slice that is told
LEAST_OF_A_DAY = 400
WALKS = {20220427: 2, 20220428: 1}  # live calibration is chosen on: first day -> how many
HOUR_MS = 3_600_000
LIVE = ", calibrated live"
SIMULATED = 1_000_000
SINCE_LAST = 300_000  # events
FRESH = 20260111  # a seed of its own: nothing was developed on that world
Row = dict[str, float]


class Tested(NamedTuple):
    """Showings that nothing was learnt from: as models read them, and as a table, row by row."""

    rows: Rows
    table: pd.DataFrame


def main() -> None:
    """Measure, print and add to the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rungs", nargs="+", choices=RUNGS, default=list(RUNGS))
    parser.add_argument("--simulated", type=int, default=SIMULATED, help="showings")
    parser.add_argument("--work", type=Path, help="a folder that keeps what is made on the way")
    parser.add_argument("--choose-live", action="store_true", help="print what live calibration would be set to")
    options = parser.parse_args()
    if options.choose_live:
        with tempfile.TemporaryDirectory(prefix="ads-") as work:
            choose_live(Path(work))
        return
    result = json.loads(options.output.read_text()) if options.output.exists() else {}
    found = measure(options.only, tuple(options.rungs), simulated=options.simulated, work=options.work)
    result["ads"] = result.get("ads", {}) | found
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def measure(
    only: list[str] | None = None,
    rungs: tuple[str, ...] = RUNGS,
    *,
    simulated: int = SIMULATED,
    work: Path | None = None,
) -> dict[str, Any]:
    """Return what was measured by data set; of one that is missing, why."""
    found: dict[str, Any] = {"command": "python -m benchmarks.ads", "systems": ["ads"]}
    for name in only or PARTS:
        with _folder(work, name) as folder:
            found[name] = PARTS[name](folder, rungs, simulated)
            print(json.dumps({name: found[name]}, indent=1), flush=True)
    return found


@contextlib.contextmanager
def _folder(work: Path | None, name: str) -> Iterator[Path]:
    """A new folder of this name in `work`; where there is none, one that is gone afterwards."""
    if work is not None:
        (work / name).mkdir(parents=True)
        yield work / name
        return
    with tempfile.TemporaryDirectory(prefix="ads-") as folder:
        yield Path(folder)


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
    if not kuairand.FOLDER.exists():
        return {"missing": kuairand.MISSING}
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


def on_kuairand_gate(work: Path, rungs: tuple[str, ...], simulated: int) -> dict[str, Any]:
    """The gate's verdict on the last two days, where nothing serves yet; the report is left in the folder."""
    del simulated
    if not kuairand.FOLDER.exists():
        return {"missing": kuairand.MISSING}
    raw = videos_as_ads(work)
    date = raw.sql("SELECT date FROM events WHERE type = 'impression'").df().date
    chosen_on = date[date < FIRST_TEST_DAY].max()
    system = parted(float((date == chosen_on).mean()), float((date >= FIRST_TEST_DAY).mean()))
    made = clicks.snapshot(work / "made", raw, system)
    manifest = SnapshotManifest.model_validate_json((made / "manifest.json").read_bytes())
    objects, key = MemoryObjectStore(), f"snapshots/{manifest.system}/{manifest.snapshot_id}/"
    for path in made.rglob("*"):
        if path.is_file():
            objects.write(key + path.relative_to(made).as_posix(), path.read_bytes())
    results, seconds = [], {}
    for rung in rungs:
        seconds[rung] = trained(made, work / "models" / rung, rung)
        archive = f"jobs/{rung}/output/model.tar.gz"
        objects.write(archive, packed(work / "models" / rung))
        results.append(RungResult(rung=rung, status="Completed", model_key=archive, seconds=seconds[rung]))
    request = JudgeRequest(system=manifest.system, snapshot_key=key, results=tuple(results))
    # Judged when the last click may have come, as a learning of the same evening would have it.
    moment = manifest.last_event + timedelta(hours=1)
    answer = judge_results(request, objects, system, load_models, clock=lambda: moment)
    (work / "report.html").write_bytes(objects.read(answer.report_key).body)
    record = json.loads(objects.read(answer.report_key.removesuffix("html") + "json").body)
    parts = {part: manifest.rows[f"{part}/impressions"] for part in ("train", "validation", "test")}
    return {**parts, "job_s": seconds, **of_record(record)}


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
        rungs[entry["rung"]] = _rounded(row) | {"standing": entry["standing"]}
    return {
        "judged": max((entry["impressions"] for entry in record["candidates"]), default=0),
        "cases": record["cases"],
        "promoted": record["rung"] if record["promote"] else "nobody",
        "verdict": record["verdict"],
        "rows": rungs,
    }


def calibrated_live(test: Tested, said: Floats, settings: LiveSettings) -> Floats:
    """Return what would have been said with offsets made every hour, of showings whose outcome was known by then."""
    assert SYSTEM.outcomes is not None
    times, came, moved = test.rows.times, test.rows.clicked.astype(np.float64), said.copy()
    told_of = [name for name in settings.facts if f"context_{name}" in test.table]
    facts = {name: [_fact(value) for value in test.table[f"context_{name}"]] for name in told_of}
    contexts = [dict(zip(told_of, values, strict=True)) for values in zip(*facts.values(), strict=True)]
    for now in range(int(times.min() // HOUR_MS) * HOUR_MS, int(times.max()) + 1, HOUR_MS):
        until = now - SYSTEM.outcomes.window_ms
        past = np.flatnonzero((times <= until) & (times > until - settings.window_ms))
        if not len(past):
            continue
        known = {name: [values[place] for place in past.tolist()] for name, values in facts.items()}
        made = offsets(Showings(said[past], came[past], times[past], known), settings)
        for place in np.flatnonzero((times >= now) & (times < now + HOUR_MS)).tolist():
            moved[place] = shifted(said[place], made.of(contexts[place]))
    return moved


def choose_live(work: Path) -> None:
    """Print how settings of live calibration do on the days before the test days, and which one is taken."""
    walks = []
    for first, many in WALKS.items():
        (work / str(first)).mkdir()
        days = on_days(work / str(first), (LINEAR,), first, FIRST_TEST_DAY)
        clicked = days.test.rows.clicked.astype(np.float64)
        slices = sliced(days.test.table, ("page",)).values()
        walks.append((days, clicked, [mine for mine in slices if mine.sum() >= many * LEAST_OF_A_DAY]))
    # Of a user who is in both walks, each has its own release: they are not drawn together.
    users = np.concatenate([days.test.rows.users * len(walks) + n for n, (days, _, _) in enumerate(walks)])
    users = np.unique(users, return_inverse=True)[1]
    rows = {}
    for window, ridge, of_value in itertools.product(
        (3.0, 6.0, 12.0, 24.0, 48.0), (50.0, 200.0, 1000.0), (50.0, 200.0, 500.0, 1000.0)
    ):
        changes = {"window_hours": window, "ridge": ridge, "ridge_of_value": of_value}
        losses, worst = [], 0.0
        for days, clicked, pages in walks:
            row = calibrated_live(days.test, days.said[LINEAR], dataclasses.replace(LIVE_SETTINGS, **changes))
            losses.append(log_losses(clicked, row))
            worst = max(worst, *(abs(np.log(calibration_ratio(clicked[mine], row[mine]))) for mine in pages))
        rows[window, ridge, of_value] = np.concatenate(losses), worst
    best = min(rows, key=lambda key: rows[key][0].mean())
    draw, many = np.random.default_rng(20260101), int(users.max()) + 1
    worlds = [np.bincount(draw.integers(0, many, many), minlength=many)[users] for _ in range(200)]
    near = {}
    for key, (losses, worst) in sorted(rows.items(), key=lambda row: row[1][0].mean()):
        more = losses - rows[best][0]
        error = float(np.std([np.average(more, weights=world) for world in worlds]))
        if more.mean() <= error:
            near[key] = worst
        print(
            f"{key}: log loss {losses.mean():.5f}, above the best {more.mean():.5f} +- {error:.5f}, worst {worst:.4f}"
        )
    alone = [log_losses(clicked, days.said[LINEAR]) for days, clicked, _ in walks]
    print(f"alone: log loss {np.concatenate(alone).mean():.5f}")
    print(f"window in hours, ridge, ridge of a value: {min(near, key=lambda key: near[key])}")


def _fact(value: object) -> str | None:
    """Return a fact of the context, JSON text, as serving has it."""
    return segment_value(json.loads(value)) if isinstance(value, str) else None


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


def on_since_last(work: Path, rungs: tuple[str, ...], simulated: int) -> dict[str, Any]:
    """What going on from the champion of a day ago costs and says, against starting anew and against that champion."""
    del rungs, simulated
    world = WorldSettings(days=28)
    raw = simulated_ads(work, world, AdsSettings(events=SINCE_LAST))
    last_day = int(f"{world.end - timedelta(days=1):%Y%m%d}")  # late clicks may come after the end
    before = clicks.snapshot(work / "before", raw, SYSTEM, until=last_day)
    made = clicks.snapshot(work / "made", raw, SYSTEM)
    champion = work / "champion"
    trained(before, champion, LINEAR)
    seconds = {
        "going on": trained(made, work / "on", LINEAR, champion=champion / "click"),
        "from the start": trained(made, work / "anew", LINEAR),
    }
    test = Tested(*told(made, "test"))
    clicked = test.rows.clicked.astype(np.float64)
    losses = {
        name: log_losses(clicked, says(work / folder, test.rows))
        for name, folder in (("from the start", "anew"), ("going on", "on"), ("the champion as it was", "champion"))
    }
    worlds = users_drawn(test.rows)
    found: dict[str, Row] = {}
    for name, mine in losses.items():
        found[name] = {"log_loss": float(mine.mean())}
        if name != "going on":
            found[name] |= _gain("worse than going on by", mine - losses["going on"], worlds)
    about = {"train": len(open_clicks(made).read("train")), "test": len(clicked), "clicks": int(clicked.sum())}
    times = {"job_s": seconds, "times cheaper": round(seconds["from the start"] / seconds["going on"], 1)}
    metrics = json.loads((work / "on" / "click" / "metrics.json").read_text())
    chosen = {
        name: metrics[name] for name in sorted(metrics) if name.startswith(("learning_rate", "log_loss_at_", "late_"))
    }
    chosen = {"chosen by users not learnt from": _rounded(chosen)}
    return about | times | chosen | {"rows": {name: _rounded(row) for name, row in found.items()}}


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


def parted(validation: float, test: float, *, window_minutes: float | None = None) -> System:
    """Return ads with other parts, and another window where one is said."""
    outcomes = SYSTEM.outcomes
    assert outcomes is not None
    if window_minutes is not None:
        outcomes = dataclasses.replace(outcomes, window_minutes=window_minutes)
    split = Split(strategy="global", validation=validation, test=test, minimum_events=1)
    return dataclasses.replace(SYSTEM, spec=SYSTEM.spec.model_copy(update={"split": split}), outcomes=outcomes)


def told(snapshot: Path, *parts: Any) -> Tested:
    """Return the showings of parts: as jobs read them, and as the files have them, in the same order."""
    opened = open_clicks(snapshot)
    read = [opened.read(part) for part in parts]
    files = [pd.read_parquet(snapshot / part / FILE).sort_values("time_ms", kind="stable") for part in parts]
    table = pd.concat(files, ignore_index=True)
    rows = functools.reduce(Rows.join, read)
    assert (rows.times == table.time_ms).all()
    assert (rows.clicked == table.label_click).all()
    return Tested(rows, table)


def fitted(snapshot: Path, models: Path, rungs: tuple[str, ...], test: Rows) -> tuple[dict[str, Floats], Row]:
    """Return what each rung's release says of the showings, and how many seconds its job took."""
    said, seconds = {}, {}
    for rung in rungs:
        seconds[rung] = trained(snapshot, models / rung, rung)
        said[rung] = says(models / rung, test)
    return said, seconds


def trained(snapshot: Path, output: Path, rung: str, *, champion: Path | None = None) -> float:
    """Run a rung's job; returns how many seconds it took."""
    started = time.perf_counter()
    if local.run(ROOT / "training_jobs" / rung, snapshot, output, {}, champion=champion):
        raise RuntimeError(f"the job {rung} failed; its reason is above")
    return round(time.perf_counter() - started, 1)


def says(output: Path, test: Rows) -> Floats:
    """Return the chances that what a job left gives showings."""
    opened = session((output / "click" / "model.onnx").read_bytes())
    return ask(opened, test).astype(np.float64)


def judged(test: Tested, said: dict[str, Floats], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the metrics of every row, predicted over observed of its slices, and how much better a rung is than LR."""
    clicked = test.rows.clicked.astype(np.float64)
    worlds = users_drawn(test.rows)
    slices = sliced(test.table, names)
    found: dict[str, Any] = {}
    for name, row in said.items():
        drawn = [row @ world / (clicked @ world) for world in worlds]
        found[name] = {
            "log_loss": log_loss(clicked, row),
            "ne": normalised_entropy(clicked, row),
            "auc": auc(clicked, row),
            "ece": ece(clicked, row),
            "predicted / observed": calibration_ratio(clicked, row),
            **_interval("predicted / observed", np.array(drawn)),
            "by slice": {
                label: calibration_ratio(clicked[mine], row[mine])
                for label, mine in slices.items()
                if mine.sum() >= LEAST and clicked[mine].any()
            },
        }
    ours = [name for name in said if name.removesuffix(LIVE) in RUNGS]
    for reference in [name for name in said if name not in ours or name == LINEAR]:
        for rung in ours:
            if rung == reference:
                continue
            more = log_losses(clicked, said[reference]) - log_losses(clicked, said[rung])
            found[rung] |= _gain(f"better than {reference} by", more, worlds)
    sizes = {label: int(mine.sum()) for label, mine in slices.items() if mine.sum() >= LEAST}
    about = {"test": len(clicked), "clicks": int(clicked.sum()), "slices": sizes}
    return about | {"rows": {name: _rounded(row) for name, row in found.items()}}


def sliced(table: pd.DataFrame, names: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
    """Return which showings are in each slice: by facts of the moment, and as the gate calls users' activity."""
    slices: dict[str, NDArray[np.bool_]] = {}
    for name in names:
        if name == "activity":
            shown = table["user_impressions_30d"].tolist()
            values = pd.Series([slices_of({"known": {"user_impressions_30d": of}})[name] for of in shown])
        else:
            values = table[f"context_{name}"].fillna("unknown").reset_index(drop=True)
        slices |= {
            f"{name} {value}".replace('"', ""): (values == value).to_numpy() for value in sorted(values.unique())
        }
    return slices


def users_drawn(rows: Rows) -> list[NDArray[np.int64]]:
    """Return worlds of users drawn anew: in each, how often every showing counts."""
    users = np.unique(rows.users, return_inverse=True)[1]
    draw, many = np.random.default_rng(20260101), int(users.max()) + 1
    return [np.bincount(draw.integers(0, many, many), minlength=many)[users] for _ in range(WORLDS)]


def _gain(name: str, more: Floats, worlds: list[NDArray[np.int64]]) -> Row:
    drawn = np.array([np.average(more, weights=world) for world in worlds])
    return {name: float(more.mean())} | _interval(name, drawn)


def _interval(name: str, drawn: Floats) -> Row:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {f"{name} low": float(low), f"{name} high": float(high)}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _rounded(value) if isinstance(value, dict) else round(float(value), 5) for name, value in row.items()}


LABEL = {"click": "is_click"}
PARTS: dict[str, Callable[[Path, tuple[str, ...], int], dict[str, Any]]] = {
    "kuairand": on_kuairand,
    "kuairand_gate": on_kuairand_gate,
    "simulated": on_simulated,
    "simulated_few": functools.partial(
        on_simulated, users=50, items=50, click_rate=0.1, taste_turn_days=3_600.0, seed=FRESH
    ),
    "since_last": on_since_last,
    "open_bandit": on_open_bandit,
}

if __name__ == "__main__":
    main()
