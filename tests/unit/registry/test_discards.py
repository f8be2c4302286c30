"""What refreshes made is discarded once nothing has named it for a while; nothing else ever is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from twinloop import systems
from twinloop.contracts.artefacts import ReleaseManifest
from twinloop.contracts.system import Refresh, Refreshed
from twinloop.errors import BadInputError, IntegrityError, NotFoundError, UnavailableError
from twinloop.ports import MemoryObjectStore
from twinloop.registry.discards import discard
from twinloop.registry.names import ALIASES
from twinloop.registry.refresh import refresh
from twinloop.registry.registry import Registry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEEK = 7 * DAY
MODEL, ITEMS = {"model.onnx": b"learnt"}, "items.json.gz"


class House:
    """A registry whose clock is turned by hand. A release has an encoder that stays and an index of items."""

    def __init__(self, store=None):
        self.store, self.now = store or MemoryObjectStore(), NOW
        self.registry = Registry(self.store, "search", clock=lambda: self.now)

    def learn(self, items):
        draft = self.draft(items)
        self.registry.register_release(draft, {"card.html": b"<p>", "metrics.json": b"{}"})
        return draft.version

    def draft(self, items, learnt=None, encoder=b"encoder"):
        parts = {
            "encoder": self.registry.register_component("encoder", {"model.onnx": encoder}),
            "index": self.registry.register_component("index", {**MODEL, ITEMS: items}),
        }
        return self.registry.draft_release(
            rung="r", snapshot_id="s", schema_hash="h", components=parts, refreshed_from=learnt
        )

    def refresh(self, items, alias="champion"):
        """Refresh what an alias names, an hour later."""
        self.now += HOUR
        of = self.registry.alias(alias).version
        version = self.registry.register_release(self.draft(items, self.registry.release(of).learnt_as), {})
        if alias == "previous":
            self.registry.move_previous(version, why="w", by="t", expected=of)
        else:
            self.registry.move_alias(alias, version, why="w", by="t", expected=of, keep_previous=alias == "champion")
        return version

    def discard(self, after=timedelta(), **more):
        return discard(self.store, "search", before=self.now + after - WEEK, **more)

    def left(self, model="release"):
        root = f"registry/search/{model}/versions/"
        return {key.removeprefix(root).split("/")[0] for key in self.store.keys(root)}

    def whole(self):
        return all(self.registry.read_release(version) for version in self.registry.versions())


@pytest.fixture
def house():
    """A learnt champion and four refreshes of it."""
    made = House()
    made.learnt = made.learn(b"0")
    made.registry.promote(made.learnt, why="w", by="t")
    made.refreshed = [made.refresh(b"%d" % number) for number in range(1, 5)]
    return made


def test_only_what_a_refresh_made_says_so(house):
    assert house.registry.release(house.learnt).refreshed_from is None
    assert b"refreshed_from" not in house.registry.release_file(house.learnt, "manifest.json")
    for version in house.refreshed:  # of the learnt release, not of the one before
        assert house.registry.release(version).refreshed_from == house.learnt
        assert house.registry.release(version).learnt_as == house.learnt
    assert house.registry.release(house.learnt).learnt_as == house.learnt


def test_a_manifest_from_before_refreshes_said_so_is_readable():
    told = {"system": "search", "version": "v", "rung": "r", "snapshot_id": "s", "schema_hash": "h"}
    manifest = ReleaseManifest.model_validate(told | {"components": {}, "created_at": NOW})
    assert (manifest.refreshed_from, manifest.learnt_as) == (None, "v")


def test_a_refresh_of_the_same_components_is_not_the_learnt_release(house):
    back = house.refresh(b"0")
    assert back != house.learnt
    assert house.registry.release(back).components == house.registry.release(house.learnt).components


def test_what_nothing_has_named_for_a_week_goes_and_the_rest_stays(house):
    *old, champion = house.refreshed
    components = {version: house.registry.release(version).components["index"] for version in house.refreshed}
    learnt = house.registry.release(house.learnt).components["index"]
    assert house.discard(WEEK - HOUR) == []
    assert house.discard(WEEK + 2 * DAY) == old
    assert house.left() == {house.learnt, champion} == set(house.registry.versions())
    assert house.left("index") == {learnt, components[champion]}
    assert len(house.left("encoder")) == 1
    assert house.whole()
    assert [move.version for move in house.registry.history()] == [house.learnt, *house.refreshed]
    house.registry.rollback(why="bad", by="t")
    assert house.registry.alias("champion").version == house.learnt
    assert house.discard(30 * DAY) == []  # the refreshed champion is `previous` now
    assert house.whole()


def test_a_day_is_waited_for_so_that_not_every_hour_reads_manifests(house):
    class Counting(MemoryObjectStore):
        reads = 0

        def read(self, key):
            self.reads += 1
            return super().read(key)

    counting = Counting()
    for key in house.store.keys(""):
        counting.write(key, house.store.read(key).body)
    counting.reads = 0
    assert discard(counting, "search", before=house.now + timedelta(hours=20)) == []
    assert counting.reads <= 4  # the aliases
    assert len(discard(counting, "search", before=house.now + 2 * DAY)) == 3


def test_what_served_until_today_stays_however_old_it_is(house):
    champion = house.refreshed[-1]
    house.discard(WEEK + 2 * DAY)
    house.now += 60 * DAY  # nothing changed for two months
    successor = house.refresh(b"news")
    assert house.discard() == []
    assert house.discard(WEEK - HOUR) == []
    house.registry.move_alias("champion", champion, why="yesterday's was better", by="t", keep_previous=True)
    assert house.discard(WEEK + 2 * DAY) == [successor]


def test_what_was_previous_until_today_stays(house):
    """Learning replaces the champion, twice: the refreshed one was `previous` in between."""
    refreshed = house.refreshed[-1]
    house.now += DAY
    house.registry.promote(house.learn(b"second"), why="w", by="t")
    house.now += 60 * DAY
    assert refreshed not in house.discard()
    house.registry.promote(house.learn(b"third"), why="w", by="t")
    house.now += 2 * DAY
    assert house.discard() == []
    house.now += WEEK
    assert house.discard() == [refreshed]


@pytest.mark.parametrize("alias", ["challenger", "shadow"])
def test_what_another_alias_names_stays(house, alias):
    house.registry.move_alias(alias, house.refreshed[0], why="w", by="t")
    assert house.discard(60 * DAY) == house.refreshed[1:3]
    house.now += 60 * DAY
    house.registry.move_alias(alias, None, why="over", by="t")
    assert house.discard(WEEK - HOUR) == []
    assert house.discard(WEEK + DAY) == house.refreshed[:1]


def test_a_component_of_another_release_stays(house):
    """The items were once more what they had been: a younger release has an older one's component."""
    shared = house.registry.release(house.refreshed[0]).components["index"]
    house.now += HOUR
    again = house.registry.register_release(house.draft(b"1", house.learnt, encoder=b"another"), {})
    house.registry.move_alias("shadow", again, why="w", by="t")
    assert house.registry.release(again).components["index"] == shared
    assert house.discard(60 * DAY) == house.refreshed[:3]
    assert house.left() == {house.learnt, again, house.refreshed[3]}
    assert shared in house.left("index")
    assert house.whole()


