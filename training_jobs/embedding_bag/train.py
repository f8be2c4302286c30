"""A network over the mean of vectors of hashed n-grams (as fastText; Joulin et al., EACL 2017)."""

import sys

import numpy as np
import torch
from pydantic import Field

from twinloop.contracts.text import TextInputs
from twinloop.text.ngrams import Counted
from twinloop.training.config import Floats as Choices
from twinloop.training.job import Job, run_job
from twinloop.training.text_linear import rarity, told
from twinloop.training.text_networks import Bag, BagModel, NetworkConfig, Steps, fit, open_for_network, tensors
from twinloop.training.text_release import log_loss, write_text
from twinloop.training.texts import Floats, Ints, as_matrix, ngrams


class Config(NetworkConfig):
    """Hyperparameters; the rate whose log loss on validation is least is taken."""

    buckets: int = Field(2**16, ge=2**10, le=2**22, description="Of hashed n-grams, a power of two.")
    dim: int = Field(32, ge=1, le=512, description="Of an n-gram's vector.")
    hidden: int = Field(64, ge=1, le=2048)
    epochs: int = Field(4, ge=1, le=200)
    batch: int = Field(64, ge=1, le=4096)
    rate: Choices = Field((1e-3, 3e-3, 1e-2), description="Of learning, at its highest.")
    decay: float = Field(0.05, ge=0, le=1)
    dropout: float = Field(0.3, ge=0, lt=1)


def train(config: Config, job: Job) -> None:
    """Fit on train, calibrate and choose thresholds on validation, export, prove."""
    texts = open_for_network(config, job)
    inputs = TextInputs(buckets=config.buckets)
    rows, held_out = ngrams(texts.train.texts, inputs), ngrams(texts.validation.texts, inputs)
    tried: list[tuple[float, float, BagModel]] = []
    for rate in config.rate:
        model = fit_bag(config, inputs, rows, texts.train.targets, rate)
        tried.append((log_loss(model.log_odds(held_out), texts.validation.targets), rate, model))
        job.say(f"rate {rate:g}: on validation {tried[-1][0]:.4f}")
    _, rate, model = min(tried, key=lambda entry: entry[:2])
    write_text(
        job,
        config,
        texts,
        model,
        framework="torch",
        data=texts.validation,
        log_odds=model.log_odds(held_out),
        rows=held_out,
        tensors=told,
        more={"epochs": config.epochs, "rate": rate},
    )


def fit_bag(config: Config, inputs: TextInputs, rows: list[Counted], targets: Floats, rate: float) -> BagModel:
    """Return a bag that has learnt these rows at a rate."""
    torch.manual_seed(config.seed)
    idf = rarity(as_matrix(rows, config.buckets))
    bag = Bag(config.buckets, idf, targets.shape[1], dim=config.dim, hidden=config.hidden, dropout=config.dropout)

    def ask(places: Ints) -> torch.Tensor:
        log_odds: torch.Tensor = bag(*tensors([rows[place] for place in places]))
        return log_odds

    lengths = np.array([len(row.ids) for row in rows], np.int64)
    steps = Steps(config.epochs, config.batch, config.decay)
    rates = [([parameter for parameter in bag.parameters() if parameter.requires_grad], rate)]
    fit(bag, ask, targets, lengths, steps, rates=rates, seed=config.seed, after_epoch=lambda _, __: None)
    return BagModel(inputs, bag)


if __name__ == "__main__":
    sys.exit(run_job("embedding_bag", Config, train))
