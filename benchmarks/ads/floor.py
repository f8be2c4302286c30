"""How near to the true probabilities anybody can come who must learn tastes: `python -m benchmarks.ads.floor`.

The estimator knows of a simulated world all that no model is told: the vectors of the ads, how format and device go
together, how a person's taste turns in time, how often each place is looked at, and the mean and the spread of tastes.
What it has to learn is what the world hides: the two tastes of each person, how good each ad is, and the general
willingness to click. It learns from the first nine tenths of the showings, at the maximum of the posterior (L-BFGS;
normal priors), and is judged by the last tenth, as models are in `benchmarks.ads`. By theory the maximum of a
likelihood costs d / 2N nats a showing beside the truth, for d parameters; a prior makes that less.

What it does not use: who is shown what tells of tastes, too, because the application shows what people like.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from twinloop.datasets.simulator.ads import AdsApplication
from twinloop.datasets.simulator.settings import AdsSettings, WorldSettings
from twinloop.datasets.simulator.things import MEDIAN_SECONDS
from twinloop.datasets.simulator.vocabulary import LIKES_LENGTH
from twinloop.datasets.simulator.world import SIZE, STRENGTH, World
from twinloop.evaluation.probability import log_losses, normalised_entropy

Floats = NDArray[np.float64]
TEST = 0.1
QUALITY = 0.5  # standard deviation: of .3 x an exponential and .4 x a normal, as `things` draws them
ITERATIONS = 200
POPULATION = 20_000  # people that the mean and the spread of tastes are taken from


class Shown(NamedTuple):
    """Showings in the order of time: who, what, all that is known of the log-odds, and the angle of tastes, [N]."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    known: Floats
    angle: Floats
    seen: Floats
    clicked: Floats
    truth: Floats

    def part(self, rows: slice) -> Shown:
        """Return some of them."""
        return Shown(
            self.user[rows],
            self.item[rows],
            self.known[rows],
            self.angle[rows],
            self.seen[rows],
            self.clicked[rows],
            self.truth[rows],
        )


def main() -> None:
    """Print the floor of a world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--click-rate", type=float, default=0.02)
    parser.add_argument("--taste-turn-days", type=float, default=WorldSettings.taste_turn_days)
    parser.add_argument("--showings", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    world = WorldSettings(
        users=options.users,
        items=options.items,
        days=28,
        seed=options.seed,
        taste_turn_days=options.taste_turn_days,
    )
    events = int(options.showings * (1 + options.click_rate))
    settings = AdsSettings(events=events, click_rate=options.click_rate)
    print(json.dumps({"world": vars(options)} | floor(AdsApplication(world, settings)), indent=1))


def floor(application: AdsApplication) -> dict[str, float]:
    """Return the normalised entropy of the truth and of the estimator, and what they differ by."""
    shown = showings(application)
    begin = round(len(shown.user) * (1 - TEST))
    train, test = shown.part(slice(begin)), shown.part(slice(begin, None))
    said = estimated(application, train, test)
    truth, reached = (normalised_entropy(test.clicked, p) for p in (test.truth, said))
    # How much more is expected by the truth: what was drawn of it adds but noise.
    more = test.truth * np.log(test.truth / said) + (1 - test.truth) * np.log((1 - test.truth) / (1 - said))
    least = -(test.truth * np.log(test.truth) + (1 - test.truth) * np.log1p(-test.truth))
    return {
        "train": len(train.user),
        "test": len(test.user),
        "click rate": round(float(test.clicked.mean()), 4),
        "ne of the truth": round(truth, 5),
        "ne of the estimator": round(reached, 5),
        "ne above the truth's": round(reached / truth - 1, 4),
        "as expected by the truth": round(float(more.mean() / least.mean()), 4),
    }


def showings(application: AdsApplication) -> Shown:
    """Return everything that the application shows, in memory."""
    items, settings = application.world.items, application.settings
    length = np.log(items.duration_s / MEDIAN_SECONDS)
    parts = []
    for piece in application.pieces():
        shown = piece.shown
        order = np.argsort(shown.time_ms, kind="stable")
        known = np.array(LIKES_LENGTH)[shown.device] * length[shown.item]
        angle = np.full(len(order), 2 * np.pi * shown.day / application.world.settings.taste_turn_days)
        seen = (1.0 + shown.position) ** -settings.position_bias
        columns = (shown.user, shown.item, known, angle, seen, piece.outcomes.clicked, piece.truth.p_click)
        parts.append([np.asarray(column)[order] for column in columns])
    user, item, *rest = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Shown(user, item, *(column.astype(np.float64) for column in rest))


def estimated(application: AdsApplication, train: Shown, test: Shown) -> Floats:
    """Return what the estimator says of the test's showings, [N]."""
    settings, items = application.world.settings, application.world.items
    vectors = items.vectors.astype(np.float64) * STRENGTH
    people, things = settings.users, settings.items
    tastes = World(dataclasses.replace(settings, users=POPULATION)).users.tastes.astype(np.float64).reshape(-1, SIZE)
    mean, root = tastes.mean(axis=0), np.linalg.cholesky(np.cov(tastes.T))
    of_tastes = slice(0, 2 * people * SIZE)

    def odds(theta: Floats, of: Shown) -> Floats:
        # People x things are few enough to be told all of.
        first, second = (mean + theta[of_tastes].reshape(2, people, SIZE) @ root.T) @ vectors.T
        liked = np.cos(of.angle) * first[of.user, of.item] + np.sin(of.angle) * second[of.user, of.item]
        return np.asarray(theta[-1] + of.known + liked + QUALITY * theta[of_tastes.stop : -1][of.item])

    def cost(theta: Floats) -> tuple[float, Floats]:
        chance = _sigmoid(odds(theta, train))
        p = np.clip(train.seen * chance, 1e-9, 1 - 1e-9)
        loss = float(log_losses(train.clicked, p).sum())
        # d loss / d p x d p / d odds; the latter is p (1 - chance).
        slope = (p - train.clicked) / (1 - p) * (1 - chance)
        pair = train.user * things + train.item
        gradient = [
            (np.bincount(pair, slope * turned, people * things).reshape(people, things) @ vectors @ root).ravel()
            for turned in (np.cos(train.angle), np.sin(train.angle))
        ]
        whole = np.concatenate([*gradient, QUALITY * np.bincount(train.item, slope, things), [slope.sum()]])
        whole[:-1] += theta[:-1]
        return loss + 0.5 * float(theta[:-1] @ theta[:-1]), whole

    start = np.zeros(of_tastes.stop + things + 1)
    start[-1] = np.log(train.clicked.mean())
    settings_of = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS}
    found = minimize(cost, start, jac=True, method="L-BFGS-B", options=settings_of)
    return np.asarray(test.seen * _sigmoid(odds(found.x, test)))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


if __name__ == "__main__":
    main()