def test_what_learning_made_is_never_touched_and_neither_is_what_it_left_half_written(house):
    unused = house.learn(b"a candidate that was kept out")
    half = house.draft(b"never judged")
    house.store.write(f"registry/search/release/versions/{half.version}/manifest.json", b"{}")
    loose = house.registry.register_component("index", {**MODEL, ITEMS: b"of a job whose gate died"})
    house.discard(999 * DAY)
    assert {unused, half.version, house.learnt} <= house.left()
    assert loose in house.left("index")
    assert house.whole()


def test_one_run_is_bounded_and_the_next_goes_on(house):
    assert house.discard(60 * DAY, most=2) == house.refreshed[:2]
    assert house.discard(60 * DAY, most=2) == house.refreshed[2:3]
    assert house.discard(60 * DAY, most=2) == []


class Dying(MemoryObjectStore):
    """Refuses every deletion after the first `deletions`."""

    deletions = -1

    def delete(self, key):
        if self.deletions == 0:
            raise UnavailableError("gone")
        self.deletions -= 1
        super().delete(key)


def of_a_dying_store():
    house = House(Dying())
    house.learnt = house.learn(b"0")
    house.registry.promote(house.learnt, why="w", by="t")
    house.refreshed = [house.refresh(b"%d" % number) for number in range(1, 4)]
    return house


def deletions_of_a_run():
    house = of_a_dying_store()
    house.discard(60 * DAY)
    return -1 - house.store.deletions


@pytest.mark.parametrize("deletions", range(deletions_of_a_run()))
def test_whoever_dies_half_way_leaves_nothing_wrong_and_the_next_run_goes_on(deletions):
    house = of_a_dying_store()
    house.store.deletions = deletions
    with pytest.raises(UnavailableError):
        house.discard(60 * DAY)
    assert house.whole()
    for version in set(house.refreshed) - set(house.registry.versions()):
        with pytest.raises(NotFoundError, match="it was discarded since"):
            house.registry.promote(version, why="w", by="t")
    house.store.deletions = -1
    house.discard(60 * DAY)
    untouched = House()
    untouched.registry.promote(untouched.learn(b"0"), why="w", by="t")
    for number in range(1, 4):
        untouched.refresh(b"%d" % number)
    untouched.discard(60 * DAY)
    assert list(house.store.keys("registry/search/release/versions/")) == list(
        untouched.store.keys("registry/search/release/versions/")
    )
    assert house.left("index") == untouched.left("index")
    assert house.left() == {house.learnt, house.refreshed[-1]}
    assert house.whole()


