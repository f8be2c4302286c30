"""A network over the mean of vectors of hashed n-grams (as fastText; Joulin et al., EACL 2017)."""

import sys

import numpy as np
import torch
from pydantic import Field

from twinloop.contracts.text import TextInputs
from twinloop.errors import BadInputError
from twinloop.training.job import Job, run_job
from twinloop.training.text_linear import rarity, told
from twinloop.training.text_networks import Bag, BagModel, Steps, fit, tensors
from twinloop.training.text_release import log_loss, write_text
from twinloop.training.texts import Ints, TextConfig, as_matrix, ngrams, open_texts


class Config(TextConfig):
    """Hyperparameters."""

    buckets: int = Field(2**16, ge=2**10, le=2**22, description="Of hashed n-grams, a power of two.")
    dim: int = Field(32, ge=1, le=512, description="Of an n-gram's vector.")
    hidden: int = Field(64, ge=1, le=2048)
    epochs: int = Field(8, ge=1, le=200)
    batch: int = Field(64, ge=1, le=4096)
    rate: float = Field(3e-3, gt=0, le=1)
    decay: float = Field(0.05, ge=0, le=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    threads: int = Field(1, ge=1, le=256, description="Last digits differ by their number.")


def train(config: Config, job: Job) -> None:
    """Fit on train, calibrate and choose thresholds on validation, export, prove."""
    torch.set_num_threads(config.threads)
    texts = open_texts(job.snapshot, least_positives=config.least_positives)
    if not len(texts.validation):
        raise BadInputError("the snapshot has no validation texts to calibrate by; load more data")
    inputs = TextInputs(buckets=config.buckets)
    rows, held_out = ngrams(texts.train.texts, inputs), ngrams(texts.validation.texts, inputs)
    torch.manual_seed(config.seed)
    idf = rarity(as_matrix(rows, config.buckets))
    bag = Bag(config.buckets, idf, len(texts.labels), dim=config.dim, hidden=config.hidden, dropout=config.dropout)
    model = BagModel(inputs, bag)
    job.say(f"{len(rows)} texts to learn from, labels {', '.join(texts.labels)}")

    def ask(places: Ints) -> torch.Tensor:
        return bag(*tensors([rows[place] for place in places]))

    def tell(epoch: int, loss: float) -> None:
        found = log_loss(model.log_odds(held_out), texts.validation.targets)
        job.say(f"epoch {epoch}: loss {loss:.4f}, on validation {found:.4f}")

    lengths = np.array([len(row.ids) for row in rows], np.int64)
    steps = Steps(config.epochs, config.batch, config.rate, config.rate, config.decay)
    fresh = [parameter for parameter in bag.parameters() if parameter.requires_grad]
    fit(bag, ask, texts.train.targets, lengths, steps, fresh=fresh, seed=config.seed, after_epoch=tell)
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
        more={"epochs": config.epochs},
    )


if __name__ == "__main__":
    sys.exit(run_job("embedding_bag", Config, train))
