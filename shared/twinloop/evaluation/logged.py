"""What another preset of the policy would have earned, estimated from the log of predictions and what users then did.

A round is a request for which the policy itself chose the preset, with the propensity that the log tells; its reward
is how many items of its list were liked (events whose `request_id` is the prediction's id). Users are many and
requests of one user are few, so rounds are taken for independent.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinloop.errors import BadInputError
from twinloop.evaluation.intervals import Interval, mean_interval
from twinloop.evaluation.off_policy import Rounds, doubly_robust, inverse_propensity, self_normalised

Rewards = Mapping[tuple[str, str], float]
"""(prediction id, item id) -> what came of it; nothing where it is not there."""

_RIDGE = 1.0


@dataclass(frozen=True)
class Prediction:
    """One line of the log, as far as it is needed here."""

    prediction_id: str
    preset: str | None
    propensity: float
    drawn: bool
    items: tuple[str, ...]
    propensities: tuple[float, ...]
    tried: frozenset[int] | None  # None: the log does not say
    known: tuple[float, ...]  # what the model of the reward is told


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a log: a file of JSON lines, gzipped or not, or a folder of such files.

    Raises BadInputError where there is none, or a line is no JSON object.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not files or not path.exists():
        raise BadInputError(f"{path}: there is no log of predictions")
    for file in files:
        body = file.read_bytes()
        if body[:2] == b"\x1f\x8b":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error) as error:
                raise BadInputError(f"{file} is no whole gzip file: {error}") from error
        for number, line in enumerate(body.splitlines(), 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise BadInputError(f"{file}, line {number}: not JSON") from error
            if not isinstance(found, dict):
                raise BadInputError(f"{file}, line {number}: no JSON object")
            yield found


def off_policy(
    lines: Iterable[Mapping[str, Any]],
    rewards: Rewards,
    preset: str,
    *,
    explore: bool = True,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Estimate what a preset would have earned a list, in the log's own requests.

    Args:
        lines: Of the log, in any order; a prediction that comes twice counts once.
        rewards: What came of the items.
        preset: The policy under evaluation.
        explore: Whether it would leave to chance what it does; False: every place keeps its usual item.
        confidence: Of the intervals.

    Returns:
        ips, snips, dr: Intervals of the mean reward of a list. served: That of what was served. effective_rounds:
        How many rounds of the preset's own these are worth. support: The mean weight, near 1 where the log could have
        shown all that the preset would. trials: What tried items earned, and the usual ones at the same places,
        compared within presets; None where no place was left to chance.

    Raises:
        BadInputError: A line is no prediction, no round is left, the preset was never drawn, or the log does not say
            what was tried out and `explore` is false.
    """
    every, left_out = _predictions(lines)
    rounds = [p for p in every if p.drawn and p.preset is not None]
    left_out["the caller chose the preset, or nothing was left to chance"] += sum(
        not p.drawn and p.preset is not None for p in every
    )
    left_out["a fallback answered"] += sum(p.preset is None for p in every)
    if not rounds:
        raise BadInputError(
            "the log has no request whose preset the policy chose; "
            "serve with TWINLOOP_PRESET_MIX over 0, and without `preset` in the requests"
        )
    names = sorted({str(p.preset) for p in rounds})
    if preset not in names:
        raise BadInputError(f"the policy never chose the preset {preset!r} in this log, only {', '.join(names)}")
    earned = np.array([sum(rewards.get((p.prediction_id, item), 0.0) for item in p.items) for p in rounds])
    wanted = np.array([p.preset == preset for p in rounds], dtype=np.float64)
    propensities = np.array([p.propensity for p in rounds])
    if not explore and any(p.tried is None for p in rounds):
        raise BadInputError(
            "this log does not say which items were tried out, so what the preset would earn without is not known; "
            "ask without --no-explore"
        )
    if not explore:  # a trial's draw is part of the round: the policy would have made another
        propensities = propensities * np.array([math.prod(p.propensities) for p in rounds])
        wanted = wanted * np.array([not p.tried for p in rounds])
    weighed = Rounds(earned, propensities, wanted)
    expected, of_shown = _expected(rounds, earned, names, preset)
    return {
        "preset": preset,
        "explore": explore,
        "reward": "items of the list that were liked",
        "requests": len(every),
        "left_out": {why: count for why, count in sorted(left_out.items()) if count},
        "rounds": len(rounds),
        "rounds_of_preset": int(wanted.sum()),
        "effective_rounds": round(weighed.effective, 1),
        "support": round(float(weighed.weights.mean()), 4),
        "confidence": confidence,
        "served": asdict(mean_interval(earned, confidence=confidence)),
        "ips": asdict(inverse_propensity(weighed, confidence=confidence)),
        "snips": asdict(self_normalised(weighed, confidence=confidence)),
        "dr": asdict(doubly_robust(weighed, expected, of_shown, confidence=confidence)),
        "trials": _trials(every, rewards, confidence),
    }


