"""A process keeps up with the aliases, refuses what is broken, and never stops serving what it has."""

import threading
from dataclasses import dataclass

import pytest

from twinloop.errors import IntegrityError, NotFoundError, UnavailableError
from twinloop.serving.releases import LoadedRelease
from twinloop.serving.slots import Slots


@dataclass
class State:
    version: str


class FakeRegistry:
    def __init__(self, **aliases):
        self.aliases = aliases
        self.reads = 0
        self.down = False
        self.denied = set()

    def alias(self, name):
        self.reads += 1
        if self.down or name in self.denied:
            raise UnavailableError("no answer")
        version = self.aliases.get(name)
        return State(version) if version else None


class FakeLoader:
    """Loads any version but those in `broken` (for good) and `away` (for now)."""

    def __init__(self):
        self.loaded = []
        self.broken = set()
        self.away = set()
        self.no_baseline = set()
        self.gate = threading.Event()
        self.gate.set()

    def load(self, version):
        assert self.gate.wait(10)
        self.loaded.append(version)
        if version in self.broken:
            raise IntegrityError("checksum differs")
        if version in self.away:
            raise UnavailableError("no answer")
        return LoadedRelease(version, object())

    def load_baseline(self, version):
        if version in self.no_baseline:
            raise NotFoundError("nothing there")
        return LoadedRelease(version, object(), whole=False)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def world():
    registry, loader, clock = FakeRegistry(champion="v1"), FakeLoader(), Clock()
    slots = Slots(registry, loader, look_every_s=10, patience_s=5, clock=clock)
    return registry, loader, clock, slots


def version(release):
    return release.version if release else None


def test_the_first_request_waits_for_the_champion_and_for_nothing_else(world):
    registry, loader, _, slots = world
    registry.aliases |= {"challenger": "v2", "shadow": "v3"}
    serving = slots.current()
    assert (version(serving.champion), serving.challenger, serving.shadow) == ("v1", None, None)
    assert registry.reads == 1
    serving = slots.current()
    assert (version(serving.challenger), version(serving.shadow)) == ("v2", "v3")
    assert loader.loaded == ["v1", "v2", "v3"]


def test_aliases_are_read_when_a_look_is_due_and_not_before(world):
    registry, loader, clock, slots = world
    slots.current()
    slots.current()
    reads = registry.reads
    registry.aliases["champion"] = "v2"
    clock.now += 9.9
    assert version(slots.current().champion) == "v1"
    assert registry.reads == reads
    clock.now += 0.1
    assert version(slots.current().champion) == "v2"
    assert loader.loaded == ["v1", "v2"]


def test_a_process_that_was_frozen_for_long_answers_from_the_new_release_at_once(world):
    registry, _, clock, slots = world
    slots.current()
    registry.aliases["champion"] = "v2"
    clock.now += 3600
    assert version(slots.current().champion) == "v2"


def test_a_broken_release_is_refused_and_the_old_one_stays(world, caplog):
    registry, loader, clock, slots = world
    slots.current()
    slots.current()
    registry.aliases["champion"] = "v2"
    loader.broken.add("v2")
    for _ in range(3):
        clock.now += 10
        serving = slots.current()
        assert (version(serving.champion), serving.wanted) == ("v1", "v2")
    assert loader.loaded == ["v1", "v2"], "a refused release is not loaded again and again"
    assert "release refused" in caplog.text
    loader.broken.clear()
    clock.now += 300
    assert version(slots.current().champion) == "v2"


def test_a_release_that_could_not_be_fetched_is_tried_again(world):
    registry, loader, clock, slots = world
    slots.current()
    registry.aliases["champion"] = "v2"
    loader.away.add("v2")
    assert version(slots.current().champion) == "v1"
    loader.away.clear()
    clock.now += 10
    assert version(slots.current().champion) == "v2"


def test_what_serves_goes_on_while_the_registry_is_away_or_the_alias_is_gone(world):
    registry, _, clock, slots = world
    slots.current()
    registry.down = True
    clock.now += 10
    assert version(slots.current().champion) == "v1"
    registry.down = False
    registry.aliases.clear()
    clock.now += 10
    assert version(slots.current().champion) == "v1"


