"""Events as arrays: order, duplicates, ages, and the two matrices made of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twinloop.training.events import Events

USERS, ITEMS = 4, 5
Triple = tuple[int, int, int]
triples = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(0, 6)), max_size=40)


def events(rows: list[Triple]) -> Events:
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Events.sort(users=table[:, 0], items=table[:, 1], times=table[:, 2], n_users=USERS, n_items=ITEMS)


def rows(found: Events) -> list[Triple]:
    return list(zip(found.users.tolist(), found.items.tolist(), found.times.tolist(), strict=True))


@given(triples)
def test_sorting_keeps_each_once_by_user_time_item(given_rows: list[Triple]) -> None:
    expected = sorted(set(given_rows), key=lambda row: (row[0], row[2], row[1]))
    found = events(given_rows)
    assert rows(found) == expected
    for user in range(USERS):
        own = slice(*found.offsets[user : user + 2])
        assert rows(found)[own] == [row for row in expected if row[0] == user]


@given(triples, triples)
def test_joining_is_sorting_the_union(a: list[Triple], b: list[Triple]) -> None:
    assert rows(Events.join(events(a), events(b))) == rows(events(a + b)) == rows(Events.join(events(b), events(a)))


@given(triples, st.integers(1, 6))
def test_latest_keeps_the_end_of_each_user(given_rows: list[Triple], length: int) -> None:
    found = events(given_rows)
    kept = found.latest(length)
    for user in range(USERS):
        assert [row for row in rows(kept) if row[0] == user] == [row for row in rows(found) if row[0] == user][-length:]
    assert (kept.age < length).all()


@given(triples)
def test_matrices_count_or_sum(given_rows: list[Triple]) -> None:
    found = events(given_rows)
    weights = np.arange(1, len(found) + 1, dtype=np.float32)
    liked, summed = np.zeros((USERS, ITEMS)), np.zeros((USERS, ITEMS))
    for weight, (user, item, _) in zip(weights, rows(found), strict=True):
        liked[user, item] = 1
        summed[user, item] += weight
    np.testing.assert_array_equal(found.matrix().toarray(), liked)
    np.testing.assert_array_equal(found.matrix(weights).toarray(), summed)
    counted = Counter(item for _, item, _ in rows(found))
    assert found.counts().tolist() == [counted[item] for item in range(ITEMS)]
