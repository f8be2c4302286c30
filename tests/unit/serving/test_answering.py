"""Whatever of the house is standing, users get a list, and the answer says how good a one."""

import json
from datetime import UTC, datetime
from itertools import count

import numpy as np
import pytest
import tiny_system
from tiny_models import manifest, ranking, video_files

from twinloop.contracts.api import RecommendationsRequest
from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.system import Ranked
from twinloop.errors import BadInputError, IntegrityError, UnavailableError
from twinloop.features.schema import schema_hash
from twinloop.features.stores import MemoryOnlineStore
from twinloop.ports import MemoryObjectStore
from twinloop.serving.answering import Answering
from twinloop.serving.prediction_log import PredictionLog
from twinloop.serving.reading import Reader
from twinloop.serving.recommendations import RECOMMENDATIONS
from twinloop.serving.releases import ReleaseLoader
from twinloop.serving.routing import in_challenger
from twinloop.serving.slots import Slots
from twinloop.systems.video.features import FEATURES


class Lines:
    """A stream that keeps what it is sent, or fails in one of two ways."""

    def __init__(self):
        self.records = []
        self.calls = 0
        self.fails = None

    def send(self, system, lines):
        self.calls += 1
        if isinstance(self.fails, Exception):
            raise self.fails
        if self.fails:
            return {0}
        self.records += [json.loads(line) for line in lines]
        return set()


class BrokenStore:
    def __init__(self, error):
        self.error = error
        self.calls = 0

    def history(self, system, user_id):
        self.calls += 1
        raise self.error


class House:
    """A system's predictions with everything around it in memory."""

    def __init__(self, share=0.5, features=None):
        self.objects, self.store, self.lines = MemoryObjectStore(), MemoryOnlineStore(), Lines()
        self.store.merge("video", "known", [HistoryEntry("i2", 1000, 1.0)])
        self.share = share
        self.features = features
        self.presets, self.mix, self.explore = (), 0.0, True
        self.ids = count(1)
        self.build()

    def build(self):
        loader = ReleaseLoader(tiny_system.registry(self.objects), tiny_system.SYSTEM.predictor, self.features)
        slots = Slots(tiny_system.registry(self.objects), loader, look_every_s=0, patience_s=5)
        self.answering = Answering(
            "video",
            RECOMMENDATIONS,
            slots,
            Reader("video", self.store),
            PredictionLog(self.lines, "video"),
            presets=self.presets,
            challenger_share=self.share,
            preset_mix=self.mix,
            explore=self.explore,
            new_id=lambda: f"p{next(self.ids)}",
            now=lambda: datetime(2026, 1, 31, 12, tzinfo=UTC),
        )

    def add(self, alias="champion", files=None, **more):
        version = tiny_system.register(self.objects, files, **more)
        tiny_system.promote(self.objects, version, alias)
        return version

    def ask(self, user="known", **more):
        return self.answering.answer(RecommendationsRequest(user_id=user, **more))


@pytest.fixture
def house():
    return House()


def ids(answer):
    return [item.item_id for item in answer.items]


def inverted():
    return video_files(with_ranking=True, schema_hash=tiny_system.SCHEMA)


def failing():
    """Loads, and answers nothing that is a number."""
    files = inverted()
    files["ranking"]["model.onnx"] = ranking(float("nan"))
    return files


def damage(house, version, component, name):
    """Overwrite a registered file, as no honest writer would."""
    of = tiny_system.registry(house.objects).release(version).components[component]
    house.objects.write(f"registry/video/{component}/versions/{of}/{name}", b"damaged")


def test_a_known_user_gets_a_list_of_their_own(house):
    version = house.add()
    answer = house.ask(limit=3, include=("titles", "reasons"))
    assert ids(answer) == ["i3", "i4", "i5"]
    assert [item.rank for item in answer.items] == [1, 2, 3]
    assert answer.items[0].title == "Title of i3"
    assert answer.items[0].reason == "history"
    assert (answer.model_version, answer.arm, answer.prediction_id) == (version, "champion", "p1")
    assert not answer.degraded
    assert not answer.cold


def test_titles_and_reasons_come_when_asked_for(house):
    house.add()
    assert {(item.title, item.reason) for item in house.ask().items} == {(None, None)}


def test_an_unknown_user_gets_what_is_popular_and_is_told_so(house):
    house.add()
    answer = house.ask("nobody", include=("reasons",), exclude=("i0",))
    assert ids(answer)[:2] == ["i1", "i2"]
    assert answer.items[0].reason == "popular"
    assert answer.cold
    assert not answer.degraded
    assert answer.arm == "champion"


