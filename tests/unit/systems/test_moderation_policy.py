"""What is done about texts: data with a version, and the hardest action that anything asks for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.errors import BadInputError, IntegrityError
from twinloop.systems.moderation.policy import (
    ACTIONS,
    AuthorPolicy,
    Decision,
    LabelPolicy,
    Policy,
    decide,
    harder,
    known_bad,
    media_hash,
    read_hashes,
    read_policy,
    unpack_hashes,
)

POLICY = Policy(labels={"spam": LabelPolicy(limit=0.2, review=0.5, remove=0.9), "scam": LabelPolicy(review=0.4)})


@pytest.mark.parametrize(
    ("p", "action"),
    [(0.0, "allow"), (0.19, "allow"), (0.2, "limit"), (0.5, "review"), (0.9, "remove"), (1.0, "remove")],
)
def test_a_threshold_is_reached_by_itself(p: float, action: str) -> None:
    assert decide(POLICY, {"spam": p}).action == action


def test_the_hardest_action_of_any_label_counts() -> None:
    assert decide(POLICY, {"spam": 0.3, "scam": 0.45}) == Decision("review", ("scam",))
    assert decide(POLICY, {"spam": 0.6, "scam": 0.6}) == Decision("review", ("scam", "spam"))
    assert decide(POLICY, {"spam": 0.1, "other": 1.0}) == Decision("allow", ())
    assert harder(Decision("limit", ("a",)), Decision("limit", ("b",))).because == ("a",)


def test_a_text_that_is_not_read_whole_is_reviewed_at_least() -> None:
    assert decide(POLICY, {"spam": 0.0}, cut=True) == Decision("review", ("too_long",))
    assert decide(POLICY, {"spam": 0.3}, cut=True) == Decision("review", ("too_long",))
    assert decide(POLICY, {"spam": 0.6}, cut=True) == Decision("review", ("spam",))
    assert decide(POLICY, {"spam": 0.95}, cut=True) == Decision("remove", ("spam",))


def test_an_authors_record_makes_it_stricter() -> None:
    assert decide(POLICY, {"spam": 0.45}).action == "limit"
    assert decide(POLICY, {"spam": 0.45}, violations=3).action == "review"
    assert decide(POLICY, {"spam": 0.45}, reports=10).action == "review"
    assert decide(POLICY, {"spam": 0.45}, violations=2, reports=9).action == "limit"


@given(p=st.floats(0, 1), violations=st.integers(0, 5), stricter=st.floats(0, 5))
def test_a_record_never_makes_it_milder(p: float, violations: int, stricter: float) -> None:
    policy = POLICY.model_copy(update={"author": AuthorPolicy(stricter=stricter)})
    mild, strict = decide(policy, {"spam": p}), decide(policy, {"spam": p}, violations=violations)
    assert ACTIONS.index(strict.action) >= ACTIONS.index(mild.action)


def test_a_version_is_of_all_of_it() -> None:
    again = read_policy(POLICY.model_dump_json().encode())
    assert again.version == POLICY.version
    assert again.model_copy(update={"without_model": "allow"}).version != POLICY.version


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "the file"),
        (b'{"labels": {"spam": {"limit": 0.9, "review": 0.5}}}', "do not fall"),
        (b'{"labels": {"spam": {"limit": 2}}}', "labels.spam.limit"),
        (b'{"labels": {}, "colour": 1}', "colour"),
    ],
)
def test_what_is_no_policy_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        read_policy(body)


def test_media_are_known_by_nearly_the_same_hash() -> None:
    hashes = unpack_hashes(read_hashes(["00000000000000ff  # known since 2024", "", "ffffffffffffffff"]))
    assert hashes.tolist() == [0xFF, 2**64 - 1]
    near, far, other = (media_hash(f"{text:0>16}") for text in ("f0", "e0", "F" * 16))
    assert known_bad(hashes, [near, far], 4) == {near}
    assert known_bad(hashes, [other, near], 0) == {other}
    assert not known_bad(np.zeros(0, np.uint64), [1], 16)
    assert not known_bad(hashes, [], 16)
    for wrong in ("xyz", "ff", "00000000000000fg"):
        with pytest.raises(BadInputError, match="line 1: a media hash is 16"):
            read_hashes([wrong])
    with pytest.raises(IntegrityError, match="damaged"):
        unpack_hashes(b"123")
