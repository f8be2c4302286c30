"""Estimates from a log of predictions: near the known truth of simulated users, and honest about what a log lacks."""

import gzip
import json

import numpy as np
import pytest

from twinloop.errors import BadInputError
from twinloop.evaluation.logged import off_policy, read_log
from twinloop.serving.presets import choose
from twinloop.systems.video.policy import trials
from twinloop.systems.video.presets import PRESETS, Preset

NAMES = ("balanced", "fresh", "diverse")
LENGTH = 10
# How likely an item of a preset's list is liked, for users with much history and with little; new items are worse.
TASTE = {"balanced": (0.10, 0.06), "fresh": (0.05, 0.12), "diverse": (0.08, 0.08)}
NEW = 0.02


def truth(preset, explore):
    usual = np.mean(TASTE[preset])
    return LENGTH * usual + (PRESETS[preset].explore * (NEW - usual) if explore else 0.0)


def simulated(requests, mix, seed=5):
    """What serving logs, by the functions that serve, and what users whose tastes are known did."""
    random = np.random.default_rng(seed)
    lines, liked = [], {}
    for number in range(requests):
        user, prediction = f"u{number % 500}", f"p{number}"
        heavy = random.random() < 0.5
        chosen = choose(NAMES, None, f"{user}\0{prediction}", mix)
        drawn = trials(f"{user}\0{prediction}", PRESETS[chosen.name], LENGTH, 40)
        items = [f"{chosen.name}-{place}" for place in range(LENGTH)]
        propensities = [1.0] * LENGTH
        for trial in drawn:
            propensities[trial.place] = trial.propensity
            if trial.pick is not None:
                items[trial.place] = f"new-{trial.pick}"
        for item in items:
            chance = NEW if item.startswith("new") else TASTE[chosen.name][0 if heavy else 1]
            if random.random() < chance:
                liked[prediction, item] = 1.0
        lines.append(
            {
                "prediction_id": prediction,
                "user_id": user,
                "cold": False,
                "history_events": 200 if heavy else 3,
                "items": [[item, 0.0] for item in items],
                "preset": chosen._asdict(),
                "propensities": propensities,
                "tried": [trial.place for trial in drawn if trial.pick is not None],
            }
        )
    return lines, liked


@pytest.fixture(scope="module")
def log():
    return simulated(12_000, 0.6)


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize("preset", NAMES)
def test_the_known_truth_lies_in_the_intervals(log, preset, explore):
    found = off_policy(*log, preset, explore=explore, confidence=0.99)
    wanted = truth(preset, explore)
    for estimator in ("ips", "snips", "dr"):
        told = found[estimator]
        assert told["low"] < wanted < told["high"], (estimator, told, wanted)
        assert told["high"] - told["low"] < 0.25
    assert found["support"] == pytest.approx(1.0, abs=0.06)
    assert found["rounds"] == found["requests"] == 12_000
    assert 0 < found["effective_rounds"] <= 12_000
    assert found["effective_rounds"] == pytest.approx(found["rounds_of_preset"], rel=0.35)


def test_a_model_of_the_reward_makes_the_estimate_surer(log):
    """Where it explains the reward: here what is known of a request decides how much is liked."""
    lines, liked = log
    certain = {key: 1.0 for line in lines for key in ((line["prediction_id"], line["items"][0][0]),) if
               line["history_events"] == 200}  # fmt: skip
    found = off_policy(lines, certain, "diverse")
    width = {name: found[name]["high"] - found[name]["low"] for name in ("ips", "dr")}
    assert width["dr"] < 0.7 * width["ips"]
    assert found["dr"]["mean"] == pytest.approx(0.5, abs=0.03)
    assert liked


def test_the_policy_that_served_earned_what_it_earned():
    lines, liked = simulated(2000, 0.0)
    found = off_policy(lines, liked, "balanced")
    assert found["ips"]["mean"] == found["snips"]["mean"] == pytest.approx(found["served"]["mean"])
    assert found["effective_rounds"] == 2000
    trials_ = found["trials"]
    assert trials_["tried"]["low"] <= NEW <= trials_["tried"]["high"]
    assert trials_["usual"]["mean"] == pytest.approx(0.08, abs=0.03)
    assert trials_["tried"]["places"] + trials_["usual"]["places"] == 2000


def test_tried_items_are_compared_with_usual_ones_of_their_own_preset(log):
    """`fresh` tries most. Where its lists are liked more, whatever is in them, pooling would praise what it tried."""
    lines, random = log[0], np.random.default_rng(11)
    chance = {"balanced": 0.1, "fresh": 0.5, "diverse": 0.1}
    liked = {
        (line["prediction_id"], item): 1.0
        for line in lines
        for item, _ in line["items"]
        if random.random() < chance[line["preset"]["name"]]
    }
    pooled = {True: [], False: []}
    for line in lines:
        for place, (item, _) in enumerate(line["items"]):
            if line["propensities"][place] < 1:
                pooled[place in line["tried"]].append(liked.get((line["prediction_id"], item), 0.0))
    assert np.mean(pooled[True]) - np.mean(pooled[False]) > 0.08, "the bias, where nothing is to be found"
    found = off_policy(lines, liked, "balanced", confidence=0.99)["trials"]
    tried, usual = found["tried"], found["usual"]
    assert tried["mean"] == pytest.approx(usual["mean"], abs=0.03)
    assert max(tried["low"], usual["low"]) < min(tried["high"], usual["high"])
    assert (tried["places"], usual["places"]) == (len(pooled[True]), len(pooled[False]))
    of_fresh = [found[kind]["presets"]["fresh"]["mean"] for kind in ("tried", "usual")]
    assert of_fresh == pytest.approx([0.5, 0.5], abs=0.06)
    counts = {name: sum(found[kind]["presets"][name]["places"] for kind in ("tried", "usual")) for name in NAMES}
    for kind in (tried, usual):
        shared = sum(counts[name] * kind["presets"][name]["mean"] for name in NAMES) / sum(counts.values())
        assert kind["mean"] == pytest.approx(shared), "both with the same shares"
    assert found["left_out"] == {}