@pytest.mark.parametrize("deletions", range(deletions_of_a_run()))
def test_the_same_content_again_is_whole_under_the_same_id_wherever_the_run_died(deletions):
    house = of_a_dying_store()
    first = house.refreshed[0]
    parts = house.registry.release(first).components
    house.store.deletions = deletions
    with pytest.raises(UnavailableError):
        house.discard(60 * DAY)
    house.store.deletions = -1
    again = house.refresh(b"1")
    assert again == first
    assert house.registry.release(again).components == parts
    assert house.registry.read_release(again)["index"] == {**MODEL, ITEMS: b"1"}
    assert first not in house.discard(60 * DAY)
    assert house.whole()
    assert house.registry.alias("champion").version == first


def test_a_discarded_version_is_told_from_one_that_never_was(house):
    gone = house.discard(60 * DAY)[0]
    with pytest.raises(NotFoundError, match=f"no complete version {gone} of release: .* it was discarded since"):
        house.registry.promote(gone, why="w", by="t")
    with pytest.raises(NotFoundError) as never:
        house.registry.promote("20260301T120000-00000000", why="w", by="t")
    assert "discarded" not in str(never.value)


def test_a_manifest_that_cannot_be_read_is_left_alone(house):
    spoilt, *others, _ = house.refreshed
    root = f"registry/search/release/versions/{spoilt}/"
    house.store.write(root + "manifest.json", b"not json")
    assert house.discard(60 * DAY) == others
    assert root + "checksums.json" in set(house.store.keys(root))


def test_files_of_a_refresh_are_the_registrys(house):
    with pytest.raises(BadInputError, match=r"refreshed\.json"):
        house.registry.register_release(house.draft(b"x"), {"refreshed.json": b"{}"})


# ---------------------------------------------------------------- the refresh that ends with it


class Refreshing:
    """A system whose refresh is told what to do of each alias: items, None for no change, or an error."""

    def __init__(self, house, **does):
        self.house, self.does, self.asked = house, does, []
        self.system = replace(systems.load("search"), refresh=self.refresh)

    def refresh(self, objects, asked):
        self.asked.append(asked.alias)
        does = self.does[asked.alias]
        if isinstance(does, Exception):
            raise does
        if does is None:
            return Refreshed(None, 0, 0, "nothing has changed")
        version = self.house.refresh(does, asked.alias)
        return Refreshed(version, 1, 1, f"{version} serves")

    def run(self, **more):
        return refresh(self.system, self.house.store, Refresh(by="t", now=lambda: self.house.now, **more))


def names(house):
    states = {alias: house.registry.alias(alias) for alias in ALIASES}
    return {alias: state.version for alias, state in states.items() if state}


def test_where_nobody_challenges_only_the_champion_is_refreshed(house):
    doing = Refreshing(house, champion=b"new")
    made = doing.run()
    assert doing.asked == ["champion"]
    assert names(house) == {"champion": made.version, "previous": house.learnt}
    assert (made.said, made.failed) == (f"{made.version} serves", ())


def test_challenger_and_shadow_are_refreshed_of_their_own_models(house):
    house.registry.move_alias("challenger", house.learn(b"other models"), why="w", by="t")
    house.registry.move_alias("shadow", house.learn(b"third models"), why="w", by="t")
    before = names(house)
    made = Refreshing(house, champion=b"a", challenger=b"b", shadow=b"c").run()
    after = names(house)
    assert made.version == after["champion"]
    for alias in ("challenger", "shadow"):
        assert house.registry.release(after[alias]).refreshed_from == before[alias]
        assert f"; {alias}: {after[alias]} serves" in made.said


@pytest.mark.parametrize("error", [IntegrityError("a proof fails"), ZeroDivisionError()])
def test_a_fault_of_the_challenger_stops_neither_champion_nor_shadow(house, error):
    house.registry.move_alias("challenger", house.learn(b"other models"), why="w", by="t")
    house.registry.move_alias("shadow", house.learn(b"third models"), why="w", by="t")
    before = names(house)
    made = Refreshing(house, champion=b"a", challenger=error, shadow=b"c").run()
    after = names(house)
    assert made.version == after["champion"] != before["champion"]
    assert after["challenger"] == before["challenger"]
    assert after["shadow"] != before["shadow"]
    assert "challenger: not refreshed" in made.said
    assert made.failed == ("challenger",)


