"""Ads' rules over what the model says: pure functions of arrays, so that an answer can be explained and tested.

In this order: ads that the user has seen often enough today are left out (`within_caps`), ads whose budget of the day
is nearly spent take part with a probability (`participation`), those that do are ordered by what a showing is worth
(`values`, `ranking`), and a few answers are in any order, with propensities that are exactly known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.systems.ads.presets import Preset

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]


def within_caps(shown: NDArray[np.floating], shown_of_campaign: NDArray[np.floating], preset: Preset) -> Flags:
    """Return which ads the user may be shown once more, bool[K].

    Several ads of one campaign in one answer count once here: which of them will be shown is the application's to say.

    Args:
        shown: How often each ad was shown to the user in the window, [K].
        shown_of_campaign: The same of its campaign's ads, [K]; 0 where the campaign is not known.
        preset: The settings.
    """
    open_ = np.ones(len(shown), np.bool_)
    if preset.per_ad:
        open_ &= shown < preset.per_ad
    if preset.per_campaign:
        open_ &= shown_of_campaign < preset.per_campaign
    return open_


def participation(spent: NDArray[np.floating], budget: NDArray[np.floating], preset: Preset) -> Floats:
    """Return with which probability each ad takes part in this answer, float64[K].

    An ad that spends too fast takes part less often, instead of bidding less (probabilistic throttling; Agarwal, Ghosh,
    Wei and You, Budget Pacing for Targeted Online Advertisements at LinkedIn, KDD 2014, adapt a pass-through rate to a
    forecast of the day). Here the rate needs no forecast and no state: it is 1 until `slow_from` of the budget is
    spent, falls in a straight line, and is 0 where nothing is left. Clicks that come late may still cost more than the
    budget, by what was shown meanwhile.

    Args:
        spent: What the ad cost in the window, in the unit of the bids, [K].
        budget: What it may cost; below 0 there is no limit, 0 is spent from the beginning, [K].
        preset: The settings.
    """
    limited = budget >= 0
    used = np.divide(spent, budget, out=np.ones(len(spent)), where=budget > 0)
    left = np.maximum(1.0 - used, 0.0)
    over = 1.0 - preset.slow_from
    rate = np.minimum(left / over, 1.0) if over > 0 else (left > 0).astype(np.float64)
    return np.where(limited, rate, 1.0)


def held_back(rates: Floats, random: np.random.Generator) -> Flags:
    """Return which ads do not take part, bool[K]."""
    return np.asarray(random.random(len(rates)) >= rates)


def values(click: NDArray[np.floating], bids: Floats) -> Floats:
    """Return what a showing of each ad is worth: bid x p(click); NaN where nothing was bid.

    Args:
        click: p(click), [K].
        bids: What a click is worth, NaN where the request does not say, [K].
    """
    return np.asarray(bids * click, np.float64)


class Ranking(NamedTuple):
    """Places of ads among those asked about, best first, and with which probability each has its place.

    `propensities` are None where nothing was left to chance.
    """

    places: Places
    propensities: Floats | None


def ranking(
    click: NDArray[np.floating],
    worth: Floats,
    open_: Flags,
    *,
    limit: int,
    explore: float = 0.0,
    random: np.random.Generator | None = None,
) -> Ranking:
    """Order the open ads by expected value, and where there is none by p(click), after those with one.

    With probability `explore` the answer is in an order that is drawn from all orders, each as likely (epsilon-greedy
    over the whole ranking). Of n open ads, one has the place that it would have anyway with probability
    1 - explore + explore / n, and any other with explore / n: these are the propensities. They are of each place by
    itself, given which ads are open: an answer is either drawn as a whole or not at all, so its places are not
    independent of each other.

    Args:
        click: p(click), [K].
        worth: As `values` has it, [K].
        open_: Which ads may be shown, [K].
        limit: Length of the answer at most.
        explore: Probability of an order that is drawn.
        random: Draws; None leaves nothing to chance.
    """
    open_places = np.flatnonzero(open_)
    told = ~np.isnan(worth[open_places])
    by = np.where(told, worth[open_places], click[open_places])
    best = open_places[np.lexsort((-by, ~told))]  # equal ads keep their order
    if random is None or explore <= 0 or not len(best):
        return Ranking(best[:limit], None)
    each = explore / len(best)
    order = random.permutation(best) if random.random() < explore else best
    return Ranking(order[:limit], (each + np.where(order == best, 1.0 - explore, 0.0))[:limit])
