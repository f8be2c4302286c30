"""`twinloop features`: every definition is listed, and values are shown as a request would have them."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from twinloop import systems
from twinloop.cli import app
from twinloop.commands import features as command
from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.tally import Happening, Tally, key_of
from twinloop.features.counting import count
from twinloop.features.stores import MemoryFeatureStore
from twinloop.systems.video.features import COUNTING, amounts

VIDEO = systems.load("video")
NOW, HOUR, DAY = 1_767_225_600_000, 3_600_000, 86_400_000


def shown(table: object) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def line(text: str, name: str) -> str:
    [found] = [row for row in text.splitlines() if row.strip().startswith(f"{name} ")]
    return " ".join(found.split())


@pytest.fixture
def store() -> MemoryFeatureStore:
    """A user who was shown two videos yesterday, and clicked one of them ten days ago."""
    store = MemoryFeatureStore()
    store.merge("video", "u", [HistoryEntry("a", NOW - 10 * DAY, 1.0)])
    attributes = {"author_id": "x", "duration_s": 12.5, "published_ms": NOW - 3 * DAY}
    store.settle("video", ("item", "a"), Tally(), attributes, COUNTING.layout("item"))
    for n, (kind, ago) in enumerate((("click", 10 * DAY), ("impression", 90_000), ("impression", 2 * HOUR))):
        happening = Happening(NOW - ago, key_of(str(n)), amounts({"type": kind}))
        assert count("video", COUNTING, store, [("u", "a", happening)]) == {}
    return store


def test_every_definition_is_listed_with_its_terms() -> None:
    text = shown(command.definitions_table(VIDEO))
    for feature in (*VIDEO.features, *COUNTING.features):
        assert feature.owner in line(text, feature.name)
    assert line(text, "user_last_liked") == "user_last_liked user list of 20 all [] 365 d seconds recommendations"
    assert line(text, "user_click_rate_7d") == (
        "user_click_rate_7d user rate clicks / impressions 7 d 0.1 8 d seconds recommendations"
    )
    assert line(text, "user_tag_watch_share_30d") == (
        "user_tag_watch_share_30d user x item share watch_ms, same tag 30 d 0.1 31 d seconds recommendations"
    )
    assert line(text, "item_duration_s") == (
        "item_duration_s item attribute duration_s all 0 for ever materialise recommendations"
    )


def test_a_users_values_are_shown_with_their_ages(store: MemoryFeatureStore) -> None:
    text = shown(command.values_table(VIDEO, store, "u", None, at_ms=NOW))
    assert line(text, "user_impressions_1d") == "user_impressions_1d 2 1.5 min"
    assert line(text, "user_last_liked") == "user_last_liked a 10.0 d"
    assert line(text, "user_days_since_click") == "user_days_since_click 10 1.5 min"
    assert line(text, "user_account_age_days") == "user_account_age_days -1 -"
    assert "item_impressions_1d" not in text


def test_an_item_shows_its_own_and_what_the_two_share(store: MemoryFeatureStore) -> None:
    text = shown(command.values_table(VIDEO, store, "u", "a", at_ms=NOW))
    assert "user u, item a" in text
    assert line(text, "item_impressions_1d") == "item_impressions_1d 2 1.5 min"
    assert line(text, "item_age_days") == "item_age_days 3 -"
    assert line(text, "user_item_impressions_30d") == "user_item_impressions_30d 2 1.5 min"


def test_what_has_outlived_its_time_says_so(store: MemoryFeatureStore) -> None:
    text = shown(command.values_table(VIDEO, store, "u", None, at_ms=NOW + 5 * DAY))
    assert line(text, "user_impressions_1d") == "user_impressions_1d 0 5.0 d expired: the default"
    assert "expired" not in line(text, "user_impressions_7d")


def test_of_a_stranger_everything_is_the_default() -> None:
    text = shown(command.values_table(VIDEO, MemoryFeatureStore(), "nobody", None, at_ms=NOW))
    assert line(text, "user_click_rate_7d") == "user_click_rate_7d 0.1 -"
    assert "expired" not in text


def test_the_command_lists_and_asks(store: MemoryFeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = CliRunner().invoke(app, ["features", "video"])
    assert (listed.exit_code, "user_click_rate_7d" in listed.output) == (0, True)
    monkeypatch.setattr(command, "deployment", lambda: SimpleNamespace(outputs={"Table": "twinloop"}))
    monkeypatch.setattr(command, "DynamoFeatureStore", lambda table: {"twinloop": store}[table])
    asked = CliRunner().invoke(app, ["features", "video", "--user", "u", "--item", "a"])
    assert (asked.exit_code, "user u, item a" in asked.output) == (0, True)
    assert CliRunner().invoke(app, ["features", "nothing"]).exit_code == 1
    assert CliRunner().invoke(app, ["features", "video", "--item", "a"]).exit_code == 1