def test_without_a_model_the_answer_says_what_to_do(house):
    with pytest.raises(UnavailableError, match="run `twinloop learn video`"):
        house.ask()


@pytest.mark.parametrize("error", [UnavailableError("no answer"), IntegrityError("damaged")])
def test_without_a_store_everybody_gets_what_is_popular(house, error):
    house.add()
    house.store = BrokenStore(error)
    house.build()
    answer = house.ask()
    assert ids(answer)[0] == "i0"
    assert answer.degraded
    assert answer.cold


def test_a_store_that_is_away_is_left_alone_for_a_while(house):
    house.add()
    house.store = BrokenStore(UnavailableError("no answer"))
    house.build()
    for _ in range(5):
        assert house.ask().degraded
    assert house.store.calls == 1


def test_no_store_at_all(house):
    house.add()
    house.store = None
    house.build()
    assert house.ask().degraded


def test_a_champion_that_fails_is_stood_in_for_by_the_release_before(house, caplog):
    before = house.add()
    house.add(files=failing())
    answer = house.ask(limit=2)
    assert ids(answer) == ["i3", "i4"]
    assert (answer.arm, answer.model_version, answer.degraded, answer.cold) == ("control", before, True, False)
    assert "release did not answer" in caplog.text


def test_then_by_popular_items_without_what_the_user_has_seen(house):
    version = house.add(files=failing())
    answer = house.ask(limit=3, include=("titles", "reasons"))
    assert ids(answer) == ["i0", "i1", "i3"]
    assert (answer.arm, answer.model_version, answer.degraded, answer.cold) == ("control", version, True, False)
    assert {item.reason for item in answer.items} == {"popular"}


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "items.json.gz"])
def test_a_damaged_champion_is_refused_and_the_release_before_answers(house, name):
    before = house.add()
    damage(house, house.add(files=inverted()), "retrieval", name)
    answer = house.ask()
    assert (answer.model_version, answer.arm, answer.degraded) == (before, "control", True)


def test_a_release_whose_model_is_damaged_still_has_its_popular_items(house):
    version = house.add()
    damage(house, version, "retrieval", "model.onnx")
    answer = house.ask()
    assert ids(answer)[:2] == ["i0", "i1"]
    assert (answer.model_version, answer.arm, answer.degraded) == (version, "control", True)


def test_nothing_sound_is_left(house):
    damage(house, house.add(), "retrieval", "items.json.gz")
    with pytest.raises(UnavailableError, match="twinloop learn"):
        house.ask()


@pytest.mark.parametrize("features", [(), (FEATURES[0].model_copy(update={"version": 9}), *FEATURES[1:])])
def test_a_release_of_another_feature_schema_serves_only_what_is_popular(features):
    house = House(features=features)
    facts = {"schema_hash": schema_hash(FEATURES), "context_names": [feature.name for feature in FEATURES]}
    house.add(files=video_files(with_ranking=True, **facts), schema=schema_hash(FEATURES))
    answer = house.ask()
    assert ids(answer)[:2] == ["i0", "i1"]
    assert answer.degraded


def test_a_warm_process_follows_a_promotion_and_a_rollback(house):
    first = house.add()
    assert house.ask().model_version == first
    second = house.add(files=inverted())
    assert house.ask().model_version == second
    tiny_system.registry(house.objects).rollback(why="it was worse", by="the test")
    answer = house.ask()
    assert (answer.model_version, answer.arm, answer.degraded) == (first, "champion", False)


def test_a_warm_process_stays_on_what_it_had_when_the_new_release_is_broken(house):
    first = house.add()
    house.ask()
    damage(house, house.add(files=inverted()), "ranking", "model.onnx")
    answer = house.ask()
    assert (answer.model_version, answer.arm, answer.degraded) == (first, "champion", True)


def test_users_are_shared_between_champion_and_challenger(house):
    champion = house.add()
    challenger = house.add("challenger", inverted())
    house.ask()
    for number in range(50):
        answer = house.ask(f"user-{number}")
        meant = in_challenger(f"user-{number}", challenger, 0.5)
        assert (answer.arm, answer.model_version) == (("challenger", challenger) if meant else ("champion", champion))


