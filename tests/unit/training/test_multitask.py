"""The engagement network: what it learns, what it must not, and that its ONNX form is it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import shown_folder
import torch
from shown_folder import draw, halves, part

from twinloop.errors import BadInputError
from twinloop.training.artefact import prove_parity, session
from twinloop.training.impressions import Impressions, Shown, read_impressions
from twinloop.training.multitask import Learner, Shape, constant_for, duration_column, fit, measured, situation_offsets
from twinloop.training.multitask_graph import ask, compare, engagement_graph
from twinloop.training.snapshot import read_snapshot
from twinloop.training.taste import Content, TasteShape

QUICK = Shape(TasteShape(length=20, dropout=0.0), dropout=0.0, learning_rate=0.01, patience=12)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learn(source: Path, *, shape: Shape = QUICK, epochs: int = 8, seed: int = 0) -> tuple[Shown, Learner, bytes]:
    """Fit on a snapshot's folder; returns what it was fitted on, and its graph after the proof."""
    snapshot = read_snapshot(source)
    shown = read_impressions(snapshot)
    content = Content.describe(shown.likes.counts(), snapshot.items.tags, [None] * len(snapshot.items), most=1000)
    learner, metrics = fit(shown, content, shape, epochs=epochs, lesson_epochs=1, seed=seed)
    assert metrics["epochs"] >= 1
    exported = engagement_graph(
        learner.model, learner.bins, duration=duration_column(shown), facts=situation_offsets(shown)
    )
    assert prove_parity(compare(session(exported), learner, shown)).rows > 0
    return shown, learner, exported


def answer(exported: bytes, rows: dict[str, np.ndarray], **changed: np.ndarray) -> dict[str, np.ndarray]:
    """Ask about rows' items for a user who liked even ones."""
    known = np.stack([rows["item_rate"], rows["item_duration_s"]], axis=1).astype(np.float32)
    asked = {
        "known": known,
        "items": np.array([int(item[1:]) for item in rows["item_id"]]),
        "history": np.arange(0, 20, 2),
        "times": shown_folder.START_MS // 1000 + np.arange(10),
        "at": shown_folder.START_MS // 1000 + 5_000,
    } | changed
    return ask(session(exported), **asked)


def test_it_learns_tastes_and_seconds_and_says_them_in_onnx(tmp_path):
    rows = draw()
    _, _, exported = learn(shown_folder.write(tmp_path / "s", halves(rows)))
    one_of_each = {name: np.asarray(values)[:200] for name, values in rows.items()}
    said = answer(exported, one_of_each)
    even = np.array([int(item[1:]) % 2 == 0 for item in one_of_each["item_id"]])
    long = one_of_each["item_duration_s"] > 50
    assert said["click"][even].mean() > 0.5 > said["click"][~even].mean()
    assert said["watch_s"][even & long].mean() > 3 * said["watch_s"][even & ~long].mean()
    assert (said["watch_s"] >= 0).all()
    for name in ("click", "long_watch"):
        assert ((said[name] >= 0) & (said[name] <= 1)).all()


def test_facts_of_the_moment_are_heard(tmp_path):
    """Everything is clicked in one tab, little in the other; the device never differs, the mood is rarely said."""
    rows = draw()
    count = len(rows["user_id"])
    tab = np.arange(count) % 2
    rows["label_click"] = np.where(tab == 0, 1, np.asarray(rows["label_click"]) * (np.arange(count) % 5 == 0))
    rows["context_tab"] = np.where(tab == 0, '"Home"', '"search"').astype(object)
    rows["context_device"] = np.full(count, '"tv"', object)
    rows["context_mood"] = np.where(np.arange(count) < 20, "1", None)
    given = halves({name: np.asarray(values) for name, values in rows.items()})
    shown, _, exported = learn(shown_folder.write(tmp_path / "s", given))
    assert shown.situation == {"tab": ("home", "search")}
    assert set(shown.train.situation[:, 0].tolist()) == {1, 2}
    asked = {name: np.asarray(values)[:100] for name, values in rows.items()}
    home, search, elsewhere = (
        answer(exported, asked, situation=np.array([place]))["click"].mean() for place in (1, 2, 0)
    )
    assert home > 0.8
    assert search < 0.3
    assert search < elsewhere < home


def test_equal_data_and_seed_give_equal_bytes_and_duplicates_change_nothing(tmp_path):
    rows = halves(draw(users=20, each=12))
    twice = {split: {k: np.concatenate([v, v]) for k, v in part_.items()} for split, part_ in rows.items()}
    models = [
        learn(shown_folder.write(tmp_path / name, given, users=20), epochs=2)[2]
        for name, given in (("a", rows), ("b", rows), ("c", twice))
    ]
    assert models[0] == models[1] == models[2]


