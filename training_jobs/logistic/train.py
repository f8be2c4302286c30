"""Logistic regression of clicks on hashed ids and features, which goes on by FTRL (McMahan et al., KDD 2013)."""

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
from twinloop.training.ridges import Problem, Ridges
from twinloop.training.standard import Standard


class Config(ClickConfig):
    """Hyperparameters. A state that goes on has its own."""

    ridge: Floats = Field(
        (30.0, 100.0, 300.0),
        description="Of all ids and features, to choose from; the strongest that is as good as any.",
    )
    rounds: int = Field(
        3, ge=0, le=20, description="In which each field's own ridge is estimated from there; 0: one for all."
    )
    alpha: float = Field(0.05, gt=0, le=10, description="Learning rate of what comes later.")
    l1: float = Field(0.5, ge=0, description="What an id that comes later must say to have a weight.")
    l2: float = Field(1.0, ge=0, description="Ridge of what comes later, beside what was learnt before.")
    beta: float = Field(1.0, ge=0)
    batch: int = Field(256, ge=1, le=65_536, description="Impressions whose gradients are taken together.")

    def rates(self) -> Rates:
        """Return how it goes on."""
        return Rates(alpha=self.alpha, beta=self.beta, l1=self.l1, l2=self.l2, batch=self.batch)


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
    learnt, more = Rows.join(early, choosing), {}
    if before is not None:
        state = before
        loss = state.learn(learnt.thinned(config.negatives, config.seed))
        job.say(f"log loss of what it went on to learn {loss:.5f}")

        def on_everything(rows: Rows) -> Ftrl:
            del rows  # all but those held out has been learnt
            further = state.copy()
            further.learn(held_out.thinned(config.negatives, config.seed))
            return further

    else:
        ridges = chosen_ridges(config, job, early=early, choosing=choosing)
        more["ridge"] = ridges.features

        def on_everything(rows: Rows) -> Ftrl:
            return solved(config, clicks, rows, ridges)

        state = on_everything(learnt)
    job.say(f"{state.used} ids have a weight")
    more |= {"ids": float(state.used), "learnt": float(state.rows)}
    write_click(
        job,
        config,
        clicks,
        Shifted(state, offset),
        framework="numpy",
        held_out=held_out,
        learnt=learnt,
        more=more,
        again=lambda rows: Shifted(on_everything(rows), offset),
    )
    # What goes on has not met what calibrates: the next snapshot's calibrating rows are partly the same.
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


def solved(config: Config, clicks: Clicks, rows: Rows, ridges: Ridges) -> Ftrl:
    """Return the state at the optimum of rows, thinned."""
    rows = rows.thinned(config.negatives, config.seed)
    return Ftrl.solved(config.rates(), clicks.hashed, clicks.names, rows, ridge=ridges)


def chosen_ridges(config: Config, job: Job, *, early: Rows, choosing: Rows) -> Ridges:
    """Return the ridges by which the rows not learnt from are told best.

    One for all is the strongest whose log loss is within a standard error of the best one's. Each field's own ridge,
    estimated from there, is taken unless its log loss is surely higher than that. Where there are no such rows, the
    strongest for all: what nothing has shown to be true is not believed.
    """
    fields, strongest = early.ids.shape[1], max(config.ridge)
    if not len(choosing):
        return Ridges.even(fields, strongest)
    learnt, offset = early.thinned(config.negatives, config.seed), sampling_offset(config.negatives)
    standard = Standard.fit(learnt.known)
    problem = Problem(learnt, standard.apply(learnt.known))
    asked = standard.apply(choosing.known)

    def losses(weights: Floats64) -> Floats64:
        return log_losses(choosing.clicked, chances(problem.asked(weights, choosing.ids, asked) + offset))

    tried: list[tuple[float, Floats64, Floats64]] = []
    for ridge in sorted(config.ridge, reverse=True):
        weights = problem.solve(Ridges.even(fields, ridge), tried[-1][1] if tried else None)
        tried.append((ridge, weights, losses(weights)))
        job.say(f"ridge {ridge:g}: log loss {tried[-1][2].mean():.5f}")
    least = min((of for _, _, of in tried), key=lambda of: float(of.mean()))
    member = np.unique(choosing.users, return_inverse=True)[1]
    ridge, weights, loss = next(one for one in tried if within_error(one[2] - least, member))
    even = ridges = Ridges.even(fields, ridge)
    for _ in range(config.rounds):
        ridges = problem.improved(ridges, weights)
        weights = problem.solve(ridges, weights)
    own = losses(weights)
    told = ", ".join(f"{ridge:.3g}" for ridge in ridges.fields)
    job.say(f"ridges of fields {told}, of features {ridges.features:.3g}: log loss {own.mean():.5f}")
    return ridges if config.rounds and within_error(own - loss, member) else even


if __name__ == "__main__":
    sys.exit(run_job("logistic", Config, train))
