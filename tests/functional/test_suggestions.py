"""Suggestions from simulated rows to answers: four jobs, gate and endpoint; everything but AWS is real."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from job_files import on_disk, packed
from simulated_lake import loaded

from twinloop import systems
from twinloop.commands.labelled import read_labelled
from twinloop.contracts.system import Refresh
from twinloop.datasets.simulator.run import simulate
from twinloop.datasets.simulator.settings import SuggestionsSettings, WorldSettings
from twinloop.errors import BadInputError
from twinloop.evaluation.messages import JudgeRequest, PromoteRequest
from twinloop.evaluation.run import judge_results, promote
from twinloop.features.live import apply_events
from twinloop.features.materialise import materialise
from twinloop.features.rungs import snapshot_answer
from twinloop.features.snapshot import make_snapshot
from twinloop.features.stores import MemoryFeatureStore
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.registry.refresh import refresh
from twinloop.registry.registry import Registry
from twinloop.serving.http import Request
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app
from twinloop.systems.suggestions import catalogue
from twinloop.training.local import run as run_local

JOBS = Path(__file__).parents[2] / "training_jobs"
WORLD = WorldSettings(users=300, items=600, days=14, seed=1)
SUGGESTIONS = SuggestionsSettings(events=40_000)
NOW = WORLD.end + timedelta(minutes=30)
QUICK = {
    "distance_popularity": {},
    "event_logistic": {"l2": "0.0001"},
    "event_trees": {"rounds": "30", "eta": "0.15"},
    "event_network": {"epochs": "3"},
}
BERLIN = {"lat": 52.52, "lon": 13.405}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A bucket whose lake has a simulated world's rows."""
    folder = tmp_path_factory.mktemp("suggestions") / "world"
    simulate(folder, WORLD, SUGGESTIONS)
    objects = loaded(folder / "raw", "suggestions", NOW).objects
    assert not list(objects.keys("quarantine/"))
    return objects


@pytest.fixture(scope="module")
def judged(bucket, tmp_path_factory):
    """What the ladder's jobs leave of a snapshot, judged, and the best promoted."""
    system, work = systems.load("suggestions"), tmp_path_factory.mktemp("jobs")
    taken = snapshot_answer(system, make_snapshot(system, bucket, now=NOW), system.spec.rungs)
    snapshot, results = on_disk(bucket, taken["snapshot_key"], work / "snapshot"), []
    for rung in taken["rungs"]:
        name = rung["name"]
        assert run_local(JOBS / name, snapshot, work / name, QUICK[name]) == 0
        key = f"jobs/suggestions-{name}/output/model.tar.gz"
        bucket.write(key, packed(work / name))
        results.append({"rung": name, "status": "Completed", "model_key": key})
    request = JudgeRequest(system="suggestions", snapshot_key=taken["snapshot_key"], results=results)
    verdict = judge_results(request, bucket, system, load_models, clock=lambda: NOW)
    said = PromoteRequest(action="promote", system="suggestions", version=verdict.version, why="w", champion=None)
    promote(said, bucket)
    return work, verdict


class Served:
    """The endpoint, with a clock that can be turned on, and the queue of events behind it."""

    def __init__(self, bucket):
        self.now, self.system, self.store = NOW, systems.load("suggestions"), MemoryFeatureStore()
        assert materialise(self.system, bucket, self.store, features=self.store)["counted"]["items"] >= WORLD.items
        self.bucket = bucket
        self.begin()

    def begin(self):
        """A process that remembers nothing."""
        clock = {"look_every_s": 3600, "now": lambda: self.now}
        self.app = make_app(self.system, self.bucket, self.store, None, features=self.store, **clock)

    def ask(self, **body):
        told = json.dumps({"user_id": "u1"} | BERLIN | body).encode()
        request = Request("POST", "/v1/suggestions/recommendations", {"content-type": "application/json"}, told)
        response = self.app(request)
        return json.loads(response.body)

    def happens(self, kind, item_id, user_id="o1"):
        class Stream:
            def send(self, system, lines):
                return set()

        moment = (self.now - timedelta(seconds=1)).isoformat()
        event = {"event_id": f"{kind}-{item_id}-{user_id}", "type": kind, "time": moment, "item_id": item_id}
        body = json.dumps({"system": "suggestions", "event": event | {"user_id": user_id}})
        assert not apply_events({"m": body}, systems.load, self.store, Stream(), features=self.store)


@pytest.fixture
def served(bucket, judged):
    return Served(bucket)


def test_every_rung_is_judged_and_one_is_promoted(judged, bucket):
    work, verdict = judged
    assert verdict.promote, verdict
    assert set(QUICK) == {path.name for path in work.iterdir() if (path / "ranking").is_dir()}
    assert verdict.version == Registry(bucket, "suggestions").alias("champion").version
    for rung in QUICK:
        manifest = json.loads((work / rung / "ranking" / "manifest.json").read_text())
        assert manifest["parity"]["max_abs_diff"] <= 1e-4
        assert manifest["parity"]["rows"] > 100


