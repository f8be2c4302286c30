"""Releases of suggestions, refreshed: what answers where the champion cannot has the items of the lake, too."""

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from played_aws import function
from tiny_suggestions import NOW_MS, event, files

from twinloop import systems
from twinloop.aws import environment
from twinloop.contracts.system import Refresh
from twinloop.features.schema import schema_hash
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.ports import MemoryObjectStore
from twinloop.registry.refresh import refresh
from twinloop.registry.registry import Registry
from twinloop.systems.suggestions import catalogue

NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
SYSTEM = systems.load("suggestions")
KNOWN = [event(f"e{n}") for n in range(3)]


class Lake:
    """A store with items, and releases that know events."""

    def __init__(self):
        self.store, self.hour = MemoryObjectStore(), 0
        self.registry = Registry(self.store, "suggestions")

    def deliver(self, *events):
        self.hour += 1
        rows = [
            {"item_id": row["item_id"], "title": row["title"], "starts_at": row["starts_ms"], "topics": row["topics"]}
            | {"published_at": row["published_ms"], "cancelled": row.get("cancelled")}
            for row in events
        ]
        body, at = "\n".join(map(json.dumps, rows)).encode(), NOW + timedelta(hours=self.hour)
        name = f"raw/suggestions/items/{self.hour}.jsonl"
        ingest(RawObject(name, hashlib.sha256(body).hexdigest(), at, len(body), io.BytesIO(body)), SYSTEM, self.store)

    def learn(self, rung):
        """Promote a release of the events that are known from the beginning."""
        parts = {name: self.registry.register_component(name, of) for name, of in files(KNOWN, rung=rung).items()}
        draft = self.registry.draft_release(rung=rung, snapshot_id="s", schema_hash=schema_hash(()), components=parts)
        version = self.registry.register_release(draft, {})
        self.registry.promote(version, why="a test", by="tests")
        return version

    def refresh(self):
        return refresh(SYSTEM, self.store, Refresh(by="tests", now=lambda: NOW))

    def points(self, alias):
        return self.registry.alias(alias).version

    def events(self, alias):
        release = self.registry.read_release(self.points(alias))
        return sorted(catalogue.unpack(release["ranking"][catalogue.FILE]).ids)


@pytest.fixture
def lake():
    made = Lake()
    made.deliver(*KNOWN)
    return made


def test_what_was_called_off_does_not_come_back_where_previous_answers(lake):
    learnt = [lake.learn(rung) for rung in ("event_logistic", "event_trees")]
    lake.deliver(event("e0", cancelled=True), event("new"))
    made = lake.refresh()
    for alias, models in zip(("previous", "champion"), learnt, strict=True):
        assert lake.events(alias) == ["e1", "e2", "new"]
        assert lake.registry.release(lake.points(alias)).refreshed_from == models
    assert (made.version, made.failed) == (lake.points("champion"), ())
    before = len(lake.registry.history())
    assert lake.refresh().said.count("nothing has changed") == 2
    assert len(lake.registry.history()) == before


def test_previous_follows_where_the_champion_has_the_items_of_the_lake_already(lake):
    lake.learn("event_logistic")
    lake.deliver(event("e0", cancelled=True))
    lake.refresh()
    champion = lake.points("champion")
    lake.learn("event_trees")
    lake.registry.rollback(why="bad", by="tests")
    assert (lake.points("champion"), lake.events("previous")) == (champion, ["e0", "e1", "e2"])
    assert lake.refresh().version is None
    assert (lake.points("champion"), lake.events("previous")) == (champion, ["e1", "e2"])


def test_where_nothing_else_was_ever_learnt_previous_is_the_release_before(lake):
    """Not the learnt one, whose items grow older and older."""
    lake.learn("event_logistic")
    made = []
    for number in range(3):
        lake.deliver(event(f"new{number}"))
        made.append(lake.refresh().version)
    assert (lake.points("champion"), lake.points("previous")) == (made[2], made[1])
    lake.learn("event_trees")
    assert lake.points("previous") == made[2]
    lake.deliver(event("new3"))
    lake.refresh()
    assert lake.events("previous") == lake.events("champion")
    assert lake.registry.release(lake.points("previous")).rung == "event_logistic"


def test_a_previous_that_cannot_be_refreshed_is_named_and_the_champion_follows(lake):
    spoilt = lake.learn("event_logistic")
    lake.learn("event_trees")
    version = lake.registry.release(spoilt).components["ranking"]
    lake.store.write(f"registry/suggestions/ranking/versions/{version}/{catalogue.FILE}", b"spoilt")
    lake.deliver(event("new"))
    made = lake.refresh()
    assert "new" in lake.events("champion")
    assert made.failed == ("previous",)
    assert "previous: not refreshed" in made.said


def test_the_function_counts_the_releases_that_it_could_not_refresh(lake, monkeypatch, capsys):
    """What CloudWatch makes a metric of; the alarm `RefreshOthers` rings by it."""
    monkeypatch.setattr(environment, "own_bucket", lambda: lake.store)
    handler = function("refresh")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "fn")
    lake.learn("event_logistic")
    lake.learn("event_trees")
    lake.deliver(event("new"))
    for failed in ([], ["previous"]):
        if failed:
            version = lake.registry.release(lake.points("previous")).components["ranking"]
            lake.store.write(f"registry/suggestions/ranking/versions/{version}/{catalogue.FILE}", b"spoilt")
        assert list(handler({"system": "suggestions"})["failed"]) == failed
        [told] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
        [metric] = told["_aws"]["CloudWatchMetrics"]
        assert (metric["Namespace"], metric["Metrics"][0]["Name"]) == ("twinloop", "NotRefreshed")
        assert {name: told[name] for name in metric["Dimensions"][0]} == {"service": "refresh", "FunctionName": "fn"}
        assert told["NotRefreshed"] == [len(failed)]
