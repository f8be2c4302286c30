"""Logistic regression of each label on hashed n-grams of words and of characters inside words."""

import sys

from pydantic import Field

from twinloop.contracts.text import TextInputs
from twinloop.training.config import Floats as Choices
from twinloop.training.job import Job, run_job
from twinloop.training.text_linear import LinearModel, fit_linear, told
from twinloop.training.text_release import held_out, log_loss, write_text
from twinloop.training.texts import Floats, Ints, TextConfig, ngrams, open_texts


class Config(TextConfig):
    """Hyperparameters; the strength whose held-out log loss is least is taken."""

    strength: Choices = Field((0.5, 1.0, 3.0), description="How far weights may go: the inverse of the ridge.")
    buckets: int = Field(2**18, ge=2**10, le=2**22, description="Of hashed n-grams, a power of two.")
    folds: int = Field(5, ge=2, le=20, description="Of train and validation, for what is chosen and calibrated.")


def train(config: Config, job: Job) -> None:
    """Choose the strength by folds, fit on everything, calibrate by what the folds said, prove."""
    texts = open_texts(job.snapshot, least_positives=config.least_positives)
    inputs = TextInputs(buckets=config.buckets)
    data = texts.train.join(texts.validation)
    rows = ngrams(data.texts, inputs)
    job.say(f"{len(data)} texts, labels {', '.join(texts.labels)}")
    tried: list[tuple[float, float, Floats]] = []
    for strength in config.strength:

        def fold(places: Ints, strength: float = strength) -> LinearModel:
            return fit_linear(inputs, [rows[place] for place in places], data.targets[places], strength)

        said = held_out(data, rows, fold, folds=config.folds)
        tried.append((log_loss(said, data.targets), strength, said))
        job.say(f"strength {strength:g}: held-out log loss {tried[-1][0]:.5f}")
    _, strength, said = min(tried, key=lambda entry: entry[:2])
    model = fit_linear(inputs, rows, data.targets, strength)
    more = {"strength": strength}
    write_text(
        job, config, texts, model, framework="scipy", data=data, log_odds=said, rows=rows, tensors=told, more=more
    )


if __name__ == "__main__":
    sys.exit(run_job("hashed_linear", Config, train))