def _predictions(lines: Iterable[Mapping[str, Any]]) -> tuple[list[Prediction], Counter[str]]:
    found: dict[str, Prediction] = {}
    left_out: Counter[str] = Counter()
    for line in lines:
        if "preset" not in line:
            left_out["logged before presets were"] += 1
            continue
        try:
            prediction = _prediction(line)
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"prediction {str(line.get('prediction_id'))[:80]!r} of the log cannot be read: {error!r}"
            ) from error
        if prediction.prediction_id in found:
            left_out["delivered again"] += 1
        found.setdefault(prediction.prediction_id, prediction)
    return list(found.values()), left_out


def _prediction(line: Mapping[str, Any]) -> Prediction:
    items = tuple(str(item_id) for item_id, _ in line["items"])
    propensities = tuple(float(p) for p in line["propensities"] or [1.0] * len(items))
    tried = None if line.get("tried") is None else frozenset(int(place) for place in line["tried"])
    if len(propensities) != len(items) or not all(0 < p <= 1 for p in propensities):
        raise ValueError("propensities that are not of its items")
    if tried and not 0 <= min(tried) <= max(tried) < len(items):
        raise ValueError("a trial outside the list")
    return Prediction(
        prediction_id=str(line["prediction_id"]),
        preset=line["preset"]["name"],
        propensity=float(line["preset"]["propensity"]),
        drawn=bool(line["preset"]["drawn"]),
        items=items,
        propensities=propensities,
        tried=tried,
        known=(
            float(line.get("cold", False)),
            math.log1p(max(float(line.get("history_events", 0)), 0.0)),
            float(len(items)),
        ),
    )


def _expected(
    rounds: list[Prediction], earned: NDArray[np.float64], names: list[str], preset: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a model's reward of the preset and of what was shown, in each round.

    Ridge regression on the preset and on what was known, each half of the rounds by a model of the other half.
    """
    told = np.array([(1.0, *p.known) for p in rounds])
    shown = np.array([[p.preset == name for name in names] for p in rounds], dtype=np.float64)
    as_shown = np.hstack([told, shown])
    as_wanted = np.hstack([told, np.tile([float(name == preset) for name in names], (len(rounds), 1))])
    half = np.random.default_rng(0).permutation(len(rounds)) % 2 == 0  # not by turns: logs may have a rhythm
    expected, of_shown = np.empty(len(rounds)), np.empty(len(rounds))
    for judged in (half, ~half):
        rows, labels = as_shown[~judged], earned[~judged]
        gram = rows.T @ rows + _RIDGE * np.eye(rows.shape[1])
        weights = np.linalg.solve(gram, rows.T @ labels)
        expected[judged], of_shown[judged] = as_wanted[judged] @ weights, as_shown[judged] @ weights
    return expected, of_shown


def _trials(every: list[Prediction], rewards: Rewards, confidence: float) -> dict[str, Any] | None:
    """Return what places of exploration earned with a tried item and with the usual one; chance decided which.

    Chance decides at a preset's own rate, so the two are compared within presets: pooled, what is tried would look like
    the lists of the presets that try most. `tried` and `usual` are means over presets, each with its share of all these
    places. A preset that tried at two rates, or of which only one kind was seen, is left out, by name. A prediction of
    which the log does not say what was tried is passed over.
    """
    earned: dict[str, dict[bool, list[float]]] = {}
    rates: dict[str, set[float]] = {}
    for prediction in every:
        if prediction.tried is None:
            continue
        preset = str(prediction.preset)
        for place, propensity in enumerate(prediction.propensities):
            tried = place in prediction.tried
            if tried or propensity < 1:
                key = (prediction.prediction_id, prediction.items[place])
                earned.setdefault(preset, {True: [], False: []})[tried].append(rewards.get(key, 0.0))
                rates.setdefault(preset, set()).update([] if tried else [round(propensity, 9)])
    left_out = {
        preset: "it tried at more than one rate" if len(rates[preset]) > 1 else "only tried or only usual items"
        for preset, both in sorted(earned.items())
        if len(rates[preset]) > 1 or not both[True] or not both[False]
    }
    kept = {preset: both for preset, both in sorted(earned.items()) if preset not in left_out}
    if not kept:
        return {"left_out": left_out} if left_out else None
    places = {preset: len(both[True]) + len(both[False]) for preset, both in kept.items()}
    shares = {preset: count / sum(places.values()) for preset, count in places.items()}
    kinds = {}
    for name, flag in (("tried", True), ("usual", False)):
        within = {preset: mean_interval(both[flag], confidence=confidence) for preset, both in kept.items()}
        kinds[name] = {
            "places": sum(len(both[flag]) for both in kept.values()),
            **asdict(_standardised(within, shares)),
            "presets": {p: {"places": len(kept[p][flag]), **asdict(interval)} for p, interval in within.items()},
        }
    return {**kinds, "left_out": left_out}


def _standardised(within: Mapping[str, Interval], shares: Mapping[str, float]) -> Interval:
    """Return the mean of independent means with their shares; the distances to its bounds add up in squares."""
    mean = sum(shares[name] * interval.mean for name, interval in within.items())
    below = math.hypot(*(shares[name] * (interval.mean - interval.low) for name, interval in within.items()))
    above = math.hypot(*(shares[name] * (interval.high - interval.mean) for name, interval in within.items()))
    return Interval(mean, mean - below, mean + above, next(iter(within.values())).confidence)