def test_a_challenger_is_refreshed_where_the_champion_has_nothing_new(house):
    house.registry.move_alias("challenger", house.learn(b"other models"), why="w", by="t")
    made = Refreshing(house, champion=None, challenger=b"b").run()
    assert made.version is None
    assert "; challenger: " in made.said


def test_a_challenger_that_is_the_champion_follows_it(house):
    """As after its promotion: it stays the same release, and is not built twice."""
    house.registry.move_alias("challenger", house.registry.alias("champion").version, why="w", by="t")
    doing = Refreshing(house, champion=b"new")
    made = doing.run()
    assert doing.asked == ["champion"]
    now = {"champion": made.version, "challenger": made.version, "previous": house.learnt}
    assert names(house) == now
    Refreshing(house, champion=None).run()
    assert names(house) == now


def of_other_models(house):
    """Another release becomes the champion; returns what is `previous` since."""
    house.registry.promote(house.learn(b"other models"), why="w", by="t")
    return house.registry.alias("previous").version


@pytest.mark.parametrize("champion", [b"new", None])
def test_previous_has_the_items_of_now_and_its_own_models(house, champion):
    before, learnt = of_other_models(house), house.registry.alias("champion").version
    made = Refreshing(house, champion=champion, previous=b"kept up").run()
    after = names(house)
    assert (after["champion"], made.failed) == (made.version or learnt, ())
    assert after["previous"] not in (before, house.learnt)
    assert house.registry.release(after["previous"]).refreshed_from == house.learnt
    assert f"; previous: {after['previous']} serves" in made.said
    house.registry.rollback(why="bad models", by="t")
    assert house.registry.release(house.registry.alias("champion").version).learnt_as == house.learnt
    assert house.registry.alias("previous").version == after["champion"]


def test_a_fault_of_previous_is_told_and_changes_nothing(house):
    before = of_other_models(house)
    made = Refreshing(house, champion=b"new", challenger=None, previous=IntegrityError("cannot be read")).run()
    assert (names(house)["champion"], names(house)["previous"]) == (made.version, before)
    assert made.said.endswith("; previous: not refreshed, cannot be read")
    assert made.failed == ("previous",)


def test_a_challenger_that_is_previous_is_built_once(house):
    """As a champion that lost its place and goes on beside the new one."""
    before = of_other_models(house)
    house.registry.move_alias("challenger", before, why="w", by="t")
    doing = Refreshing(house, champion=b"a", challenger=b"b")
    made = doing.run()
    after = names(house)
    assert doing.asked == ["champion", "challenger"]
    assert after["previous"] == after["challenger"] != before
    assert made.said.endswith(f"; previous: {after['previous']} serves, too")


def test_who_promotes_meanwhile_keeps_what_is_previous_by_that(house):
    before = of_other_models(house)
    third = house.learn(b"third models")

    class Overtaken(Refreshing):
        def refresh(self, objects, asked):
            if asked.alias == "previous":
                house.registry.promote(third, why="better", by="gate")
                version = house.registry.register_release(house.draft(b"late", house.learnt), {})
                house.registry.move_previous(version, why="w", by="t", expected=before)
            return super().refresh(objects, asked)

    made = Overtaken(house, champion=b"a").run()
    assert (names(house)["champion"], names(house)["previous"]) == (third, made.version)
    assert made.failed == ("previous",)


def test_what_previous_named_goes_after_a_week_and_what_it_names_stays(house):
    of_other_models(house)
    replaced = house.refreshed[-1]
    house.now += DAY
    latest = house.refresh(b"previous of now", "previous")
    house.now += DAY
    assert replaced not in house.discard()
    assert house.discard(60 * DAY) == house.refreshed
    assert latest in house.left()
    assert house.whole()
    house.registry.rollback(why="bad models", by="t")
    assert house.registry.alias("champion").version == latest


def test_the_champions_fault_is_raised(house):
    with pytest.raises(BadInputError, match="an accident"):
        Refreshing(house, champion=BadInputError("an accident")).run()


def test_a_refresh_ends_with_what_earlier_ones_left(house):
    house.now += WEEK + 2 * DAY
    made = Refreshing(house, champion=b"new").run()
    assert made.said.endswith("; 3 releases of earlier refreshes were discarded")
    assert house.left() == {house.learnt, house.refreshed[-1], made.version}  # what served until now is kept
    house.now += 2 * DAY
    assert (
        Refreshing(house, champion=None).run(keep=DAY).said.endswith("; 1 releases of earlier refreshes were discarded")
    )


def test_what_cannot_be_discarded_fails_no_refresh(caplog):
    house = of_a_dying_store()
    house.now += WEEK + 2 * DAY
    house.store.deletions = 0
    made = Refreshing(house, champion=b"new").run()
    assert made.version == house.registry.alias("champion").version
    assert "earlier releases were not discarded" in made.said
    assert "the next refresh goes on" in caplog.text