def test_users_of_a_challenger_stay_when_its_items_are_refreshed(house):
    house.add()
    challenger = house.add("challenger", inverted())
    house.ask()
    before = {number for number in range(50) if house.ask(f"user-{number}").arm == "challenger"}
    registry = tiny_system.registry(house.objects)
    told = registry.release(challenger)
    draft = registry.draft_release(
        rung=told.rung,
        snapshot_id=told.snapshot_id,
        schema_hash=told.schema_hash,
        components=told.components,
        refreshed_from=told.learnt_as,
    )
    tiny_system.promote(house.objects, registry.register_release(draft, {}), "challenger")
    found = {number: house.ask(f"user-{number}") for number in range(50)}
    assert {number for number, answer in found.items() if answer.arm == "challenger"} == before
    assert {found[number].model_version for number in before} == {draft.version} != {challenger}


def test_a_challenger_that_fails_costs_its_users_nothing_but_the_experiment(house):
    house = House(share=1.0)
    champion = house.add()
    house.add("challenger", failing())
    house.ask()
    answer = house.ask()
    assert (answer.arm, answer.model_version, answer.degraded) == ("champion", champion, True)


def test_a_shadow_is_seen_by_the_log_alone(house):
    house.add()
    shadow = house.add("shadow", inverted())
    house.ask()
    answer = house.ask(limit=2)
    assert ids(answer) == ["i3", "i4"]
    logged = house.lines.records[-1]["shadow"]
    assert logged["model_version"] == shadow
    assert [item for item, _ in logged["items"]] == ["i1", "i0"]


def test_a_shadow_that_fails_is_noted_and_nothing_else_happens(house):
    house.add()
    house.add("shadow", failing())
    house.ask()
    assert not house.ask().degraded
    assert house.lines.records[-1]["shadow"]["failed"] == "IntegrityError"


def test_what_was_answered_is_logged(house):
    version = house.add()
    answer = house.ask(limit=2, context={"device": "tv", "hour": 20, "kids": False})
    record = house.lines.records[0]
    assert record.pop("milliseconds") > 0
    assert record == {
        "prediction_id": answer.prediction_id,
        "time": "2026-01-31T12:00:00.000+00:00",
        "system": "video",
        "user_id": "known",
        "context": {"device": "tv", "hour": 20, "kids": False},
        "arm": "champion",
        "model_version": version,
        "degraded": False,
        "cold": False,
        "history_events": 1,
        "items": [["i3", -1.0], ["i4", -2.0]],
        "preset": {"name": None, "propensity": 1.0, "drawn": False},
        "propensities": None,
        "p_click": None,
        "watch_s": None,
        "tried": [],
        "shadow": None,
    }


@pytest.mark.parametrize("fails", [True, RuntimeError("no network")])
def test_a_log_that_fails_costs_no_answer_and_is_left_alone_for_a_while(house, fails, caplog):
    house.add()
    house.lines.fails = fails
    assert [house.ask().degraded for _ in range(5)] == [False] * 5
    assert house.lines.calls == 1
    assert "prediction not logged" in caplog.text


def test_a_predictor_that_raises_anything_at_all_makes_no_error(house):
    house.add()

    class Wild:
        def rank(self, history, exclude, limit, *, at_ms, asked):
            raise ZeroDivisionError

        def popular(self, history, exclude, limit):
            raise MemoryError

    loader = ReleaseLoader(tiny_system.registry(house.objects), lambda models: Wild())
    slots = Slots(tiny_system.registry(house.objects), loader)
    wild = Answering(
        "video", RECOMMENDATIONS, slots, Reader("video", house.store), PredictionLog(None, "video"), new_id=lambda: "p"
    )
    with pytest.raises(UnavailableError, match="could answer"):
        wild.answer(RecommendationsRequest(user_id="known"))


def test_a_predictor_is_told_the_moment_which_is_now_unless_the_request_names_one(house):
    house.add()
    moments = []

    class Noting:
        def rank(self, history, exclude, limit, *, at_ms, asked):
            moments.append(at_ms)
            raise BadInputError("enough")

        def popular(self, history, exclude, limit):
            return Ranked((), np.zeros(0, np.float32))

        def title(self, item_id):
            return None

    loader = ReleaseLoader(tiny_system.registry(house.objects), lambda models: Noting())
    noting = Answering(
        "video",
        RECOMMENDATIONS,
        Slots(tiny_system.registry(house.objects), loader),
        Reader("video", house.store),
        PredictionLog(None, "video"),
        new_id=lambda: "p",
        now=lambda: datetime(2026, 1, 31, 12, tzinfo=UTC),
    )
    noting.answer(RecommendationsRequest(user_id="known"))
    noting.answer(RecommendationsRequest(user_id="known", time_ms=0))
    assert moments == [1_769_860_800_000, 0]


