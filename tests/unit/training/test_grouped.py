"""Rankers of lists: they learn what is there to learn, leave places out, and are the same in ONNX."""

import numpy as np
import pytest

from twinloop.contracts.signature import FEATURES, SCORES
from twinloop.errors import BadInputError
from twinloop.training.artefact import session
from twinloop.training.grouped import Groups, choose, ranking_graph


def lists(count=400, size=10, *, seed=0, places=True):
    """Lists of which the first feature says what is good, the place how often it is looked at, the second nothing."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(count * size, 3)).astype(np.float32)
    features[::7, 2] = np.nan
    position = np.tile(np.arange(size), count)
    logits = 1.5 * features[:, 0] - 1.5 - (np.log1p(position) if places else 0)
    labels = (draw.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    ids = np.repeat([f"g{n:04}" for n in range(count)], size).tolist()
    return Groups.of(features, labels, position.astype(np.float32), ids)


def fitted(kind, groups):
    if kind == "linear":
        return pytest.importorskip("twinloop.training.grouped_linear").fit_linear(groups, 1e-4)
    if kind == "trees":
        told = {"eta": 0.2, "max_depth": 3, "nthread": 1, "seed": 0}
        return pytest.importorskip("twinloop.training.grouped_trees").fit_trees(groups, told, 30)
    module = pytest.importorskip("twinloop.training.grouped_network")
    learner = module.Learner(groups, module.Shape(hidden=(16, 8)), seed=0)
    for _ in range(5):
        learner.epoch()
    return learner


KINDS = ("linear", "trees", "network")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_good_comes_first_whatever_its_place_was(kind):
    model, later = fitted(kind, lists()), lists(seed=1, places=False)
    assert later.ndcg(model.scores(later.features)) > 0.9 * later.ndcg(later.features[:, 0])
    assert later.ndcg(model.scores(later.features)) > later.ndcg(later.features[:, 1]) + 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_says_what_the_model_says_of_missing_values_too(kind):
    model, features = fitted(kind, lists()), lists(seed=2).features
    features[0] = np.nan
    features[1] = 1e12
    opened = session(ranking_graph(model, 3))
    for rows in (features, features[:1], features[:0]):
        said = opened.run([SCORES], {FEATURES: rows})[0]
        assert said.shape == (len(rows),)
        np.testing.assert_allclose(said, model.scores(rows), atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_where_all_say_the_same_nothing_is_learnt(kind):
    groups = lists(20)
    same = Groups(groups.features, np.zeros_like(groups.labels), groups.places, groups.sizes)
    with pytest.raises(BadInputError, match="same label"):
        fitted(kind, same)


def test_the_weight_of_a_place_is_learnt_beside_the_rest():
    linear = pytest.importorskip("twinloop.training.grouped_linear")
    model, first = linear.fit_linear(lists(3000), 1e-5), lists(3000, places=False, seed=3)
    chance = 1 / (1 + np.exp(-model.scores(first.features)))
    assert chance.mean() == pytest.approx(first.labels.mean(), rel=0.1)  # as if all stood first


def test_rows_that_lie_together_are_a_list():
    made = Groups.of(np.zeros((5, 1), np.float32), np.zeros(5, np.float32), np.zeros(5, np.float32), list("aabcc"))
    assert made.sizes.tolist() == [2, 1, 2]
    empty = Groups.of(np.zeros((0, 1), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32), [])
    assert len(empty) == sum(empty.sizes) == 0
    assert Groups.join(made, empty).sizes.sum() == 5


def test_lists_that_tell_nothing_count_for_nothing():
    labels = np.array([0, 0, 1, 1, 1, 0], np.float32)
    made = Groups(np.zeros((6, 1), np.float32), labels, np.zeros(6, np.float32), np.array([2, 2, 2]))
    assert made.ndcg(np.array([0, 0, 0, 0, 1, 0], np.float32)) == 1
    assert made.ndcg(np.array([0, 0, 0, 0, 0, 1], np.float32)) == pytest.approx(1 / np.log2(3))
    assert np.isnan(Groups(*(part[:0] for part in (made.features, labels, labels, made.sizes))).ndcg(labels[:0]))


class Fixed:
    def __init__(self, sign):
        self.sign = sign

    def scores(self, features):
        return self.sign * features[:, 0]


def test_the_best_on_what_was_held_out_is_chosen_and_the_first_where_nothing_tells():
    held_out, said = lists(50), []
    candidates = [lambda sign=sign: Fixed(sign) for sign in (-1, 1, 2)]
    assert choose(candidates, held_out, said.append)[0] == 1  # the last ranks as well, and comes later
    assert len(said) == 3
    nothing = Groups(*(part[:0] for part in (held_out.features, held_out.labels, held_out.places, held_out.sizes)))
    best, ndcg = choose(candidates, nothing, said.append)
    assert (best, np.isnan(ndcg)) == (0, True)
