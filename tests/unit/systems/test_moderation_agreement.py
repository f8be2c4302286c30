"""Reviewers who disagree, and how far they agree beyond chance."""

import pytest
from moderated_log import NOW, at, decide, logged, waits

from twinloop.systems.moderation.agreement import agreement, alpha


def test_reviewers_who_disagree_are_kept_and_somebody_else_is_asked() -> None:
    store = logged()
    decide(store, "t1", {"spam": 1}, who="ann", now=NOW)
    assert decide(store, "t1", {"spam": 0}, who="ben", now=at(1)) == ["restoration"]  # no longer more than half
    assert waits(store)["t1"] == "conflict"
    decide(store, "t1", {"spam": 0}, who="cem", now=at(2))
    assert "t1" not in waits(store)
    [found] = agreement(store)
    assert (found.label, found.texts, found.twice, found.disagreed) == ("spam", 1, 1, 1)


def test_alpha_is_krippendorffs() -> None:
    """The nominal example of Krippendorff (2011), section C: alpha .691 is of four observers; here, of two, .095."""
    pairs = list(zip((0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0), strict=True))
    assert alpha(pairs) == pytest.approx(0.095, abs=5e-4)
    assert alpha([(1, 1), (0, 0)]) == 1
    assert alpha([(1, 1)]) is None
    assert alpha([(1,), (0,)]) is None
