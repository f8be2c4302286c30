"""Logistic regression of each label on hashed n-grams of words and of characters inside words."""

import sys

import numpy as np
from pydantic import Field

from twinloop.contracts.text import TextInputs
from twinloop.training.config import Floats as Choices
from twinloop.training.job import Job, run_job
from twinloop.training.text_linear import LinearModel, fit_linear, told
from twinloop.training.text_release import calibrate, gaps, held_out, log_loss, write_text
from twinloop.training.text_reweighing import Tried, chosen, counts
from twinloop.training.texts import Floats, Ints, TextConfig, ngrams, open_texts


class Config(TextConfig):
    """Hyperparameters; the strength whose held-out log loss is least is taken, then the reweighing: see `chosen`."""

    strength: Choices = Field((1.0, 3.0, 10.0), description="How far weights may go: the inverse of the ridge.")
    reweighing: Choices = Field((0.0, 1.0, 2.0, 4.0), description="Of clean texts of guarded slices; 0: none.")
    most_gap: float = Field(0.1, ge=0, description="Between slices' false positives and others', if it can be had.")
    most_lost: float = Field(0.002, ge=0, description="Of log loss for a gap that is less, and still above that.")
    buckets: int = Field(2**18, ge=2**10, le=2**22, description="Of hashed n-grams, a power of two.")
    folds: int = Field(5, ge=2, le=20, description="Of train and validation, for what is chosen and calibrated.")


def train(config: Config, job: Job) -> None:
    """Choose the strength by folds, fit on everything, calibrate by what the folds said, prove."""
    texts = open_texts(job.snapshot, least_positives=config.least_positives)
    inputs = TextInputs(buckets=config.buckets)
    data = texts.train.join(texts.validation)
    rows = ngrams(data.texts, inputs)
    job.say(f"{len(data)} texts, labels {', '.join(texts.labels)}")

    def learnt(places: Ints, strength: float, reweighing: float) -> LinearModel:
        some = data.take(places)
        return fit_linear(inputs, [rows[place] for place in places], some.targets, strength, counts(some, reweighing))

    def say(strength: float, reweighing: float) -> Floats:
        return held_out(data, rows, lambda places: learnt(places, strength, reweighing), folds=config.folds)

    first = min(config.reweighing)
    losses: dict[float, float] = {}
    said: dict[tuple[float, float], Floats] = {}
    for strength in config.strength:
        said[strength, first] = say(strength, first)
        losses[strength] = log_loss(said[strength, first], data.targets)
        job.say(f"strength {strength:g}: held-out log loss {losses[strength]:.5f}")
    strength = min(losses, key=lambda one: (losses[one], one))
    tried = []
    # Where nobody is in a slice, there is nothing to choose.
    for reweighing in sorted(set(config.reweighing)) if any(data.slices) else [first]:
        if (strength, reweighing) not in said:
            said[strength, reweighing] = say(strength, reweighing)
        log_odds = said[strength, reweighing]
        apart = gaps(config, data, calibrate(log_odds, data.targets).apply(log_odds))
        loss = log_loss(log_odds, data.targets)
        tried.append(Tried(reweighing, loss, max(apart.values(), default=0.0)))
        job.say(f"reweighing {reweighing:g}: held-out log loss {loss:.5f}, gaps {_rounded(apart)}")
    best = chosen(tried, most_gap=config.most_gap, most_lost=config.most_lost)
    model = learnt(np.arange(len(data)), strength, best.strength)
    more = {"strength": strength, "reweighing": best.strength}
    write_text(
        job,
        config,
        texts,
        model,
        framework="scipy",
        data=data,
        log_odds=said[strength, best.strength],
        rows=rows,
        tensors=told,
        more=more,
    )


def _rounded(apart: dict[str, float]) -> dict[str, float]:
    return {name: round(gap, 3) for name, gap in apart.items()}


if __name__ == "__main__":
    sys.exit(run_job("hashed_linear", Config, train))