@pytest.mark.slow
def test_the_place_explains_clicks_in_training_and_is_not_served(tmp_path):
    """Clicks dwindle from place to place and the old ranking put worse items first: places must not look like taste."""
    rng = np.random.default_rng(5)
    rows = draw(users=80, each=40)
    item = np.array([int(name[1:]) for name in rows["item_id"]])
    good = item % 3  # 0 is worst, and was shown at the top
    place = good * 2 + rng.integers(0, 5, len(item))
    chance = np.array([0.2, 0.4, 0.8])[good] * 0.65**place
    rows["position"], rows["item_rate"] = place.astype(np.int32), good.astype(float)
    rows["label_click"] = (rng.random(len(item)) < chance).astype(np.float32)
    known = halves(rows)
    unknown = {name: values | {"position": np.full(len(values["position"]), -1)} for name, values in known.items()}
    biased = {}
    for name, given in (("with", known), ("without", unknown)):
        shown, learner, exported = learn(shown_folder.write(tmp_path / name, given, users=80), epochs=10)
        inputs = {entry.name for entry in session(exported).get_inputs()}
        assert inputs == {"known", "items", "history", "times", "at"}
        asked = {key: np.asarray(values)[:300] for key, values in rows.items()}
        said = answer(exported, asked)["click"]
        biased[name] = np.corrcoef(said, good[:300])[0, 1]
        # What is served of an impression does not change with where it was shown.
        moved = shown.validation
        before = learner.outlook(moved).click
        moved.positions[:] = 7
        assert (learner.outlook(moved).click == before).all()
    assert biased["with"] > 0.5
    assert biased["with"] > biased["without"] + 0.3


def test_what_is_not_known_or_out_of_all_bounds_gives_ordinary_answers(tmp_path):
    rows = draw(users=20, each=12)
    rows["item_rate"][::3] = np.nan
    _, _, exported = learn(shown_folder.write(tmp_path / "s", halves(rows), users=20), epochs=2)
    few = {name: np.asarray(values)[:6] for name, values in rows.items()}
    known = np.array([[np.nan, np.nan], [np.inf, -np.inf], [3e38, 3e38], [-3e38, 0], [0, -1], [0.5, 1e-30]], np.float32)
    nobody = {"history": np.zeros(0, np.int64), "times": np.zeros(0, np.int64)}
    for changed in ({}, {"items": np.full(6, -1)}, nobody, {"at": 0}):
        for values in answer(exported, few, known=known, **changed).values():
            assert values.shape == (6,)
            assert np.isfinite(values).all()
    # Nothing liked is the same however it is said, and what is liked beyond the end is forgotten.
    empty = answer(exported, few, **nobody)
    minus = answer(exported, few, history=np.array([-1, -1]), times=np.array([0, 9]))
    assert all((empty[name] == minus[name]).all() for name in empty)
    history = np.arange(30)
    latest = answer(exported, few, history=history[-20:], times=history[-20:])
    assert all((latest[name] == answer(exported, few, history=history, times=history)[name]).all() for name in latest)