def test_an_alias_that_cannot_be_read_does_not_keep_the_others_from_being_read(world, caplog):
    registry, _, clock, slots = world
    registry.aliases |= {"challenger": "v2", "shadow": "v3"}
    registry.denied = {"challenger"}
    slots.current()
    serving = slots.current()
    assert (version(serving.champion), serving.challenger, version(serving.shadow)) == ("v1", None, "v3")
    assert "alias not read" in caplog.text
    registry.denied.clear()
    clock.now += 10
    assert version(slots.current().challenger) == "v2"
    registry.denied = {"challenger"}
    clock.now += 10
    assert version(slots.current().challenger) == "v2", "what cannot be read now was not taken away"


def test_a_registry_that_is_away_is_asked_once_a_look_and_not_once_an_alias(world):
    registry, _, clock, slots = world
    slots.current()
    slots.current()
    registry.down = True
    reads = registry.reads
    clock.now += 10
    slots.current()
    assert registry.reads == reads + 1


def test_a_challenger_that_is_promoted_is_not_loaded_again_and_its_slot_is_emptied(world):
    registry, loader, clock, slots = world
    registry.aliases["challenger"] = "v2"
    slots.current()
    slots.current()
    registry.aliases = {"champion": "v2", "previous": "v1"}
    clock.now += 10
    serving = slots.current()
    assert (version(serving.champion), serving.challenger) == ("v2", None)
    assert loader.loaded == ["v1", "v2"]


def test_a_slow_load_holds_up_no_request_for_longer_than_its_patience():
    registry, loader, clock = FakeRegistry(champion="v1"), FakeLoader(), Clock()
    slots = Slots(registry, loader, look_every_s=10, patience_s=0.05, clock=clock)
    slots.current()
    registry.aliases["champion"] = "v2"
    loader.gate.clear()
    assert version(slots.current().champion) == "v1"
    assert version(slots.current().champion) == "v1"
    loader.gate.set()
    slots._look.join(5)
    assert version(slots.current().champion) == "v2"


def test_many_requests_at_once_load_a_release_once(world):
    _, loader, _, slots = world
    threads = [threading.Thread(target=slots.current) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loader.loaded == ["v1"]


def test_without_a_champion_the_registry_is_asked_once_a_second(world):
    registry, _, clock, slots = world
    registry.aliases.clear()
    assert [slots.current().champion for _ in range(5)] == [None] * 5
    assert registry.reads == 1
    registry.aliases["champion"] = "v1"
    clock.now += 1
    assert version(slots.current().champion) == "v1"


def test_the_release_before_is_loaded_when_it_is_needed(world):
    registry, loader, clock, slots = world
    assert slots.standby() is None
    registry.aliases["previous"] = "v0"
    clock.now += 10
    assert version(slots.standby()) == "v0"
    assert version(slots.standby()) == "v0"
    assert loader.loaded == ["v0"]


def test_the_baseline_comes_from_whatever_can_be_read(world):
    registry, loader, _, slots = world
    loader.broken = {"v1", "v0"}
    registry.aliases["previous"] = "v0"
    assert slots.current().champion is None
    assert slots.standby() is None
    assert version(slots.baseline()) == "v1"
    assert slots.standby() is None, "a baseline is not a release that can be asked"


def test_the_baseline_of_the_release_before_where_the_champion_has_none(world):
    registry, loader, _, slots = world
    registry.aliases["previous"] = "v0"
    loader.broken = loader.no_baseline = {"v1"}
    assert slots.current().champion is None
    assert version(slots.baseline()) == "v0"


def test_there_may_be_nothing_at_all(world):
    registry, _, _, slots = world
    registry.down = True
    assert slots.current().champion is None
    assert slots.standby() is None
    assert slots.baseline() is None


def test_the_live_calibration_is_looked_at_with_the_aliases_and_not_by_the_first_request():
    registry, clock, looks = FakeRegistry(champion="v1"), Clock(), []

    def live():
        looks.append(clock.now)
        return len(looks)

    slots = Slots(registry, FakeLoader(), look_every_s=10, patience_s=5, clock=clock, live=live)
    assert slots.current().live is None
    assert slots.current().live == 1
    clock.now += 9.9
    assert slots.current().live == 1
    clock.now += 0.1
    assert slots.current().live == 2
    registry.down = True
    clock.now += 10
    assert slots.current().live == 2, "where nothing answers nobody asks for more"
    assert len(looks) == 2
