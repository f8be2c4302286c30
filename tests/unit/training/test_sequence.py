"""The causal transformer: what a cell may see, what it learns, and its ONNX form against PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.signature import CANDIDATES
from twinloop.errors import BadInputError
from twinloop.training import two_tower
from twinloop.training.artefact import session
from twinloop.training.events import Events, Ints
from twinloop.training.sequence import GAPS, Ensemble, Histories, Shape, Transformer, gap_classes, side_by_side
from twinloop.training.sequence_graph import check_size, sequence_graph
from twinloop.training.validate import Question, retrieve

SMALL = Shape(dim=8, heads=2, blocks=2, length=12, dropout=0.1, history_dropout=0.1, learning_rate=0.01, batch=16)
NOTHING = np.zeros(0, np.int64)


def circle(users: int = 40, items: int = 12, length: int = 10) -> Events:
    """Everybody walks around the catalogue, one item after the next."""
    user, step = (part.ravel() for part in np.mgrid[:users, :length])
    return Events.sort(
        users=user, items=(user + step) % items, times=step * 60_000, n_users=users, n_items=max(items, 1)
    )


def ensemble(events: Events, *, members: int = 2, seed: int = 0, shape: Shape = SMALL) -> Ensemble:
    return Ensemble(events, shape, longest=50, members=members, seed=seed)


@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=9))
def test_a_gap_is_classed_by_its_doublings(seconds: list[int]) -> None:
    classes = gap_classes(np.array([seconds]))[0]
    for row in range(len(seconds)):
        assert classes[row, 0] == GAPS - 1
        for column in range(1, len(seconds)):
            between = abs(seconds[row] - seconds[column])
            assert classes[row, column] == min((between + 1).bit_length() - 1, GAPS - 2)


@pytest.mark.parametrize("power", range(1, 31))
def test_the_borders_of_the_classes_are_exact(power: int) -> None:
    at = 2**power - 1
    assert gap_classes(np.array([[0, 0, at - 1, at]]))[0, 1, 2:].tolist() == [power - 1, min(power, GAPS - 2)]


def test_histories_lie_side_by_side_behind_their_beginning() -> None:
    cells, event = side_by_side(np.array([0, 0, 2]), np.array([5, 6, 7]), np.array([1, 2, 3]), size=3, beginning=9)
    assert cells.items.tolist() == [[9, 5, 6], [9, 9, 9], [9, 7, 9]]
    asked = list(zip(cells.rows.tolist(), cells.places.tolist(), event.tolist(), strict=True))
    assert asked == [(0, 0, -1), (1, 0, -1), (2, 0, -1), (0, 1, 0), (0, 2, 1), (2, 1, 2)]


def test_no_cell_sees_what_comes_after_it_or_who_stands_beside_it() -> None:
    torch.manual_seed(0)
    model = Transformer(np.ones(9, np.int64), SMALL).eval()
    with torch.no_grad():
        model.gaps.normal_()

    def vectors(items: list[list[int]]) -> torch.Tensor:
        rows = np.repeat(np.arange(len(items)), [len(row) for row in items])
        flat = np.concatenate([NOTHING, *(np.array(row, np.int64) for row in items)])
        cells, _ = side_by_side(rows, flat, flat * 100, size=len(items), beginning=9)
        asked = Histories(cells.items, cells.gaps, torch.tensor([0, 0]), torch.tensor([1, 2]))
        with torch.no_grad():
            return model(asked)

    alone = vectors([[3, 4]])
    np.testing.assert_allclose(vectors([[3, 4, 5, 8], [1]]), alone, atol=1e-6)
    np.testing.assert_allclose(vectors([[3, 4], [1, 2, 3, 4, 5, 6]]), alone, atol=1e-6)
    assert not np.allclose(vectors([[2, 4]]), alone, atol=1e-3)


@pytest.mark.parametrize("sampled", [False, True], ids=["full", "sampled"])
def test_it_learns_what_comes_next(sampled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if sampled:
        monkeypatch.setattr(two_tower, "FULL_SOFTMAX_ITEMS", 1)
        monkeypatch.setattr(two_tower, "SAMPLED_ITEMS", 32)
    model = ensemble(circle(), shape=replace(SMALL, window=1, averaging=0.9))
    first = model.epoch()
    for _ in range(60):
        last = model.epoch()
    assert last < first
    histories = [np.arange(start, start + 4) % 12 for start in range(12)]
    scores = model.scores(histories, [np.arange(4) * 60] * 12)
    for row, history in enumerate(histories):
        scores[row, history] = -np.inf
    right = [
        int(best) == (history[-1] + 1) % 12 for best, history in zip(scores.argmax(axis=1), histories, strict=True)
    ]
    assert np.mean(right) >= 0.75


def test_order_and_time_count() -> None:
    model = ensemble(circle())
    for _ in range(20):
        model.epoch()
    scores = model.scores(
        [np.array([1, 2, 3]), np.array([3, 2, 1]), np.array([1, 2, 3])],
        [np.array([0, 60, 120]), np.array([0, 60, 120]), np.array([0, 9_000, 99_000])],
    )
    assert np.abs(scores[0] - scores[1]).max() > 1e-3
    assert np.abs(scores[0] - scores[2]).max() > 1e-5


@pytest.mark.parametrize(("logits", "cells", "most"), [(60, 2_000, 5), (8_000_000, 7, 7)])  # of twelve items
def test_a_step_asks_about_no_more_cells_than_it_may(
    logits: int, cells: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinloop.training.sequence._LOGITS", logits)
    seen = []
    kept = two_tower.full_loss
    monkeypatch.setattr(
        "twinloop.training.sequence.full_loss", lambda scores, asked: (seen.append(len(scores)), kept(scores, asked))[1]
    )
    ensemble(circle(), members=1, shape=replace(SMALL, cells=cells)).epoch()
    assert set(seen) == {most}


def test_histories_longer_than_the_model_are_learned_from_and_answered() -> None:
    events = circle(users=6, items=40, length=40)
    model = ensemble(events)
    model.epoch()
    history, times = np.arange(40), np.arange(40) * 60
    whole = model.scores([history], [times])
    np.testing.assert_allclose(whole, model.scores([history[-12:]], [times[-12:]]), atol=1e-6)


def test_the_same_seed_gives_the_same_model_and_another_one_another() -> None:
    graphs = []
    for seed in (1, 1, 2):
        model = ensemble(circle(), seed=seed)
        model.epoch()
        graphs.append(sequence_graph(model))
    assert graphs[0] == graphs[1] != graphs[2]


@pytest.mark.parametrize(
    "rows", [[(0, 0), (1, 1)], [(0, 3), (0, 3), (1, 3), (1, 3)]], ids=["one event each", "one item again and again"]
)
def test_little_that_follows_is_learned_or_refused(rows: list[tuple[int, int]]) -> None:
    users, items = np.array(rows).T
    events = Events.sort(users=users, items=items, times=np.arange(len(rows)), n_users=2, n_items=4)
    model = ensemble(events)
    if len(set(rows)) == len(rows):  # nobody has two events
        with pytest.raises(BadInputError, match="no user liked one item and later another"):
            model.epoch()
    else:
        assert np.isfinite(model.epoch())  # the first is right after the beginning


@pytest.mark.parametrize("items", [1, 2, 12, CANDIDATES + 7, 700])
def test_the_graph_answers_what_pytorch_answers(items: int) -> None:
    model = ensemble(circle(users=max(items // 4, 3), items=items, length=10))
    if items > 1:
        for _ in range(5):
            model.epoch()
    with torch.no_grad():  # what five epochs hardly move
        for member in model.members:
            member.gaps.normal_()
            for block in member.blocks:
                block.steps.normal_()
    graph = session(sequence_graph(model))
    draw = np.random.default_rng(items)
    for length in (1, 3, 11, 12, 13, 200):
        history, times = draw.integers(0, items, length), np.sort(draw.integers(0, 10**9, length))
        got = retrieve(graph, Question(history, times, history))
        expected = _open(model, history, times)
        assert len(set(got["items"].tolist())) == min(items, CANDIDATES)
        np.testing.assert_allclose(got["scores"], expected[got["items"]], atol=1e-4)
        # Exact: nothing that was left out is better than what was returned.
        np.testing.assert_allclose(got["scores"], np.sort(expected)[::-1][: len(got["scores"])], atol=1e-4)


def _open(model: Ensemble, history: Ints, times: Ints) -> np.ndarray:
    scores = model.scores([history], [times])[0]
    scores[history] = -np.inf
    return scores


def test_unknown_items_count_for_nothing_and_exclude_nothing() -> None:
    model = ensemble(circle())
    model.epoch()
    graph = session(sequence_graph(model))
    none = np.array([-1])
    items, scores = graph.run(["items", "scores"], {"history": none, "times": np.array([5]), "exclude": none})
    np.testing.assert_allclose(scores, model.scores([NOTHING], [NOTHING])[0][items], atol=1e-4)
    assert sorted(items.tolist()) == list(range(12))
    mixed = {"history": np.array([3, -1, 5]), "times": np.array([60, 70, 900]), "exclude": none}
    items, scores = graph.run(["items", "scores"], mixed)
    expected = model.scores([np.array([3, 5])], [np.array([60, 900])])[0]
    np.testing.assert_allclose(scores, expected[items], atol=1e-4)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInputError, match="dim=9 is not a multiple of heads=2"):
        ensemble(circle(), shape=replace(SMALL, dim=9))
    check_size(100_000, 64, 3)
    with pytest.raises(BadInputError, match="set the hyperparameter members to 1, or a smaller dim"):
        check_size(1_000_000, 64, 3)
