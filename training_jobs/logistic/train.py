"""Logistic regression of clicks on hashed ids and features, which goes on by FTRL (McMahan et al., KDD 2013)."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field, field_validator

from twinloop.errors import BadInputError
from twinloop.evaluation.probability import log_losses
from twinloop.training.calibration import Floats as Floats64
from twinloop.training.calibration import chances, sampling_offset, within_error
from twinloop.training.click_graph import Shifted, write_click
from twinloop.training.clicks import ClickConfig, Clicks, Rows, describe, open_clicks
from twinloop.training.config import Floats
from twinloop.training.ftrl import SERVED_FILE, STATE_FILE, Ftrl, Rates
from twinloop.training.going_on import STAYS, Thinning, chosen_rate, gone_on
from twinloop.training.job import Job, run_job
from twinloop.training.ridges import Problem, Ridges
from twinloop.training.standard import Standard


class Config(ClickConfig):
    """Hyperparameters. Of what comes later, a state that goes on has all but the learning rate of its own."""

    ridge: Floats = Field(
        (30.0, 100.0, 300.0),
        description="Of all ids and features, to choose from; the strongest that is as good as any.",
    )
    rounds: int = Field(
        3, ge=0, le=20, description="In which each field's own ridge is estimated from there; 0: one for all."
    )
    alpha: Floats = Field(
        (0.01, 0.05, 0.2),
        description="Learning rates of what comes later, to choose from; 0, to stay as it was, always is one of them.",
    )
    l1: float = Field(0.5, ge=0, description="What an id that comes later must say to have a weight.")
    l2: float = Field(1.0, ge=0, description="Ridge of what comes later, beside what was learnt before.")
    beta: float = Field(1.0, ge=0)
    batch: int = Field(256, ge=1, le=65_536, description="Impressions whose gradients are taken together.")

    @field_validator("alpha")
    @classmethod
    def _above_zero(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < rate <= 10 for rate in value):
            raise ValueError("a learning rate is above 0 and up to 10")
        return value

    def rates(self) -> Rates:
        """Return what a new state goes on by."""
        return Rates(alpha=self.alpha[0], beta=self.beta, l1=self.l1, l2=self.l2, batch=self.batch)


class WentOn(Config):
    """What a release that went on says of itself."""

    going_on: str = Field(description="In words, how fast, or that it stayed.")


class Learnt(NamedTuple):
    """What a job has learnt.

    Attributes:
        state: What has not met the rows that calibrate. The next job's calibrating rows are partly the same, so
            that is what it calibrates by.
        served: What has met them too, and serves.
        rows: Rows that are known to `state`, the latest at least.
        more: Metrics.
        config: Settings.
    """

    state: Ftrl
    served: Ftrl
    rows: Rows
    more: dict[str, float]
    config: Config


def train(config: Config, job: Job) -> None:
    """Choose on half of validation and learn from that half too, calibrate on the other, export, prove."""
    clicks = open_clicks(job.snapshot)
    before = earlier(config, job, clicks)
    validation = clicks.read("validation")
    held_out = validation.halves()[1]
    if before is None:
        learnt = from_the_start(config, job, clicks, validation)
    else:
        learnt = gone_on_from(*before, config=config, job=job, clicks=clicks, validation=validation)
    served, offset = learnt.served, sampling_offset(config.negatives)
    job.say(f"{served.used} ids have a weight")
    write_click(
        job,
        learnt.config,
        clicks,
        Shifted(learnt.state if len(held_out) else served, offset),
        framework="numpy",
        held_out=held_out,
        learnt=learnt.rows,
        more=learnt.more | {"ids": float(served.used), "learnt": float(served.rows)},
        again=lambda rows: Shifted(served, offset),
    )
    for name, state in ((STATE_FILE, learnt.state), (SERVED_FILE, served)):
        (job.model_dir / "click" / name).write_bytes(state.packed())


def from_the_start(config: Config, job: Job, clicks: Clicks, validation: Rows) -> Learnt:
    """Learn from everything, at the optimum."""
    early, (choosing, held_out) = clicks.train(), validation.halves()
    job.say(describe((early, choosing, held_out)))
    ridges = chosen_ridges(config, job, early=early, choosing=choosing)
    rows = Rows.join(early, choosing)
    state = served = solved(config, clicks, rows, ridges)
    if len(held_out):
        served = solved(config, clicks, Rows.join(rows, held_out), ridges)
    return Learnt(state, served, rows, {"ridge": ridges.features}, config)


def gone_on_from(state: Ftrl, served: Ftrl, *, config: Config, job: Job, clicks: Clicks, validation: Rows) -> Learnt:
    """Learn what came since, at the rate that the half that calibrates speaks for; or stay."""
    job.say(f"goes on from {state.rows} impressions")
    choosing, held_out = validation.halves()
    check_later(state, served, choosing, held_out)
    early = clicks.read("train", after=state.until_ms, and_clicked=True)
    rows, judging = Rows.join(early, choosing), held_out.later(served.until_ms)
    late = state.late(rows)
    job.say(describe((rows.later(state.until_ms), judging)) + f"; {len(late)} clicks came late")
    how = Thinning(config.negatives, config.seed)
    after = chosen_rate(state, config.alpha, rows, judging, how)
    losses = ", ".join(f"{loss:.5f} at {rate:g}" for rate, loss in after.tried)
    words = f"went on at a learning rate of {after.taken:g}"
    if after.taken == STAYS:
        words = "stayed as it was: no learning rate was surely better" if losses else "stayed as it was: nothing came"
    job.say(f"{words}; log loss of users not learnt from {losses}")
    more = {"learning_rate": after.taken, "late_clicks": float(len(late))}
    more |= {f"log_loss_at_{rate:g}": loss for rate, loss in after.tried}
    served = gone_on(served, after.taken, Rows.join(early, validation), how)
    served = replace(served, tried=after.tried, taken=after.taken)
    recent = Rows.join(early.later(state.until_ms), choosing)
    return Learnt(after, served, recent, more, WentOn(**config.model_dump(), going_on=words))


def earlier(config: Config, job: Job, clicks: Clicks) -> tuple[Ftrl, Ftrl] | None:
    """Return the states to go on from, see `Learnt`: those of the channel `champion`, where there is one."""
    if job.champion is None:
        return None
    state, served = (_unpacked(job.champion / name, clicks) for name in (STATE_FILE, SERVED_FILE))
    for found in {state.negatives, served.negatives} - {config.negatives}:
        raise BadInputError(
            f"the champion has learnt from {found:g} of what was not clicked, so it cannot go on with negatives="
            f"{config.negatives:g}; set negatives={found:g}, or train without it once"
        )
    return state, served


def _unpacked(path: Path, clicks: Clicks) -> Ftrl:
    if not path.exists():
        raise BadInputError(f"the champion has no {path.name} to go on from; train without it once")
    state = Ftrl.unpack(path.read_bytes())
    if state.hashed != clicks.hashed or state.names != clicks.names:
        raise BadInputError(
            "the champion's state is of other ids or features than the snapshot's; train without it once, and go on "
            "from what that leaves"
        )
    return state


def check_later(state: Ftrl, served: Ftrl, choosing: Rows, held_out: Rows) -> None:
    """Refuse a state that has learnt from what it would be calibrated or judged by.

    A snapshot's parts begin later from day to day, unless older events came to the lake, or later ones left it.
    """
    end = max((int(rows.times.max()) for rows in (choosing, held_out) if len(rows)), default=-1)
    begin = int(held_out.times.min()) if len(held_out) else end + 1
    if max(state.until_ms + served.until_ms) > end or state.until_ms[1] >= begin:
        raise BadInputError(
            "the champion has learnt from impressions that this snapshot calibrates or judges by; train without it "
            "once, and go on from what that leaves"
        )


def solved(config: Config, clicks: Clicks, rows: Rows, ridges: Ridges) -> Ftrl:
    """Return the state at the optimum of rows, thinned."""
    rows = rows.thinned(config.negatives, config.seed)
    state = Ftrl.solved(config.rates(), clicks.hashed, clicks.names, rows, ridge=ridges)
    return replace(state, negatives=config.negatives)


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