def test_a_preset_whose_trials_compare_with_nothing_is_left_out_by_name(log):
    lines, liked = log

    def changed(line):
        if line["preset"]["name"] == "fresh":  # its rate was set anew on the way
            other = [0.9 if p < 1 and place not in line["tried"] else p for place, p in enumerate(line["propensities"])]
            return line | {"propensities": other} if int(line["prediction_id"][1:]) % 2 else line
        if line["preset"]["name"] == "diverse" and line["tried"]:
            return line | {"tried": [], "propensities": [1.0] * LENGTH}
        return line

    found = off_policy(map(changed, lines), liked, "balanced")["trials"]
    assert found["left_out"] == {
        "diverse": "only tried or only usual items",
        "fresh": "it tried at more than one rate",
    }
    assert list(found["tried"]["presets"]) == list(found["usual"]["presets"]) == ["balanced"]
    alone = off_policy([line for line in lines if line["preset"]["name"] == "balanced"], liked, "balanced")["trials"]
    assert found["tried"] == alone["tried"]
    assert found["tried"]["mean"] == pytest.approx(found["tried"]["presets"]["balanced"]["mean"])
    others = [line for line in map(changed, lines) if line["preset"]["name"] == "fresh"]
    assert off_policy(others, liked, "fresh")["trials"] == {"left_out": {"fresh": "it tried at more than one rate"}}
    without = [line | {"tried": [], "propensities": None} for line in lines]
    assert off_policy(without, liked, "balanced")["trials"] is None


def test_what_says_nothing_is_left_out_and_counted(log):
    lines, liked = log
    named = {**lines[0], "prediction_id": "a", "preset": {"name": "fresh", "propensity": 1.0, "drawn": False}}
    fallback = {**lines[0], "prediction_id": "b", "preset": {"name": None, "propensity": 1.0, "drawn": False}}
    older = {"prediction_id": "c", "items": []}
    found = off_policy([*lines[:50], lines[0], named, fallback, older], liked, "balanced")
    assert found["rounds"] == 50
    assert found["left_out"] == {
        "a fallback answered": 1,
        "delivered again": 1,
        "logged before presets were": 1,
        "the caller chose the preset, or nothing was left to chance": 1,
    }


def test_a_log_that_never_left_it_to_chance_cannot_tell():
    lines, liked = simulated(50, 0.0)
    with pytest.raises(BadInputError, match="never chose the preset 'fresh' in this log, only balanced"):
        off_policy(lines, liked, "fresh")
    for line in lines:
        line["preset"]["drawn"] = False
    with pytest.raises(BadInputError, match="TWINLOOP_PRESET_MIX"):
        off_policy(lines, liked, "balanced")
    with pytest.raises(BadInputError, match="TWINLOOP_PRESET_MIX"):
        off_policy([], liked, "balanced")


@pytest.mark.parametrize(
    "change",
    [
        {"items": None},
        {"items": [["a"]]},
        {"propensities": [1.0]},
        {"propensities": [0.0] * LENGTH},
        {"propensities": ["x"] * LENGTH},
        {"tried": [LENGTH]},
        {"tried": [-1]},
        {"preset": "balanced"},
        {"preset": {"name": "balanced"}},
        {"cold": "very"},
        {"history_events": None},
    ],
)
def test_a_line_that_is_no_prediction_is_named(log, change):
    with pytest.raises(BadInputError, match="prediction 'p0' of the log cannot be read"):
        off_policy([log[0][0] | change], {}, "balanced")


def test_logs_are_read_from_files_and_folders(tmp_path):
    lines = [json.dumps({"n": number}).encode() for number in range(4)]
    (tmp_path / "2026" / "01").mkdir(parents=True)
    (tmp_path / "2026" / "01" / "a").write_bytes(lines[0] + b"\n\n" + lines[1] + b"\n")
    (tmp_path / "2026" / "b.gz").write_bytes(gzip.compress(lines[2] + b"\n" + lines[3]))
    assert sorted(line["n"] for line in read_log(tmp_path)) == [0, 1, 2, 3]
    assert [line["n"] for line in read_log(tmp_path / "2026" / "b.gz")] == [2, 3]


@pytest.mark.parametrize(
    ("body", "told"), [(b"{", "line 1: not JSON"), (b"[1]", "no JSON object"), (b"\x1f\x8b\x08", "no whole gzip")]
)
def test_a_log_that_cannot_be_read_is_named(tmp_path, body, told):
    (tmp_path / "log").write_bytes(body)
    with pytest.raises(BadInputError, match=told):
        list(read_log(tmp_path / "log"))


def test_a_log_that_is_not_there(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(BadInputError, match="no log of predictions"):
            list(read_log(path))


def test_presets_of_the_simulation_are_real_ones():
    assert all(isinstance(PRESETS[name], Preset) for name in NAMES)