def test_every_rung_leaves_the_same_assets(judged):
    for name in ("catalogue.json.gz", "tastes.json.gz", "baseline.json"):
        assert len({(judged[0] / rung / "ranking" / name).read_bytes() for rung in QUICK}) == 1


def test_what_is_answered_is_coming_near_and_told_why(served):
    answer = served.ask(include=["reasons"], limit=10)
    assert (len(answer["events"]), answer["arm"], answer["placed"]) == (10, "champion", True)
    assert not answer["degraded"]
    for event in answer["events"]:
        assert event["starts_ms"] > NOW.timestamp() * 1000
        assert event.get("distance_km", 0) <= 100
    assert any(event["reasons"] for event in answer["events"])
    local = [event["local_start"] for event in answer["events"] if "distance_km" in event]
    assert all(start.endswith("+01:00") for start in local)  # Berlin's winter


def row(item_id, **more):
    """A row of items as an application sends it."""
    starts, published = (NOW + timedelta(hours=hours) for hours in (30, -1))
    told = {"item_id": item_id, "title": f"Event {item_id}", "topics": ["jazz"], "time_zone": "Europe/Berlin"}
    return told | BERLIN | {"starts_at": starts.isoformat(), "published_at": published.isoformat()} | more


def deliver(bucket, name, *rows, written=NOW):
    body, key = "".join(json.dumps(row) + "\n" for row in rows).encode(), f"raw/suggestions/items/{name}.jsonl"
    ingest(RawObject(key, "1", written, len(body), io.BytesIO(body)), systems.load("suggestions"), bucket)
    assert not list(bucket.keys("quarantine/"))


def test_a_champion_that_stays_suggests_what_was_published_after_it_was_learnt(judged, bucket):
    """In a bucket of its own: what is loaded here is nobody else's."""
    own = MemoryObjectStore()
    for key in bucket.keys(""):
        own.write(key, bucket.read(key).body)
    system, registry = systems.load("suggestions"), Registry(own, "suggestions")
    learnt, how = registry.alias("champion").version, Refresh(by="a test", now=lambda: NOW)
    assert refresh(system, own, how).version is None  # it was learnt of this very lake
    deliver(own, "fresh", row("fresh"), row("tomorrow", published_at=(NOW + timedelta(days=1)).isoformat()))
    made = refresh(system, own, how)
    assert (made.fresh, made.version) == (2, registry.alias("champion").version)
    assert made.version != learnt
    assert registry.release(made.version).rung == registry.release(learnt).rung

    served = Served(own)
    near = {"radius_km": 1, "limit": 100}
    suggested = [one["item_id"] for one in served.ask(**near)["events"]]
    assert "fresh" in suggested
    assert "tomorrow" not in suggested
    served.now = NOW + timedelta(hours=25)
    assert "tomorrow" in [one["item_id"] for one in served.ask(**near)["events"]]

    later = Refresh(by="a test", now=lambda: NOW + timedelta(hours=1))  # some events have begun since
    assert refresh(system, own, later).version is None
    deliver(own, "off", row("fresh", cancelled=True), written=later.now())
    assert refresh(system, own, later).fresh == 1
    assert "fresh" not in [one["item_id"] for one in Served(own).ask(**near)["events"]]
    assert registry.alias("previous").version == made.version  # of the same models; no others were learnt


def test_a_challenger_and_a_shadow_have_the_events_of_the_lake_too(judged, bucket):
    own = MemoryObjectStore()
    for key in bucket.keys(""):
        own.write(key, bucket.read(key).body)
    system, registry, how = (
        systems.load("suggestions"),
        Registry(own, "suggestions"),
        Refresh("a test", now=lambda: NOW),
    )
    champion = registry.alias("champion").version
    others = [version for version in registry.versions() if version != champion]
    registry.move_alias("challenger", others[0], why="an experiment", by="a test")
    registry.move_alias("shadow", others[1], why="a look", by="a test")
    assert refresh(system, own, how).said.count("nothing has changed") == 3
    deliver(own, "fresh", row("fresh"))
    made = refresh(system, own, how)
    assert made.version == registry.alias("champion").version
    for alias, learnt in {"champion": champion, "challenger": others[0], "shadow": others[1]}.items():
        manifest = registry.release(registry.alias(alias).version)
        assert (manifest.refreshed_from, manifest.rung) == (learnt, registry.release(learnt).rung)
        assert "fresh" in catalogue.unpack(registry.read_release(manifest.version)["ranking"][catalogue.FILE]).ids
        assert manifest.version in made.said
    assert registry.alias("previous") is None or registry.alias("previous").version == champion
    served = Served(own)
    served.ask()
    arms = {served.ask(user_id=f"u{n}", radius_km=1, limit=100)["arm"] for n in range(200)}  # a tenth by a hash
    assert arms == {"champion", "challenger"}

    deliver(own, "more", row("more"))
    tuned = {name: dict(files) for name, files in registry.read_release(others[0]).items()}
    del tuned["ranking"][catalogue.FILE]  # a release from before events were refreshed
    parts = {name: registry.register_component(name, files) for name, files in tuned.items()}
    told = registry.release(others[0])
    draft = registry.draft_release(
        rung=told.rung, snapshot_id=told.snapshot_id, schema_hash=told.schema_hash, components=parts
    )
    registry.move_alias("challenger", registry.register_release(draft, {}), why="w", by="a test")
    made = refresh(system, own, how)
    assert "challenger: not refreshed" in made.said
    for alias in ("champion", "shadow"):
        release = registry.read_release(registry.alias(alias).version)
        assert "more" in catalogue.unpack(release["ranking"][catalogue.FILE]).ids


