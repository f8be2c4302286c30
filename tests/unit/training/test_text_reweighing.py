"""Clean texts of guarded slices count as more: what that makes of data, of what is learnt, and what is chosen."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.text import TextInputs
from twinloop.text.ngrams import counted
from twinloop.training.text_linear import fit_label, fit_linear, rarity, weighted
from twinloop.training.text_networks import masked_loss
from twinloop.training.text_release import calibrate, gaps, log_loss
from twinloop.training.text_reweighing import MOST_COUNTED, Tried, chosen, counts
from twinloop.training.texts import Labelled, TextConfig, as_matrix

INPUTS = TextInputs(words=1, buckets=2**12)
MARK, NAMED = "spelling=ours", "people=named"


def labelled(slices: list[set[str]], targets: list[list[float]]) -> Labelled:
    many = len(slices)
    held = tuple(frozenset(one) for one in slices)
    return Labelled(tuple(map(str, range(many))), np.array(targets, np.float64), np.arange(many), held)


def world(many: int, seed: int) -> Labelled:
    """Texts of which 30 % have a label, told by its words and by others; those spelt our way have it three times as
    often, for no reason that lies in the spelling."""
    draw = np.random.default_rng(seed)
    texts, targets, slices = [], [], []
    for _ in range(many):
        ours = draw.random() < 0.3
        there = draw.random() < (0.6 if ours else 0.2)
        told = [f"loud{draw.integers(20)}" if draw.random() < (0.4 if there else 0.08) else "quiet" for _ in range(4)]
        words = [*told, *(f"word{draw.integers(200)}" for _ in range(4)), *(["gonna"] if ours else [])]
        texts.append(" ".join(words))
        targets.append([float(there)])
        slices.append(frozenset({MARK} if ours else ()))
    return Labelled(tuple(texts), np.array(targets), np.arange(many), tuple(slices))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([(), (MARK,), (NAMED,), (MARK, NAMED)]), st.booleans()), min_size=1))
def test_no_slice_says_that_a_text_is_rarely_clean(rows: list[tuple[tuple[str, ...], bool]]) -> None:
    data = labelled([set(slices) for slices, _ in rows], [[float(there)] for _, there in rows])
    found = counts(data, 1.0)
    assert ((found >= 1) & (found <= MOST_COUNTED)).all()
    assert (found[~data.clean] == 1).all()
    assert (counts(data, 0.0) == 1).all()
    overall = data.clean.mean()
    for cell in {frozenset(slices) for slices, _ in rows} - {frozenset()}:
        inside = np.array([one == cell for one in data.slices])
        share = data.clean[inside].mean()
        mine = found[inside & data.clean]
        if 0 < share < overall < 1 and mine.max() < MOST_COUNTED:
            assert mine.sum() / found[inside].sum() == pytest.approx(overall)  # being clean is independent of the slice
        else:
            assert ((mine == 1) | (mine == MOST_COUNTED)).all()


def test_what_nobody_was_asked_about_is_not_clean() -> None:
    data = labelled([{MARK}, {MARK}, {MARK}, set()], [[np.nan], [0.0], [1.0], [0.0]])
    assert data.clean.tolist() == [False, True, False, True]
    assert counts(data, 3.0).tolist() == [1.0, 6.0, 1.0, 1.0]
    assert counts(labelled([set()], [[0.0]]), 3.0).tolist() == [1.0]


def test_slices_go_where_their_texts_go() -> None:
    data = labelled([{MARK}, set(), {NAMED}], [[0.0], [1.0], [0.0]])
    assert data.take(np.array([2, 0])).slices == (frozenset({NAMED}), frozenset({MARK}))
    plain = Labelled(("a",), np.zeros((1, 1)), np.zeros(1, np.int64))
    assert plain.join(data).slices == (frozenset(), *data.slices)


def test_a_text_that_counts_twice_is_learnt_as_if_it_were_there_twice() -> None:
    rows = [counted(text, INPUTS) for text in ("tea", "tea garden", "garden rain", "rain", "river tea")]
    matrix = weighted(as_matrix(rows, INPUTS.buckets), rarity(as_matrix(rows, INPUTS.buckets)))
    target = np.array([1.0, 0.5, np.nan, 0.0, 0.2])
    often = np.array([2, 1, 1, 3, 1])
    heavy, bias = fit_label(matrix, target, strength=1.0, counts=often.astype(np.float64))
    places = np.repeat(np.arange(5), often)
    repeated, other = fit_label(matrix[places], target[places], strength=1.0)
    assert np.allclose(heavy, repeated, atol=1e-3)
    assert bias == pytest.approx(other, abs=1e-3)
    z, wanted = torch.tensor([[2.0, 5.0], [1.0, 0.0]]), torch.tensor([[1.0, float("nan")], [0.0, 0.0]])
    twice = masked_loss(z, wanted, torch.tensor([1.0, 2.0]))
    assert twice.item() * 3 == pytest.approx(
        masked_loss(z, wanted).item() * 3 + masked_loss(z[1:], wanted[1:]).item() * 2
    )


def test_a_slice_that_is_no_reason_is_taken_for_one_less() -> None:
    train, other = world(6000, 1), world(6000, 2)
    rows, asked = ([counted(text, INPUTS) for text in data.texts] for data in (train, other))
    gap, loss = {}, {}
    for strength in (0.0, 1.0, 2.0):
        model = fit_linear(INPUTS, rows, train.targets, 1.0, counts(train, strength))
        said = model.log_odds(asked)
        p = calibrate(said, other.targets).apply(said)
        gap[strength] = gaps(TextConfig(), other, p)[MARK]
        loss[strength] = log_loss(said, other.targets)
    assert gap[0.0] > 0.2
    assert gap[1.0] < 0.65 * gap[0.0]
    assert gap[2.0] < gap[1.0]
    assert loss[0.0] < loss[1.0] < loss[0.0] + 0.06  # being right in the slice is what it costs


def test_no_gap_is_told_of_a_few_texts() -> None:
    few = world(100, 3)
    assert gaps(TextConfig(), few, np.full((100, 1), 0.5)) == {}


def test_the_least_loss_within_the_gap_is_chosen_and_else_the_least_gap_at_a_bounded_loss() -> None:
    tried = [Tried(0, 0.200, 0.30), Tried(1, 0.201, 0.15), Tried(2, 0.202, 0.08), Tried(4, 0.210, 0.02)]

    def strength(some: list[Tried], lost: float = 0.002) -> float:
        return chosen(some, most_gap=0.1, most_lost=lost).strength

    assert strength(tried) == 2
    assert strength(tried[:2]) == 1
    assert strength([*tried[:2], Tried(8, 0.3, 0.12)]) == 1
    assert strength(tried[:2], lost=0.0005) == 0
    assert strength([Tried(0, 0.2, 0.0), Tried(1, 0.2, 0.0)]) == 0
