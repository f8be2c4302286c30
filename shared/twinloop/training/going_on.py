"""How fast a state of `ftrl` goes on, if at all: as the users say that the steps have not met.

Steps on few clicks bring noise as well as news. So a state first goes on by the impressions of some users, at each of a
few learning rates, and what it then says of those that came since of the others is held against what it says as it is.
It stays where no rate is surely better: what nothing has shown to be true is not believed. Then it has learnt nothing
of what it was shown, and goes on from where it is next time, when there is more to choose by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from twinloop.evaluation.probability import log_losses
from twinloop.training.calibration import SURE, chances, sampling_offset, within_error
from twinloop.training.clicks import Rows
from twinloop.training.ftrl import Ftrl

STAYS = 0.0


class Thinning(NamedTuple):
    """Which share of the new rows without a click is learnt from, drawn by a seed; see `Rows.thinned`."""

    negatives: float = 1.0
    seed: int = 0


def gone_on(state: Ftrl, rate: float, rows: Rows, how: Thinning = Thinning()) -> Ftrl:  # noqa: B008 - it is a constant
    """Return a state that has learnt which of the rows are later than what it knows, and which clicks came late.

    Args:
        state: Where it goes on from; it is left as it is.
        rate: Learning rate; 0: it stays.
        rows: By time; those that it has learnt from may be among them.
        how: Of the new rows.
    """
    if rate == STAYS:
        return state.copy()
    further = state.at(rate)
    further.mend(state.late(rows))
    further.learn(rows.later(state.until_ms).thinned(*how))
    return further


def chosen_rate(
    state: Ftrl,
    rates: Iterable[float],
    rows: Rows,
    judging: Rows,
    how: Thinning = Thinning(),  # noqa: B008
) -> Ftrl:
    """Return the state gone on at the least rate that is as good as any; `tried` and `taken` say how it was chosen.

    It stays unless the best rate is surely better, by 1.96 standard errors. Else that is the least whose log loss is
    within a standard error of the best one's, and not above that of staying. Where there is nothing to learn or nothing
    to judge by, it stays, and nothing was `tried`.

    Args:
        state: Where it goes on from.
        rates: To choose from; 0, to stay, always is one of them.
        rows: What there is to learn from, see `gone_on`. Those of users who judge are left out until a rate is chosen.
        judging: Later rows, which are not learnt from.
        how: Of the rows to learn from.
    """
    others = rows.take(~np.isin(rows.users, judging.users))
    if not len(judging) or not len(others.later(state.until_ms)):
        return replace(state.copy(), tried=(), taken=STAYS)
    offset, losses = sampling_offset(how.negatives), {}
    for rate in sorted({STAYS, *rates}):
        said = gone_on(state, rate, others, how).log_odds(judging)
        losses[rate] = log_losses(judging.clicked, chances(said + offset))
    means = {rate: float(of.mean()) for rate, of in losses.items()}
    best = min(means, key=lambda rate: (means[rate], rate))
    member = np.unique(judging.users, return_inverse=True)[1]
    if within_error(losses[STAYS] - losses[best], member, SURE):
        taken = STAYS
    else:
        near = (rate for rate in means if within_error(losses[rate] - losses[best], member))
        taken = next(rate for rate in near if means[rate] <= means[STAYS])  # as the best one is
    return replace(gone_on(state, taken, rows, how), tried=tuple(means.items()), taken=taken)
