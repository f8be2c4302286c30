"""What a model is asked with: the features of one user and many items, and a cache that never says what is too old."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from engaged import DAY, NAMES, NOW_MS, item, shown
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.tally import HOUR_MS, Happening, Layout, Tally, add, identity, mark_of, pack
from twinloop.errors import IntegrityError
from twinloop.features.knowledge import PRESENT_MS, About, ItemCache, UserKnowledge, about, of_item
from twinloop.features.stores import Known, counted
from twinloop.features.values import compute
from twinloop.systems.video.features import COUNTING

OTHER = Layout(1, 0, 4, ((HOUR_MS, 24),), identity(["something else"]))
ALL = tuple(feature.name for feature in COUNTING.features if feature.source != "history")


class Store:
    """Items by id, how often they were asked for, and whether it answers."""

    def __init__(self, items: dict[str, Known]) -> None:
        self.items, self.calls, self.down = items, list[list[str]](), False

    def read(self, ids: Sequence[str]) -> list[Known] | None:
        self.calls.append(list(ids))
        return None if self.down else [self.items.get(item_id, Known()) for item_id in ids]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_user() -> Known:
    events = shown(9, clicks=3, key=50)
    marked = [event._replace(marks=(mark_of("a"), mark_of("x"), 0)) for event in events]
    return counted(Known(b"", {"registered_ms": NOW_MS - 3 * DAY}), marked, COUNTING.layout("user"))


def cached(read: Callable[[Sequence[str]], Any], **more: Any) -> ItemCache:
    """A cache whose present is `NOW_MS`, unless it is told otherwise."""
    return ItemCache(COUNTING, read, **{"now_ms": lambda: NOW_MS} | more)


ITEMS = {"a": item(7, key=1), "b": item(2, key=2, author="y"), "c": Known(b"", {"duration_s": 4.0})}


def values_of(feature: str, tensor: np.ndarray, names: Sequence[str] = NAMES) -> list[float]:
    return [round(float(value), 6) for value in tensor[:, names.index(feature)]]


def test_the_tensor_holds_the_values_that_are_computed_one_by_one():
    user, cache = a_user(), cached(Store(ITEMS).read)
    known = UserKnowledge(COUNTING, user, cache)
    tensor = known.tensor(ALL, ["b", "a", "c", "nobody's"], NOW_MS)
    for place, item_id in enumerate(["b", "a", "c", "nobody's"]):
        one = compute(COUNTING, NOW_MS, user, {item_id: ITEMS.get(item_id, Known())})
        assert tensor[place].tolist() == [np.float32(one[name].values[0]) for name in ALL]
    assert not known.degraded
    assert values_of("user_clicks_7d", tensor, ALL) == [3.0] * 4
    assert values_of("item_impressions_7d", tensor, ALL) == [2.0, 7.0, 0.0, 0.0]
    shares = values_of("user_author_click_rate_30d", tensor, ALL)
    assert shares[1] > shares[0] == shares[2] == shares[3] == 0.1


def test_items_are_read_once_in_a_batch_and_then_known():
    store, clock = Store(ITEMS), Clock()
    cache = cached(store.read, clock=clock)
    first, _ = cache.about(["a", "b"], NOW_MS)
    again, _ = cache.about(["b", "a", "c"], NOW_MS + 1000)
    assert store.calls == [["a", "b"], ["c"]]
    assert (again.values[1] == first.values[0]).all()
    assert (again.marks[0] == first.marks[1]).all()
    assert len(cache) == 3


@pytest.mark.parametrize(("passes_s", "read"), [(30, False), (31, True)])
def test_nothing_is_older_than_half_a_minute(passes_s, read):
    store, clock = Store(dict(ITEMS)), Clock()
    cache = cached(store.read, clock=clock, now_ms=lambda: NOW_MS + round(clock.now * 1000))
    cache.about(["a"], NOW_MS)
    store.items["a"] = item(20, key=1)
    clock.now += passes_s
    found, _ = cache.about(["a"], NOW_MS + passes_s * 1000)
    assert len(store.calls) == 1 + read
    assert impressions(found) == [20 if read else 7]


def impressions(found: About) -> list[float]:
    place = [feature.name for feature in of_item(COUNTING)].index("item_impressions_7d")
    return found.values[:, place].tolist()


def test_requests_that_overlap_share_what_is_known_whichever_was_begun_first():
    store = Store(ITEMS)
    cache = cached(store.read)
    for early_ms in (0, -3, 2, -900, 4000, -4000):
        found, lost = cache.about(["a", "b"], NOW_MS + early_ms)
        assert (impressions(found), lost) == ([7, 2], False)
    assert len(store.calls) == 1


@pytest.mark.parametrize("away_ms", [-DAY, -PRESENT_MS - 1, PRESENT_MS + 1, DAY])
@pytest.mark.parametrize("first", ["present", "other"])
def test_another_moment_is_read_for_itself_and_leaves_the_present_alone(away_ms, first):
    store = Store(ITEMS)
    cache = cached(store.read)
    moments = [NOW_MS, NOW_MS + away_ms] if first == "present" else [NOW_MS + away_ms, NOW_MS]
    for _ in range(3):
        for at_ms in moments:
            found, lost = cache.about(["a", "b", "a"], at_ms)
            expected = about(COUNTING, {name: ITEMS[name] for name in "ab"}, at_ms)
            assert (found.values == expected.values[[0, 1, 0]]).all()
            assert not lost
    assert len(store.calls) == 1 + 3
    assert len(cache) == 2


def test_the_past_is_not_told_of_the_present():
    cache = cached(Store(ITEMS).read)
    assert impressions(cache.about(["a"], NOW_MS)[0]) == [7]
    assert impressions(cache.about(["a"], NOW_MS - 30 * DAY)[0]) == [0]


def test_what_stands_in_for_a_damaged_record_is_not_kept_and_the_others_are():
    store = Store(ITEMS | {"bad": Known(b"damaged", {"duration_s": 4.0})})
    cache = cached(store.read)
    for _ in range(3):
        found, lost = cache.about(["a", "bad", "b"], NOW_MS)
        assert lost
        assert impressions(found) == [7, 0, 2]
    assert store.calls == [["a", "bad", "b"], ["bad"], ["bad"]]
    assert cache.about(["a", "b"], NOW_MS)[1] is False
    assert cache.about(["a", "bad"], NOW_MS - DAY)[1] is True
    store.items["bad"] = item(3, key=3)
    found, lost = cache.about(["bad"], NOW_MS)
    assert (impressions(found), lost) == ([3], False)


def test_counters_of_other_measures_are_no_damage():
    """They read as empty until they are counted anew; what else is damaged does not change that."""
    foreign = pack(add(Tally(), [Happening(1000, 1, (1,))], OTHER), OTHER)
    store = Store({"old": Known(foreign), "bad": Known(b"damaged")})
    cache = cached(store.read)
    assert cache.about(["old", "bad"], NOW_MS)[1]
    assert not cache.about(["old"], NOW_MS)[1]
    assert store.calls == [["old", "bad"]]


def test_it_is_bounded_and_forgets_what_was_read_longest_ago():
    store = Store({str(n): item(n, key=n) for n in range(8)})
    cache = cached(store.read, most=3)
    for n in range(5):
        cache.about([str(n)], NOW_MS)
    assert len(cache) == 3
    cache.about(["2", "3", "4"], NOW_MS)
    assert len(store.calls) == 5
    many, lost = cache.about([str(n) for n in range(8)], NOW_MS)  # more than it can keep
    assert len(cache) == 3
    assert not lost
    expected = about(COUNTING, {str(n): store.items[str(n)] for n in range(8)}, NOW_MS)
    assert (many.values == expected.values).all()
    assert (many.marks == expected.marks).all()


@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=7, unique=True), max_size=12), st.integers(1, 5)
)
def test_it_says_what_the_store_says_whatever_was_asked_before(requests, most):
    store = Store({name: item(place + 1, key=place) for place, name in enumerate("abcdef")})
    cache = cached(store.read, most=most)
    for ids in requests:
        found, _ = cache.about(ids, NOW_MS)
        expected = about(COUNTING, {item_id: store.items.get(item_id, Known()) for item_id in ids}, NOW_MS)
        assert (found.values == expected.values).all()
        assert (found.marks == expected.marks).all()
        assert len(cache) <= most


def test_a_store_that_does_not_answer_leaves_defaults_that_are_not_kept():
    store = Store(ITEMS)
    cache, store.down = cached(store.read), True
    known = UserKnowledge(COUNTING, a_user(), cache)
    assert values_of("item_impressions_7d", known.tensor(NAMES, ["a"], NOW_MS)) == [0.0]
    assert known.degraded
    store.down = False
    fresh = UserKnowledge(COUNTING, a_user(), cache)
    assert values_of("item_impressions_7d", fresh.tensor(NAMES, ["a"], NOW_MS)) == [7.0]
    assert not fresh.degraded


def test_without_a_user_or_a_store_everything_is_a_default():
    for known in (
        UserKnowledge(COUNTING, None, cached(Store(ITEMS).read)),
        UserKnowledge(COUNTING, None, None),
    ):
        tensor = known.tensor(ALL, ["a"], NOW_MS)
        for feature in COUNTING.features:
            if feature.entity == "user" and feature.source != "history":
                assert values_of(feature.name, tensor, ALL) == [feature.default]
        assert known.degraded


def test_what_has_expired_is_the_default():
    old = counted(Known(), shown(5, before_ms=NOW_MS - 9 * DAY), COUNTING.layout("item"))
    cache = cached(Store({"old": old}).read)
    assert values_of(
        "item_impressions_7d", UserKnowledge(COUNTING, a_user(), cache).tensor(NAMES, ["old"], NOW_MS)
    ) == [0]


@pytest.mark.parametrize("name", ["nothing", "user_last_liked"])
def test_what_is_no_feature_of_counters_is_refused(name):
    with pytest.raises(IntegrityError, match=name):
        UserKnowledge(COUNTING, None, None).tensor([name], ["a"], NOW_MS)


def test_threads_share_it():
    store = Store({str(n): item(n % 30, key=n) for n in range(60)})
    cache, wrong = cached(store.read, most=20), []
    ids = [str(n) for n in range(60)]
    expected = about(COUNTING, store.items, NOW_MS).values

    def ask(seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(30):
            places = draw.choice(60, 10, replace=False)
            found, _ = cache.about([ids[place] for place in places], NOW_MS)
            if not (found.values == expected[places]).all():
                wrong.append(places)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
