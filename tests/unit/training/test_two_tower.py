"""Two towers: their batches, their two losses, what they learn, and their ONNX form against PyTorch."""

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
from twinloop.training.events import Events
from twinloop.training.two_tower import Ensemble, Shape, full_loss, make_batch, sampled_loss
from twinloop.training.two_tower_graph import check_size, int8_recall, quantised, two_tower_graph
from twinloop.training.validate import Question, retrieve

SMALL = Shape(dim=8, hidden=16, dropout=0.1, weight_decay=0.01, learning_rate=0.03)


def circle(users: int = 40, items: int = 12, length: int = 10) -> Events:
    """Everybody walks around the catalogue, one item after the next."""
    user, step = (part.ravel() for part in np.mgrid[:users, :length])
    return Events.sort(users=user, items=(user + step) % items, times=step, n_users=users, n_items=items)


def ensemble(events: Events, *, members: int = 2, seed: int = 0, shape: Shape = SMALL) -> Ensemble:
    tags = [["even"] if item % 2 == 0 else ["odd", "strange"] if item % 3 else [] for item in range(events.n_items)]
    return Ensemble(events, tags, shape, longest=100, members=members, seed=seed)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=2, max_size=60), st.data())
def test_a_batch_is_the_past_before_the_cut_and_the_new_items_after(
    rows: list[tuple[int, int]], data: st.DataObject
) -> None:
    users, items = np.array(rows).T
    events = Events.sort(users=users, items=items, times=np.arange(len(rows)), n_users=5, n_items=7)
    lengths = np.diff(events.offsets)
    able = np.flatnonzero(lengths > 1)
    if not len(able):
        return
    asked = np.array(data.draw(st.lists(st.sampled_from(able.tolist()), min_size=1, max_size=6)))
    cuts = np.array([data.draw(st.integers(1, int(lengths[user]) - 1)) for user in asked])
    batch = make_batch(events, asked, cuts, longest=100, window=3, window_decay=0.5)
    for row, (user, cut) in enumerate(zip(asked, cuts, strict=True)):
        own = events.items[events.offsets[user] : events.offsets[user + 1]]
        here = batch.rows.numpy() == row
        assert batch.items.numpy()[here].tolist() == own[:cut].tolist()
        assert batch.ages.numpy()[here].tolist() == list(range(cut))[::-1]
        ahead = [(item, 0.5**place) for place, item in enumerate(own[cut : cut + 3]) if item not in own[:cut]]
        next_here = batch.next_rows.numpy() == row
        found = zip(batch.next_items.numpy()[next_here], batch.next_weights.numpy()[next_here], strict=True)
        assert list(found) == ahead


def test_a_long_history_is_cut_to_what_serving_keeps() -> None:
    events = circle(users=1, items=5, length=60)
    batch = make_batch(events, np.array([0]), np.array([50]), longest=20)
    assert len(batch.rows) == 20
    assert batch.ages[-1] == 0
    assert batch.ages[0] == 19


def test_the_sampled_softmax_estimates_the_full_one() -> None:
    torch.manual_seed(0)
    scores, n = torch.randn(1, 50) * 2, 50
    chances = torch.softmax(torch.randn(n), 0)
    drawn = torch.from_numpy(
        np.random.default_rng(1).choice(n, 400_000, p=chances.double().numpy() / float(chances.double().sum()))
    )
    for item in (0, 17):
        full = -torch.log_softmax(scores, dim=1)[0, item]
        found = sampled_loss(
            scores[0, [item]], scores[:, drawn], chances[drawn], (drawn == item)[None, :], torch.ones(1)
        )
        assert float(found) == pytest.approx(float(full), abs=0.02)


def test_the_full_softmax_leaves_out_what_is_known() -> None:
    events = circle(users=1, items=4, length=4)
    batch = make_batch(events, np.array([0]), np.array([2]), longest=9, window=1)
    scores = torch.tensor([[100.0, 100.0, 0.0, 0.0]])  # both known items would win
    assert float(full_loss(scores, batch)) == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.parametrize("sampled", [False, True], ids=["full", "sampled"])
