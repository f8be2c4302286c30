"""The lower layers of MiniLM (Wang et al., NeurIPS 2020), fine-tuned to tell labels of texts, beside a linear model."""

import sys

import numpy as np
import torch
from pydantic import Field

from twinloop.contracts.text import TextInputs
from twinloop.contracts.thresholds import VOCABULARY_FILE
from twinloop.errors import BadInputError
from twinloop.features.wordpieces import WordPieces, padded_pieces
from twinloop.training.job import Job, run_job
from twinloop.training.text_blend import BlendModel, BlendRow, blend_inputs, blend_shares
from twinloop.training.text_encoder import PACKAGE, Encoder, EncoderModel, installed_weights
from twinloop.training.text_linear import fit_linear
from twinloop.training.text_networks import Steps, fit
from twinloop.training.text_release import log_loss, write_text
from twinloop.training.texts import Ints, TextConfig, first_windows, ngrams, open_texts


class Config(TextConfig):
    """Hyperparameters."""

    package: str = Field(PACKAGE, pattern=r"^[a-z][a-z0-9_]{0,60}$", description="The installed one with weights.")
    layers: int = Field(3, ge=1, le=12, description="From the bottom; each costs about a millisecond of 30 pieces.")
    most_pieces: int = Field(96, ge=8, le=512, description="Of a window of a text.")
    epochs: int = Field(3, ge=1, le=50)
    batch: int = Field(32, ge=1, le=1024)
    rate: float = Field(6e-5, gt=0, le=1e-2)
    head_rate: float = Field(5e-4, gt=0, le=1e-1)
    decay: float = Field(0.01, ge=0, le=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    strength: float = Field(1.0, gt=0, description="Of the linear model of n-grams; see hashed_linear.")
    buckets: int = Field(2**18, ge=2**10, le=2**22, description="Of its hashed n-grams, a power of two.")
    threads: int = Field(1, ge=1, le=256, description="Last digits differ by their number.")


def train(config: Config, job: Job) -> None:
    """Fine-tune on train, blend, calibrate and choose thresholds on validation, export, prove."""
    torch.set_num_threads(config.threads)
    texts = open_texts(job.snapshot, least_positives=config.least_positives)
    if not len(texts.validation):
        raise BadInputError("the snapshot has no validation texts to calibrate by; load more data")
    weights = installed_weights(config.package)
    inputs = TextInputs(kind="both", window=400, overlap=50, most_pieces=config.most_pieces, buckets=config.buckets)
    cut = WordPieces(weights.vocabulary)
    rows = {
        part: [cut.pieces(text, config.most_pieces) for text in first_windows(data.texts, inputs)]
        for part, data in (("train", texts.train), ("validation", texts.validation))
    }
    torch.manual_seed(config.seed)
    encoder = Encoder(weights, layers=config.layers, labels=len(texts.labels), dropout=config.dropout)
    model = EncoderModel(inputs, encoder)
    job.say(f"{len(texts.train)} texts to learn from, labels {', '.join(texts.labels)}")

    def ask(places: Ints) -> torch.Tensor:
        return encoder(torch.from_numpy(padded_pieces([rows["train"][place] for place in places])))

    def tell(epoch: int, loss: float) -> None:
        held_out = log_loss(model.log_odds(rows["validation"]), texts.validation.targets)
        job.say(f"epoch {epoch}: loss {loss:.4f}, on validation {held_out:.4f}")

    fresh = list(encoder.head.parameters())
    begun = [p for name, p in encoder.named_parameters() if not name.startswith("head") and p.requires_grad]
    lengths = np.array([len(row) for row in rows["train"]], np.int64)
    steps = Steps(config.epochs, config.batch, config.rate, config.head_rate, config.decay)
    targets = texts.train.targets
    fit(encoder, ask, targets, lengths, steps, fresh=fresh, begun=begun, seed=config.seed, after_epoch=tell)
    grams = {
        part: ngrams(data.texts, inputs) for part, data in (("train", texts.train), ("validation", texts.validation))
    }
    linear = fit_linear(inputs, grams["train"], targets, config.strength)
    shares = blend_shares(
        model.log_odds(rows["validation"]), linear.log_odds(grams["validation"]), texts.validation.targets
    )
    job.say(f"shares of the encoder and of n-grams: {shares.round(2).tolist()}")
    blend = BlendModel(inputs, model, linear, shares)
    both = [BlendRow(*row) for row in zip(grams["validation"], rows["validation"], strict=True)]
    write_text(
        job,
        config,
        texts,
        blend,
        framework="torch",
        data=texts.validation,
        log_odds=blend.log_odds(both),
        rows=both,
        tensors=blend_inputs,
        files={VOCABULARY_FILE: weights.vocabulary},
        more={"layers": config.layers, "epochs": config.epochs},
    )


if __name__ == "__main__":
    sys.exit(run_job("text_transformer", Config, train))
