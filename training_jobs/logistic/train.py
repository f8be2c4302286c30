"""Logistic regression of clicks on hashed ids and features by FTRL-proximal (McMahan et al., KDD 2013)."""

import sys

import numpy as np
from pydantic import Field

from twinloop.errors import BadInputError
from twinloop.evaluation.probability import log_losses
from twinloop.training.calibration import Floats as Floats64
from twinloop.training.calibration import chances, sampling_offset, within_error
from twinloop.training.click_graph import Shifted, write_click
from twinloop.training.clicks import ClickConfig, Clicks, Rows, describe, open_clicks
from twinloop.training.config import Floats
from twinloop.training.ftrl import STATE_FILE, Ftrl, Rates
from twinloop.training.job import Job, run_job


class Config(ClickConfig):
    """Hyperparameters; the best of each list on the validation split is taken. A state that goes on has its own."""

    alpha: Floats = Field((0.01, 0.03, 0.1), description="Learning rates to choose from.")
    l1: Floats = Field((0.5, 2.0), description="What an id must say to have a weight, to choose from.")
    l2: float = Field(1.0, ge=0)
    beta: float = Field(1.0, ge=0)
    batch: int = Field(256, ge=1, le=65_536, description="Impressions whose gradients are taken together.")
    passes: int = Field(
        3, ge=1, le=100, description="Over the train split, at most; one that does not help is the last."
    )


def train(config: Config, job: Job) -> None:
    """Choose on half of validation and learn from that half too, calibrate on the other, export, prove."""
    clicks = open_clicks(job.snapshot)
    before = earlier(job, clicks)
    early = clicks.train() if before is None else clicks.read("train", after=before.until_ms)
    choosing, held_out = clicks.read("validation").halves()
    offset = sampling_offset(config.negatives)
    if before is not None:
        job.say(f"goes on from {before.rows} impressions")
        check_later(before, choosing, held_out)
        choosing = choosing.take(choosing.times > before.until_ms[0])
    job.say(describe((early, choosing, held_out)))
    if before is not None:
        state = before
        state.learn(early.thinned(config.negatives, config.seed))
    else:
        state = first(config, job, clicks, early=early, choosing=choosing)
    loss = state.learn(choosing.thinned(config.negatives, config.seed))
    job.say(f"{state.used} ids have a weight; log loss of what it went on to learn {loss:.5f}")
    more = {"alpha": state.rates.alpha, "l1": state.rates.l1, "ids": float(state.used), "learnt": float(state.rows)}
    learnt = Rows.join(early, choosing)
    model = Shifted(state, offset)
    write_click(job, config, clicks, model, framework="numpy", held_out=held_out, learnt=learnt, more=more)
    (job.model_dir / "click" / STATE_FILE).write_bytes(state.packed())


def earlier(job: Job, clicks: Clicks) -> Ftrl | None:
    """Return the state that the job is to go on from: that of the channel `champion`, where there is one."""
    if job.champion is None:
        return None
    path = job.champion / STATE_FILE
    if not path.exists():
        raise BadInputError(f"the champion has no {STATE_FILE} to go on from; train without it once")
    state = Ftrl.unpack(path.read_bytes())
    if state.hashed != clicks.hashed or state.names != clicks.names:
        raise BadInputError(
            "the champion's state is of other ids or features than the snapshot's; train without it once, and go on "
            "from what that leaves"
        )
    return state


def check_later(state: Ftrl, choosing: Rows, held_out: Rows) -> None:
    """Refuse a state that has learnt from what it would be calibrated or judged by.

    A snapshot's parts begin later from day to day, unless older events came to the lake, or later ones left it.
    """
    end = max((int(rows.times.max()) for rows in (choosing, held_out) if len(rows)), default=-1)
    begin = int(held_out.times.min()) if len(held_out) else end + 1
    if max(state.until_ms) > end or state.until_ms[1] >= begin:
        raise BadInputError(
            "the champion has learnt from impressions that this snapshot calibrates or judges by; train without it "
            "once, and go on from what that leaves"
        )


def first(config: Config, job: Job, clicks: Clicks, *, early: Rows, choosing: Rows) -> Ftrl:
    """Return the slowest state of those that learnt from train whose loss is within a standard error of the best.

    The slower it learns, the less the last clicks that it met count: with few of them that is worth more than what
    a lower loss on as few others says.
    """
    offset = sampling_offset(config.negatives)
    rows = early.thinned(config.negatives, config.seed)
    tried: list[tuple[float, Floats64, Ftrl]] = []
    for alpha in sorted(config.alpha):
        for l1 in sorted(config.l1, reverse=True):
            rates = Rates(alpha=alpha, beta=config.beta, l1=l1, l2=config.l2, batch=config.batch)
            state = Ftrl.begin(rates, clicks.hashed, clicks.names, rows)
            best: tuple[float, Floats64, Ftrl] | None = None
            for number in range(1, config.passes + 1):
                loss, losses = state.learn(rows), np.zeros(0)
                if len(choosing):
                    losses = log_losses(choosing.clicked, chances(state.log_odds(choosing) + offset))
                    loss = float(losses.mean())
                job.say(f"alpha={alpha:g} l1={l1:g} pass {number}: log loss {loss:.5f}, {state.used} ids have a weight")
                if best is not None and loss >= best[0]:
                    break
                state.rows = len(rows)  # however often they were met
                best = loss, losses, state.copy()
                if not len(choosing):
                    break  # a later pass has seen its rows before, so nothing would say whether it helps
            if best is not None:
                tried.append(best)
    least = min(tried, key=lambda entry: entry[0])
    if not len(choosing):
        return least[2]
    member = np.unique(choosing.users, return_inverse=True)[1]
    return next(state for _, losses, state in tried if within_error(losses - least[1], member))


if __name__ == "__main__":
    sys.exit(run_job("logistic", Config, train))
