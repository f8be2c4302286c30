"""FTRL-proximal: the algorithm of the paper, what it learns, and that it goes on where it stopped."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import clicks_folder
import numpy as np
import pytest
from clicks_folder import HASHED, NAMES
from sklearn.linear_model import LogisticRegression

from twinloop.errors import BadInputError
from twinloop.evaluation.probability import log_loss
from twinloop.training import ftrl
from twinloop.training.artefact import session
from twinloop.training.calibration import IDENTITY, chances
from twinloop.training.click_graph import Shifted, ask, click_graph
from twinloop.training.clicks import Rows, open_clicks
from twinloop.training.ftrl import Ftrl, Rates


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    opened = open_clicks(clicks_folder.simple(tmp_path_factory.mktemp("ftrl") / "s"))
    return opened.train(), opened.read("test")


def learnt(rows, **rates):
    state = Ftrl.begin(Rates(**rates), HASHED, NAMES, rows)
    state.learn(rows)
    return state


def by_the_paper(rows, state, rates):
    """Algorithm 1, coordinate by coordinate and row by row."""
    z, n = state.z.copy(), state.n.copy()
    for ids, known, clicked in zip(rows.ids, rows.known, rows.clicked, strict=True):
        told = state.standard.apply(known[None])[0].astype(np.float64) / np.sqrt(2 * len(NAMES))
        x = [(int(at), 1.0) for at in ids]
        x += [(state.buckets + place, value) for place, value in enumerate([*told, 1.0])]
        weights = {}
        for at, _ in x:
            l1 = rates.l1 if at < state.buckets else 0.0
            steep = (rates.beta + np.sqrt(n[at])) / rates.alpha + rates.l2
            weights[at] = 0.0 if abs(z[at]) <= l1 else -(z[at] - np.sign(z[at]) * l1) / steep
        p = 1 / (1 + np.exp(-sum(weights[at] * value for at, value in x)))
        for at, value in x:
            g = (p - clicked) * value
            sigma = (np.sqrt(n[at] + g * g) - np.sqrt(n[at])) / rates.alpha
            z[at] += g - sigma * weights[at]
            n[at] += g * g
    return z, n


def test_row_by_row_it_is_the_algorithm_of_the_paper(parts):
    rows = parts[0].take(np.arange(150))
    rows = rows.take(np.array([len(set(row)) == len(row) for row in rows.ids.tolist()]))
    rates = Rates(batch=1, l1=0.3)
    state = Ftrl.begin(rates, HASHED, NAMES, rows)
    z, n = by_the_paper(rows, state, rates)
    state.learn(rows)
    np.testing.assert_allclose(state.z, z, atol=1e-9)
    np.testing.assert_allclose(state.n, n, atol=1e-9)


def test_it_learns_and_small_batches_are_as_good_as_rows(parts):
    train, test = parts
    base = log_loss(test.clicked, np.full(len(test), train.clicked.mean()))
    losses = [
        log_loss(test.clicked, chances(learnt(train, batch=batch, alpha=0.1).log_odds(test))) for batch in (1, 256)
    ]
    assert losses[1] < 0.88 * base
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_l1_leaves_few_ids(parts):
    used = [learnt(parts[0], l1=l1).used for l1 in (0.0, 1.0, 5.0, 1e9)]
    assert used[0] > used[1] > 2 * used[2] > used[3] == 0
    # Features and the bias are no ids: they still speak.
    state = learnt(parts[0], l1=1e9)
    assert np.count_nonzero(state.weights) > 0


def test_it_begins_with_how_often_there_is_a_click(parts):
    train, _ = parts
    state = Ftrl.begin(Rates(), HASHED, NAMES, train)
    assert chances(state.log_odds(train)).mean() == pytest.approx(train.clicked.mean(), abs=1e-3)


def test_it_goes_on_where_it_stopped_and_two_days_are_as_one(parts):
    train, test = parts
    whole = learnt(train)
    first = Ftrl.begin(Rates(), HASHED, NAMES, train)
    cut = 256 * 7
    first.learn(train.take(np.arange(cut)))
    assert max(first.until_ms) == train.times[cut - 1]
    early = train.take(np.arange(cut))
    assert first.until_ms == tuple(half.times.max() for half in early.halves())
    body = first.packed()
    assert body == first.packed()
    again = Ftrl.unpack(body)
    assert (again.rates, again.hashed, again.names, again.rows) == (first.rates, HASHED, NAMES, cut)
    assert (again.z == first.z).all()
    again.learn(train.take(np.arange(cut, len(train))))
    assert (again.z == whole.z).all()
    assert (again.n == whole.n).all()
    assert (again.until_ms, again.rows) == (whole.until_ms, len(train))
    assert (again.log_odds(test) == whole.log_odds(test)).all()
    assert again.packed() == whole.packed()


def test_the_graph_says_the_same(parts):
    train, test = parts
    state = learnt(train)
    model = session(click_graph(state, IDENTITY, fields=5, known=2))
    assert [entry.name for entry in model.get_inputs()] == ["ids", "known"]
    np.testing.assert_allclose(ask(model, test), chances(state.log_odds(test)), atol=1e-6)
    shifted = Shifted(state, -1.0)
    model = session(click_graph(shifted, IDENTITY, fields=5, known=2))
    np.testing.assert_allclose(ask(model, test), chances(state.log_odds(test) - 1), atol=1e-6)


@pytest.mark.parametrize("lacks", ["ids", "known"])
def test_either_input_may_be_absent(parts, lacks):
    train, test = (replace(rows, **{lacks: getattr(rows, lacks)[:, :0]}) for rows in parts)
    hashed, names = (None, NAMES) if lacks == "ids" else (HASHED, ())
    state = Ftrl.begin(Rates(), hashed, names, train)
    state.learn(train)
    model = session(click_graph(state, IDENTITY, fields=test.ids.shape[1], known=test.known.shape[1]))
    assert len(model.get_inputs()) == 1
    np.testing.assert_allclose(ask(model, test), chances(state.log_odds(test)), atol=1e-6)
    assert Ftrl.unpack(state.packed()).hashed == hashed
    with pytest.raises(BadInputError, match="the model knows"):
        state.learn(parts[0])


def test_a_state_that_does_not_say_of_which_share_it_learnt_has_learnt_from_everything(parts):
    thin = replace(learnt(parts[0].take(np.arange(10))), negatives=0.25)
    assert Ftrl.unpack(thin.packed()).negatives == 0.25
    with np.load(io.BytesIO(thin.packed())) as file:
        held = dict(file)
    told = json.loads(held["told"].tobytes())
    del told["negatives"]
    before = io.BytesIO()
    np.savez(before, **(held | {"told": np.frombuffer(json.dumps(told).encode(), np.uint8)}))
    assert Ftrl.unpack(before.getvalue()).negatives == 1


def test_what_is_no_state_is_refused(parts):
    body = learnt(parts[0].take(np.arange(10))).packed()
    for broken in (b"", b"PK\x03\x04", body[:100], body[: len(body) // 2], b"\x80\x04" + body):
        with pytest.raises(BadInputError, match="no state to go on learning from"):
            Ftrl.unpack(broken)
    with np.load(io.BytesIO(body)) as file:
        held = dict(file)
    for change in ({"z": held["z"] * np.nan}, {"n": -held["n"] - 1}, {"met": held["met"] + 10**6}, {"mean": held["z"]}):
        again = io.BytesIO()
        np.savez(again, **(held | change))
        with pytest.raises(BadInputError, match="no state to go on learning from"):
            Ftrl.unpack(again.getvalue())
    objects = io.BytesIO()
    np.savez(objects, **(held | {"told": np.array([{}], dtype=object)}), allow_pickle=True)
    with pytest.raises(BadInputError, match="no state to go on learning from"):
        Ftrl.unpack(objects.getvalue())


def test_a_state_that_claims_too_much_costs_nothing(parts, monkeypatch):
    with np.load(io.BytesIO(learnt(parts[0].take(np.arange(10))).packed())) as file:
        held = dict(file)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in held.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0))
            body = member.getvalue()
            if name == "z":
                header = io.BytesIO()
                np.lib.format.write_array_header_1_0(
                    header, {"descr": "<f8", "fortran_order": False, "shape": (2**45,)}
                )
                body = header.getvalue() + b"\0" * 80
            archive.writestr(f"{name}.npy", body)
    with pytest.raises(BadInputError, match="less of one than it says"):
        Ftrl.unpack(buffer.getvalue())
    monkeypatch.setattr(ftrl, "_LARGEST_STATE", 1000)
    with pytest.raises(BadInputError, match="unfolds to more than 1000 bytes"):
        Ftrl.unpack(learnt(parts[0].take(np.arange(10))).packed())


def test_a_copy_goes_its_own_way(parts):
    state = learnt(parts[0])
    copy = state.copy()
    copy.learn(parts[1])
    assert copy.rows == state.rows + len(parts[1])
    assert not np.array_equal(copy.z, state.z)
    assert np.array_equal(state.z, learnt(parts[0]).z)


def test_many_features_and_few_clicks_leave_the_mean_where_it_is():
    rng = np.random.default_rng(5)
    count, names = 20_000, tuple(f"f{n}" for n in range(40))
    known = rng.lognormal(0, 2, (count, len(names))).astype(np.float32)
    clicked = (rng.random(count) < 0.005).astype(np.float32)
    rows = Rows(np.zeros((count, 0), np.int64), known, clicked, np.arange(count), np.arange(count))
    state = Ftrl.begin(Rates(), None, names, rows)
    state.learn(rows)
    assert chances(state.log_odds(rows)).sum() == pytest.approx(clicked.sum(), rel=0.2)


def test_solved_is_the_optimum_and_goes_on_from_there(parts):
    """By scikit-learn, which minimises the same: its C is one over the ridge, and its bias is free, too."""
    train, test = parts
    hot = np.zeros((len(train), HASHED.buckets))
    for field in range(train.ids.shape[1]):
        np.add.at(hot, (np.arange(len(train)), train.ids[:, field]), 1)
    state = Ftrl.solved(Rates(), HASHED, NAMES, train, ridge=5.0)
    told = np.hstack([hot, state.standard.apply(train.known)])
    right = LogisticRegression(C=1 / 5.0, tol=1e-8, max_iter=5_000).fit(told, train.clicked)
    np.testing.assert_allclose(state.log_odds(train), right.decision_function(told), atol=2e-3)

    assert (state.rows, state.until_ms) == (len(train), tuple(half.times.max() for half in train.halves()))
    assert state.packed() == Ftrl.solved(Rates(), HASHED, NAMES, train, ridge=5.0).packed()
    before = log_loss(test.clicked, chances(state.log_odds(test)))
    again = Ftrl.unpack(state.packed())
    assert (again.log_odds(test) == state.log_odds(test)).all()
    again.learn(train)
    assert log_loss(test.clicked, chances(again.log_odds(test))) == pytest.approx(before, rel=0.02)


@pytest.mark.parametrize("lacks", ["ids", "known"])
def test_what_is_solved_may_lack_either_input(parts, lacks):
    train, test = (replace(rows, **{lacks: getattr(rows, lacks)[:, :0]}) for rows in parts)
    hashed, names = (None, NAMES) if lacks == "ids" else (HASHED, ())
    state = Ftrl.solved(Rates(), hashed, names, train, ridge=5.0)
    base = log_loss(test.clicked, np.full(len(test), train.clicked.mean()))
    assert log_loss(test.clicked, chances(state.log_odds(test))) < base