def test_cold_and_degraded_of_a_ranking_reach_the_answer(house):
    house.add()
    tame = type("Tame", (), {"rank": lambda *_, **__: Ranked((), __import__("numpy").zeros(0, "f4"), degraded=True)})
    tame.title = lambda self, item_id: None
    loader = ReleaseLoader(tiny_system.registry(house.objects), lambda models: tame())
    slots = Slots(tiny_system.registry(house.objects), loader)
    answer = Answering(
        "video", RECOMMENDATIONS, slots, Reader("video", house.store), PredictionLog(None, "video"), new_id=lambda: "p"
    ).answer(RecommendationsRequest(user_id="known"))
    assert answer.items == ()
    assert answer.degraded


def test_components_of_a_release_are_checked_against_each_other(house):
    files = video_files(schema_hash=tiny_system.SCHEMA)
    files["retrieval"]["manifest.json"] = manifest("retrieval", schema_hash="other")
    version = house.add(files=files)
    with pytest.raises(IntegrityError, match="feature schema other"):
        ReleaseLoader(tiny_system.registry(house.objects), tiny_system.SYSTEM.predictor).load(version)


def test_a_preset_is_checked_before_anything_is_asked(house):
    house.add()
    with pytest.raises(BadInputError, match="preset: is not known: this system has no presets"):
        house.ask(preset="fresh")
    house.presets = ("balanced", "fresh")
    house.build()
    with pytest.raises(BadInputError, match="preset: is not one of balanced, fresh"):
        house.ask(preset="loud")
    assert house.ask().preset == "balanced"
    assert house.ask(preset="fresh").preset == "fresh"
    assert [record["preset"]["drawn"] for record in house.lines.records] == [True, False]


def with_new():
    """Eleven places and more, and new items to be tried at the sixth."""
    new = {"item_ids": ["n0", "n1"], "titles": ["New", "Newer"]}
    return video_files(30, catalogue={"new": new}, schema_hash=tiny_system.SCHEMA)


def tried(answer):
    return [item for item in answer.items if item.item_id.startswith("n")]


def test_what_was_left_to_chance_is_logged(house):
    house.add(files=with_new())
    answers = [house.ask(limit=10, include=("reasons", "titles")) for _ in range(60)]
    shown = [answer for answer in answers if tried(answer)]
    assert 0 < len(shown) < 30
    (item,) = tried(shown[0])
    assert (item.rank, item.reason, item.reasons[0].code) == (6, "new", "new")
    assert item.title in ("New", "Newer")
    assert {item.reason for item in shown[0].items if not item.item_id.startswith("n")} == {"history"}
    for answer, record in zip(answers, house.lines.records, strict=True):
        assert record["prediction_id"] == answer.prediction_id
        assert record["propensities"] == [1.0] * 5 + [0.1 if tried(answer) else 0.8] + [1.0] * 4
        assert record["tried"] == ([5] if tried(answer) else [])


def test_nothing_is_tried_where_a_request_or_the_house_says_so(house):
    house.add(files=with_new())
    assert not any(tried(house.ask(limit=10, explore=False)) for _ in range(60))
    house.explore = False
    house.build()
    assert not any(tried(house.ask(limit=10)) for _ in range(60))
    assert {record["propensities"] for record in house.lines.records} == {None}


def test_a_share_of_the_requests_gets_any_preset(house):
    house.presets, house.mix = ("balanced", "diverse"), 0.5
    house.build()
    house.add()
    names = [house.ask().preset for _ in range(100)]
    assert 10 < names.count("diverse") < 45
    told = {(r["preset"]["name"], r["preset"]["propensity"]) for r in house.lines.records}
    assert told == {("balanced", 0.75), ("diverse", 0.25)}


def test_a_fallback_is_of_no_preset(house):
    house.presets = ("balanced",)
    house.build()
    house.add(files=failing())
    assert house.ask(preset="balanced").preset is None
    assert house.lines.records[0]["preset"] == {"name": None, "propensity": 1.0, "drawn": False}


def test_the_context_reaches_the_list_of_somebody_new(house):
    segments = {"keys": [{"key": "device", "gain": 1, "values": {"tv": {"items": [4], "boosts": [9000]}}}]}
    house.add(files=video_files(segments=segments, schema_hash=tiny_system.SCHEMA))
    assert ids(house.ask("nobody", limit=2)) == ["i0", "i1"]
    answer = house.ask("nobody", limit=2, context={"device": "tv"}, include=("reasons",))
    assert ids(answer) == ["i4", "i0"]
    assert [item.reasons[0].code for item in answer.items] == ["popular_in_context", "popular"]
