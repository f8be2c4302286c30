"""Users stay in their arm, shares are kept, and experiments are independent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.serving.routing import bucket, in_challenger

USERS = [f"user-{number}" for number in range(20_000)]


@given(st.text(), st.text())
def test_a_place_is_always_the_same_and_in_range(user, experiment):
    assert 0 <= bucket(user, experiment) < 1
    assert bucket(user, experiment) == bucket(user, experiment)


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_greater_share_takes_nobody_out(user, a, b):
    small, large = sorted((a, b))
    assert not in_challenger(user, "v1", small) or in_challenger(user, "v1", large)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_shares_are_kept(share):
    found = sum(in_challenger(user, "20260131T120000-0a1b2c3d", share) for user in USERS) / len(USERS)
    assert found == pytest.approx(share, abs=4 * (share * (1 - share) / len(USERS)) ** 0.5)


def test_two_experiments_do_not_take_the_same_users():
    first = {user for user in USERS if in_challenger(user, "v1", 0.5)}
    both = sum(in_challenger(user, "v2", 0.5) for user in first)
    assert both / len(first) == pytest.approx(0.5, abs=0.03)