def test_what_refreshes_made_does_not_pile_up(judged, bucket):
    own = MemoryObjectStore()
    for key in bucket.keys(""):
        own.write(key, bucket.read(key).body)
    system, registry = systems.load("suggestions"), Registry(own, "suggestions")
    learnt, made = set(registry.versions()), []
    for number in range(4):
        deliver(own, f"fresh{number}", row(f"fresh{number}", starts_at=(NOW + timedelta(days=90)).isoformat()))
        made.append(refresh(system, own, Refresh("a test", now=lambda: NOW)).version)

    def later():
        return datetime.now(UTC) + timedelta(days=9)

    assert len(set(registry.versions()) - learnt) == 4
    last = refresh(system, own, Refresh("a test", now=later, least_share=0))
    assert set(registry.versions()) == learnt | {made[2], made[3], last.version} - {None}  # `previous` is one
    assert last.said.endswith("2 releases of earlier refreshes were discarded")
    assert system.predictor(load_models(registry.read_release(registry.alias("champion").version)))


def test_a_lake_that_lost_its_events_changes_nothing(judged, bucket):
    own = MemoryObjectStore()
    for key in bucket.keys("registry/"):
        own.write(key, bucket.read(key).body)
    deliver(own, "alone", row("alone"))
    system, champion = systems.load("suggestions"), Registry(own, "suggestions").alias("champion")
    with pytest.raises(BadInputError, match="only 0 of the"):
        refresh(system, own, Refresh(by="a test", now=lambda: NOW))
    assert Registry(own, "suggestions").alias("champion") == champion
    made = refresh(system, own, Refresh(by="a test", least_share=0, now=lambda: NOW))
    assert made.items == 1


def test_a_cancelled_event_is_gone(served):
    first = served.ask(limit=5)["events"][0]["item_id"]
    served.happens("cancel", first)
    served.begin()  # what is known of items is kept for half a minute; a process that kept nothing does not wait
    assert first not in [event["item_id"] for event in served.ask(limit=100)["events"]]
    served.happens("restore", first)
    served.begin()
    assert first in [event["item_id"] for event in served.ask(limit=100)["events"]]


def test_the_past_is_asked_as_the_past(served):
    before = datetime(2025, 1, 10, 12, tzinfo=UTC)
    answer = served.ask(time_ms=int(before.timestamp() * 1000))
    assert all(event["starts_ms"] > before.timestamp() * 1000 for event in answer["events"])


def test_across_the_date_line_there_is_something_too(served):
    answer = served.ask(lat=-16.79, lon=-179.99, limit=5)
    assert [event for event in answer["events"] if event.get("distance_km", 1e9) < 60]


def test_a_labelled_file_of_lists_judges_what_is_served(served, tmp_path):
    """Everybody says yes to what stands at the same place of their own answer, so what that is worth is known."""
    rows, at_ms, users = [], int(NOW.timestamp() * 1000), [f"u{n}" for n in range(1, 9)]
    for user in users:
        shown = [one["item_id"] for one in served.ask(user_id=user, limit=6, time_ms=at_ms, explore=False)["events"]]
        about = {"user_id": user, "request_id": f"list-{user}", "context": BERLIN}
        for position, item in enumerate(sorted(shown)):
            view = {"event_id": f"v-{user}-{item}", "type": "view", "item_id": item, "position": position}
            rows.append(view | about | {"time": at_ms})
        yes = {"event_id": f"y-{user}", "type": "rsvp", "item_id": shown[2], "time": at_ms + 60_000}
        rows.append(yes | about)
    path = tmp_path / "lists.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    system, evaluation = served.system, served.system.evaluation
    read, made = read_labelled(system, evaluation.table, path)
    cases = list(evaluation.cases(read, lambda users: [() for _ in users]))
    assert (len(cases), made.quarantined) == (len(users), {})
    for case in cases:
        found = system.judge(evaluation.remote(lambda body: served.ask(**body), case), case)
        assert found == {"ndcg_at_10": 0.5, "mrr": pytest.approx(1 / 3)}