@pytest.mark.parametrize("label", ["label_click", "label_long_watch", "label_watch_s"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_outcomes_that_are_all_alike_are_learnt_as_such(label, value, tmp_path):
    rows = draw(users=20, each=12)
    rows[label] = np.full(len(rows[label]), value)
    shown, learner, _ = learn(shown_folder.write(tmp_path / "s", halves(rows), users=20), epochs=3)
    said = learner.outlook(shown.validation)
    assert np.abs(getattr(said, label.removeprefix("label_")) - value).mean() < 0.2
    metrics = measured(shown.validation, said)
    absent = {"label_click": "click_auc", "label_long_watch": "long_watch_auc", "label_watch_s": "watch_xauc"}[label]
    assert absent not in metrics
    assert all(np.isfinite(number) for number in metrics.values())


@pytest.mark.parametrize("durations", [0.0, np.nan, 12.0])
def test_durations_that_say_nothing(durations, tmp_path):
    rows = draw(users=20, each=12)
    rows["item_duration_s"] = np.full(len(rows["item_id"]), durations)
    _, learner, exported = learn(shown_folder.write(tmp_path / "s", halves(rows), users=20), epochs=2)
    few = {name: np.asarray(values)[:4] for name, values in rows.items()}
    said = answer(exported, few)["watch_s"]
    assert ((said >= 0) & (said <= rows["label_watch_s"].max())).all()
    assert len(learner.bins.durations) <= 1


def test_no_duration_among_the_features_is_one_that_is_not_known(tmp_path):
    def without(manifest):
        return manifest.model_copy(update={"known_features": manifest.known_features[:1]})

    source = shown_folder.write(tmp_path / "s", halves(draw(users=20, each=12)), users=20, change=without)
    shown, learner, _ = learn(source, epochs=1)
    assert duration_column(shown) == -1
    assert len(learner.bins.durations) == 0


def test_without_validation_it_is_fitted_all_the_same(tmp_path):
    rows = draw(users=20, each=12)
    shown, _, _ = learn(shown_folder.write(tmp_path / "s", {"train": rows}, users=20), epochs=2)
    assert len(shown.validation) == 0


def test_one_impression_is_enough_for_a_model(tmp_path):
    learn(shown_folder.write(tmp_path / "s", {"train": part(draw(), np.arange(1200) < 1)}), epochs=1)


def test_people_and_videos_that_nobody_knows_are_ordinary(tmp_path):
    rows = draw(users=20, each=12)
    rows["user_id"] = [f"new-{name}" if n % 2 else name for n, name in enumerate(rows["user_id"])]
    rows["item_id"] = [f"new-{name}" if n % 3 else name for n, name in enumerate(rows["item_id"])]
    shown, _, _ = learn(shown_folder.write(tmp_path / "s", halves(rows), users=20), epochs=1)
    assert (shown.train.users < 0).any()
    assert (shown.train.items < 0).any()


def test_history_is_what_came_strictly_before(tmp_path):
    from twinloop.training.taste import Histories

    shown = read_impressions(read_snapshot(shown_folder.write(tmp_path / "s", halves(draw()))))
    likes, histories = shown.likes, Histories(shown.likes, 5)
    for user in (0, 7, -1):
        for moment in (0, likes.times[3], likes.times[likes.users == 7][4], likes.times.max() + 1):
            past = histories.before(np.array([user]), np.array([moment])).items.numpy()[0]
            expected = likes.items[(likes.users == user) & (likes.times < moment)][-5:]
            assert past[past >= 0].tolist() == expected.tolist()


def test_the_items_liked_least_share_a_vector_where_there_are_too_many():
    content = Content.describe(np.array([5, 1, 3, 0]), [["t"], [], ["t"], ["s"]], ["a", "b", "a", None], most=2)
    assert content.own.tolist() == [1, 0, 2, 0, 0]
    assert content.authors.tolist() == [1, 0, 1, 0, 0]  # of two videos, of one alone
    assert content.tags.tolist() == [2, 0, 2, 1, 0]


BROKEN = {
    "label_click": (2.0, "label_click has values that are no outcome"),
    "label_long_watch": (-1.0, "label_long_watch has values"),
    "label_watch_s": (np.inf, "label_watch_s has values"),
}


@pytest.mark.parametrize("column", BROKEN)
def test_outcomes_that_are_none_are_refused(column, tmp_path):
    value, reason = BROKEN[column]
    rows = draw(users=4, each=3)
    rows[column][1] = value
    source = shown_folder.write(tmp_path / "s", {"train": rows}, users=4)
    with pytest.raises(BadInputError, match=f"train/impressions.parquet: {reason}"):
        read_impressions(read_snapshot(source))


def test_missing_values_columns_and_files_are_told(tmp_path):
    table = shown_folder.table_of(draw(users=4, each=3))
    some = pa.array(np.arange(table.num_rows) == 1)
    holes = table.set_column(2, "time_ms", pc.if_else(some, None, table["time_ms"].combine_chunks()))
    wrong = {
        "holes": (holes, "rows without a value in time_ms"),
        "column": (table.drop_columns(["position"]), "no column position"),
    }
    for name, (given, reason) in wrong.items():
        source = shown_folder.write(tmp_path / name, {"train": given}, users=4)
        with pytest.raises(BadInputError, match=reason):
            read_impressions(read_snapshot(source))
    source = shown_folder.write(tmp_path / "broken", {"train": table}, users=4)
    (source / "train" / "impressions.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInputError, match="not readable Parquet"):
        read_impressions(read_snapshot(source))


@pytest.mark.parametrize("given", [{}, {"train": pa.schema([])}])
def test_no_impressions_is_a_reason_to_leave_the_rung_out(given, tmp_path):
    nothing = {split: shown_folder.table_of(draw(users=1, each=1)).slice(0, 0) for split in given}
    source = shown_folder.write(tmp_path / "s", nothing, users=4)
    with pytest.raises(BadInputError, match="this rung learns from impressions; snapshot 0123456789abcdef has none"):
        read_impressions(read_snapshot(source))


@pytest.mark.parametrize("rate", [0.003, 0.4, 0.97])
def test_the_usual_place_makes_chances_add_up(rate):
    logits = np.random.default_rng(2).normal(-1, 3, 5_000)
    found = constant_for(logits, rate)
    assert (1 / (1 + np.exp(-logits - found))).mean() == pytest.approx(rate, rel=1e-6)


def test_what_is_served_expects_as_many_clicks_as_there_were_wherever_they_were(tmp_path):
    """The first place gets nearly all the clicks: a chance at the places' mean logit would be far from their mean."""
    rng = np.random.default_rng(8)
    rows = draw(users=60, each=40)
    place = rng.integers(0, 10, len(rows["user_id"]))
    rows["position"] = place.astype(np.int32)
    rows["label_click"] = (rng.random(len(place)) < np.where(place == 0, 0.9, 0.02)).astype(np.float32)
    shown, learner, _ = learn(shown_folder.write(tmp_path / "s", halves(rows), users=60), epochs=12)
    everything = Impressions.join(shown.train, shown.validation)
    assert learner.outlook(everything).click.mean() == pytest.approx(everything.click.mean(), rel=0.02)
