"""`twinloop promote` and `rollback`: the alias moves, and what serves follows the items of now."""

import hashlib
import io
import json
from datetime import UTC, datetime

import pytest
from deployed_in_memory import MemoryDeployment
from tiny_suggestions import NOW_MS, event, files
from typer.testing import CliRunner

from twinloop import systems
from twinloop.aws import functions
from twinloop.cli import app
from twinloop.commands import models
from twinloop.contracts.system import Refresh
from twinloop.features.schema import schema_hash
from twinloop.ingest.process import ingest
from twinloop.ingest.source import RawObject
from twinloop.registry.refresh import refresh
from twinloop.registry.registry import Registry
from twinloop.systems.suggestions import catalogue

NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
STAYS = [f"e{n}" for n in range(4)]


class Stack(MemoryDeployment):
    """A deployment with a function `refresh`."""

    def __init__(self):
        super().__init__()
        self.__dict__["outputs"] = {**self.outputs, "RefreshFunction": "fn"}
        self.__dict__["asked"] = []
        self.__dict__["refuses"] = None

    def invoke(self, *, FunctionName, Payload):
        system = json.loads(Payload)["system"]
        self.asked.append((FunctionName, system))
        if self.refuses:
            said, more = {"errorType": "BadInputError", "errorMessage": self.refuses}, {"FunctionError": "Unhandled"}
        else:
            how = Refresh(by="the function refresh", now=lambda: NOW)
            said, more = refresh(systems.load(system), self.store, how)._asdict(), {}
        return {"Payload": io.BytesIO(json.dumps(said).encode()), **more}

    def release(self, system, parts):
        home = self.registry(system)
        components = {name: home.register_component(name, content) for name, content in parts.items()}
        facts = {"rung": "event_logistic", "snapshot_id": "s", "schema_hash": schema_hash(())}
        return home.register_release(home.draft_release(components=components, **facts), {})

    def suggested(self):
        home = self.registry("suggestions")
        found = home.read_release(home.alias("champion").version)
        return sorted(catalogue.unpack(found["ranking"][catalogue.FILE]).ids)


@pytest.fixture
def place(monkeypatch):
    made = Stack()
    monkeypatch.setattr(models, "deployment", lambda: made)
    monkeypatch.setattr(functions, "waiting_client", lambda service: made)
    return made


@pytest.fixture
def releases(place):
    """Of one that knows an event which was called off since, and of the one after it."""
    lake = [event(name) for name in STAYS] + [event("off", cancelled=True)]
    rows = [
        {"item_id": row["item_id"], "title": row["title"], "starts_at": row["starts_ms"], "topics": row["topics"]}
        | {"published_at": row["published_ms"], "cancelled": row.get("cancelled")}
        for row in lake
    ]
    body = "\n".join(map(json.dumps, rows)).encode()
    raw = RawObject("raw/suggestions/items/a.jsonl", hashlib.sha256(body).hexdigest(), NOW, len(body), io.BytesIO(body))
    ingest(raw, systems.load("suggestions"), place.store)
    before = place.release("suggestions", files([*map(event, STAYS), event("off", in_h=9)]))
    after = place.release("suggestions", files([*map(event, STAYS), event("begun", in_h=-1.0)]))
    for version in (before, after):
        place.registry("suggestions").promote(version, why="a test", by="tests")
    return before, after


def run(*words):
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.stderr
    return done


@pytest.mark.parametrize("command", [("rollback", "suggestions"), ("promote", "suggestions", "{before}")])
def test_a_release_that_serves_again_has_the_items_of_now(place, releases, command):
    before, after = releases
    done = run(*(word.format(before=before) for word in command))
    assert place.asked == [("fn", "suggestions")]
    assert place.suggested() == STAYS
    home = place.registry("suggestions")
    champion = home.alias("champion").version
    assert champion not in releases
    assert f"{after} -> {before}" in done.stdout
    assert f"{champion} serves: 4 upcoming events" in done.stdout
    assert home.release(home.alias("previous").version).learnt_as == after


def test_the_items_of_then_can_be_kept(place, releases):
    before, _ = releases
    run("promote", "suggestions", before, "--no-refresh")
    run("rollback", "suggestions", "--no-refresh")
    run("rollback", "suggestions", "--no-refresh")
    assert place.asked == []
    assert place.registry("suggestions").alias("champion").version == before
    assert "off" in place.suggested()


def test_a_refresh_that_fails_is_told_and_the_move_stands(place, releases):
    place.__dict__["refuses"] = "only 1 of the 9 items that serve are among those of the lake"
    done = run("rollback", "suggestions")
    assert "deleted ones among them: only 1 of the 9" in done.stderr
    assert "twinloop refresh suggestions" in done.stderr
    assert place.registry("suggestions").alias("champion").version == releases[0]


def test_a_stack_without_the_function_is_told(place, releases):
    del place.outputs["RefreshFunction"]
    assert "has no function `refresh`; deploy it again" in run("rollback", "suggestions").stderr


def test_a_system_whose_releases_hold_no_items_is_not_refreshed(place):
    for number in (1, 2):
        version = place.release("video", {"ranking": {"model.onnx": b"%d" % number}})
        Registry(place.store, "video").promote(version, why="a test", by="tests")
    done = run("rollback", "video")
    assert place.asked == []
    assert "refresh" not in done.stdout + done.stderr