def test_it_learns_what_comes_next(sampled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if sampled:
        monkeypatch.setattr(two_tower, "FULL_SOFTMAX_ITEMS", 1)
        monkeypatch.setattr(two_tower, "SAMPLED_ITEMS", 32)
    model = ensemble(circle(), shape=replace(SMALL, window=1))
    first = model.epoch()
    for _ in range(30):
        last = model.epoch()
    assert last < first
    histories = [np.arange(start, start + 4) % 12 for start in range(12)]
    scores = model.scores(histories)
    for row, history in enumerate(histories):
        scores[row, history] = -np.inf
    right = [
        int(best) == (history[-1] + 1) % 12 for best, history in zip(scores.argmax(axis=1), histories, strict=True)
    ]
    assert np.mean(right) >= 0.75


def test_an_epoch_asks_a_bounded_number_of_questions() -> None:
    asked = []
    for questions in (30, 10**9):
        shape = replace(SMALL, cuts=2, batch=8, questions=questions)
        asked.append([batch.size for batch in ensemble(circle(), shape=shape)._batches()])
    assert [sum(sizes) for sizes in asked] == [30, 80]
    assert max(asked[0]) == 8


def test_the_same_seed_gives_the_same_model_and_another_one_another() -> None:
    graphs = []
    for seed in (1, 1, 2):
        model = ensemble(circle(), seed=seed)
        model.epoch()
        graphs.append(two_tower_graph(model))
    assert graphs[0] == graphs[1] != graphs[2]


@pytest.mark.parametrize(
    "rows", [[(0, 0), (1, 1)], [(0, 3), (0, 3), (1, 3), (1, 3)]], ids=["one event each", "one item again and again"]
)
def test_where_nothing_follows_anything_it_says_so(rows: list[tuple[int, int]]) -> None:
    users, items = np.array(rows).T
    events = Events.sort(users=users, items=items, times=np.arange(len(rows)), n_users=2, n_items=4)
    with pytest.raises(BadInputError, match="no user liked one item and later another"):
        ensemble(events).epoch()


@pytest.mark.parametrize("items", [1, 2, 12, CANDIDATES + 7, 4 * CANDIDATES + 200])
def test_the_graph_answers_what_pytorch_answers(items: int) -> None:
    events = circle(users=max(items, 3), items=items, length=10)
    model = ensemble(events)
    if items > 1:
        model.epoch()
    graph = session(two_tower_graph(model))
    for length in (1, 3, 200):
        history = np.random.default_rng(length).integers(0, items, length)
        got = retrieve(graph, Question(history, history, history))
        expected = model.scores([history])[0]
        expected[history] = -np.inf
        assert len(set(got["items"].tolist())) == min(items, CANDIDATES)
        np.testing.assert_allclose(got["scores"], expected[got["items"]], atol=1e-4)
        assert (np.diff(got["scores"][np.isfinite(got["scores"])]) <= 0).all()


def test_unknown_items_count_for_nothing_and_exclude_nothing() -> None:
    model = ensemble(circle())
    model.epoch()
    graph = session(two_tower_graph(model))
    feed = {"history": np.array([-1]), "times": np.array([5]), "exclude": np.array([-1])}
    items, scores = graph.run(["items", "scores"], feed)
    nobody = model.scores([np.zeros(0, np.int64)])[0]
    np.testing.assert_allclose(scores, nobody[items], atol=1e-4)
    assert sorted(items.tolist()) == list(range(12))


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_quantising_is_off_by_half_a_level_at_most(n: int, dim: int, seed: int) -> None:
    vectors = (np.random.default_rng(seed).normal(size=(n, dim)) * 10.0 ** (seed % 7 - 3)).astype(np.float32)
    vectors[0] = 0
    small, scale = quantised(vectors)
    assert np.abs(small.astype(int)).max() <= 63
    assert (np.abs(small * scale[:, None] - vectors) <= 0.501 * scale[:, None]).all()


def test_the_int8_search_finds_what_an_exact_one_finds() -> None:
    draw = np.random.default_rng(0)
    items = 8 * CANDIDATES
    users, times = np.repeat(np.arange(300), 8), np.tile(np.arange(8), 300)
    events = Events.sort(users=users, items=draw.integers(0, items, 2400), times=times, n_users=300, n_items=items)
    model = ensemble(events, shape=Shape(dim=32))
    model.epoch()
    asked = [Question(history, history, history) for history in draw.integers(0, items, (50, 8))]
    assert int8_recall(session(two_tower_graph(model)), model, asked) >= 0.99


def test_a_catalogue_too_large_for_a_release_says_what_to_set() -> None:
    check_size(100_000, 64, 3)
    with pytest.raises(BadInputError, match="set the hyperparameter members to 1, or a smaller dim"):
        check_size(1_000_000, 64, 3)
