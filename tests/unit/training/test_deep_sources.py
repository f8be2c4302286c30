"""Deep columns beside the linear ones: one graph, against PyTorch and numpy."""

from __future__ import annotations

import numpy as np
import pytest

from twinloop.contracts.signature import EXCLUDE, FEATURES, HISTORY, ITEMS, TIMES
from twinloop.training import sequence, two_tower
from twinloop.training.artefact import prove_parity, session
from twinloop.training.deep_sources import Settings, compare_deep, fit_deep, linear_part, with_deep
from twinloop.training.events import Events
from twinloop.training.ranker import cut
from twinloop.training.sources import fit_sources, retrieval_with_features
from twinloop.training.sources_reference import compare
from twinloop.training.validate import Question, retrieve

LITTLE = Settings(sequence.Shape(dim=16, length=30), two_tower.Shape(dim=8), sequence_epochs=2, tower_epochs=2)
CONTEXT = ("likes", "idle")


def made_up(items: int, seed: int = 0) -> Events:
    draw = np.random.default_rng(seed)
    users, chosen = draw.integers(0, 60, 1500), draw.integers(0, items, 1500)
    times = draw.integers(0, 10**9, 1500) * 1000
    return Events.sort(users=users, items=chosen, times=times, n_users=60, n_items=items)


@pytest.mark.parametrize("items", [3, 40, 400])
def test_the_graph_says_what_the_models_say(items: int) -> None:
    events = made_up(items)
    tags = tuple(("a",) if item % 2 else ("b", "c") for item in range(items))
    sources, deep = fit_sources(events, tags), fit_deep(events, tags, LITTLE, seed=0)
    linear, columns = retrieval_with_features(sources, CONTEXT)
    model, names = with_deep(linear, columns, deep, context=len(CONTEXT))
    assert names[-2:] == CONTEXT
    assert names[: len(columns) - 2] == columns[:-2]
    assert names[len(columns) - 2 : -2] == tuple(
        f"{name} {what}" for name in ("sequence", "towers") for what in ("z", "log chance", "rank")
    )
    assert with_deep(linear, columns, deep, context=len(CONTEXT))[0] == model
    opened, plain = session(model), session(linear)
    draw = np.random.default_rng(1)
    for length in (1, 5, 60):
        history = draw.permutation(items)[:length]
        times = np.sort(draw.integers(0, 10**9, len(history)))
        question = Question(history, times, history[:0], np.array([3.0, 0.5], np.float32))
        answer = retrieve(opened, question)
        assert np.isfinite(answer[FEATURES]).all()
        own, left = linear_part(names, answer)
        assert own == columns
        np.testing.assert_array_equal(left[FEATURES], retrieve(plain, question)[FEATURES])
        prove_parity(compare(sources, own, question, CONTEXT, left))
        prove_parity(compare_deep(deep, names, question, answer))


def test_what_may_not_be_returned_has_no_part_in_the_chances() -> None:
    events = made_up(20)
    deep = fit_deep(events, ((),) * 20, LITTLE, seed=0)
    linear, columns = retrieval_with_features(fit_sources(events, ((),) * 20))
    model, names = with_deep(linear, columns, deep, context=0)
    history, times = np.arange(3), np.array([1, 2, 3])
    asked = {HISTORY: history, TIMES: times, EXCLUDE: np.array([0, 1, 2, 7])}
    items, features = session(model).run([ITEMS, FEATURES], asked)
    opened = ~np.isin(items, [0, 1, 2, 7])
    for name in ("sequence", "towers"):
        chances = features[:, names.index(f"{name} log chance")]
        assert np.exp(chances[opened]).sum() == pytest.approx(1, abs=1e-5)
        assert (chances[~opened] == chances.min()).all()


def test_users_are_cut_by_their_own_share() -> None:
    events = made_up(40)
    before, after = cut(events, 0.8)
    sizes = np.diff(events.offsets)
    assert np.diff(before.offsets).tolist() == np.floor(sizes * 0.8 + 1e-9).astype(int).tolist()
    assert len(before) + len(after) == len(events)
    for user in range(events.n_users):
        early, late = (part.times[part.offsets[user] : part.offsets[user + 1]] for part in (before, after))
        assert not len(early) or not len(late) or early.max() <= late.min()
