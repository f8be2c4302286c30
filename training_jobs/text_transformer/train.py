"""MiniLM (Wang et al., NeurIPS 2020), fine-tuned to tell labels of texts, beside a linear model; in whole numbers."""

import dataclasses
import sys
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from twinloop.contracts.text import TextInputs
from twinloop.contracts.thresholds import VOCABULARY_FILE
from twinloop.text.normalised_wordpiece import NormalisedWordPiece, padded_pieces
from twinloop.training.job import Job, run_job
from twinloop.training.text_blend import BlendRow, blend_inputs, blended
from twinloop.training.text_encoder import PACKAGE, Encoder, EncoderModel, installed_weights
from twinloop.training.text_linear import fit_linear
from twinloop.training.text_networks import NetworkConfig, Steps, fit, open_for_network
from twinloop.training.text_release import log_loss, write_text
from twinloop.training.text_reweighing import counts
from twinloop.training.texts import Ints, first_windows, ngrams


class Config(NetworkConfig):
    """Hyperparameters."""

    package: str = Field(PACKAGE, pattern=r"^[a-z][a-z0-9_]{0,60}$", description="The installed one with weights.")
    layers: int = Field(6, ge=1, le=12, description="From the bottom; each costs .2 ms of 22 pieces.")
    most_pieces: int = Field(96, ge=8, le=512, description="Of a window of a text.")
    epochs: int = Field(3, ge=1, le=50)
    batch: int = Field(32, ge=1, le=1024)
    rate: float = Field(1e-4, gt=0, le=1e-2, description="Of the uppermost layer.")
    rate_fall: float = Field(0.85, gt=0, le=1, description="A layer's rate as a share of that of the one above.")
    head_rate: float = Field(5e-4, gt=0, le=1e-1)
    decay: float = Field(0.01, ge=0, le=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    strength: float = Field(1.0, gt=0, description="Of the linear model of n-grams; see hashed_linear.")
    emphasis: float = Field(1.0, ge=0, description="Of rare n-grams in it, a power of rarity; for the rarest label.")
    buckets: int = Field(2**18, ge=2**10, le=2**22, description="Of its hashed n-grams, a power of two.")
    short_floats: Literal["where_fast", "never"] = Field(
        "where_fast", description="Products of learning in bfloat16, where the processor has instructions for them."
    )
    reweighing: float = Field(2.0, ge=0, description="Of clean texts of guarded slices; 0: none.")
    whole: bool = Field(True, description="Serve the encoder in whole numbers; see `text_release.rounding`.")


def train(config: Config, job: Job) -> None:
    """Fine-tune on train, blend, calibrate and choose thresholds on validation, export, prove."""
    texts = open_for_network(config, job)
    weights = installed_weights(config.package)
    inputs = TextInputs(kind="both", window=400, overlap=50, most_pieces=config.most_pieces, buckets=config.buckets)
    cut = NormalisedWordPiece(weights.vocabulary)
    rows = {
        part: [cut.ids(text, most=config.most_pieces) for text in first_windows(data.texts, inputs)]
        for part, data in (("train", texts.train), ("validation", texts.validation))
    }
    torch.manual_seed(config.seed)
    encoder = Encoder(weights, layers=config.layers, labels=len(texts.labels), dropout=config.dropout)
    model = EncoderModel(inputs, encoder)

    fast = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    short = fast and config.short_floats == "where_fast"

    def ask(places: Ints) -> torch.Tensor:
        pieces = torch.from_numpy(padded_pieces([rows["train"][place] for place in places]))
        with torch.autocast("cpu", torch.bfloat16, enabled=short):
            log_odds: torch.Tensor = encoder(pieces)
        return log_odds.float()

    def tell(epoch: int, loss: float) -> None:
        held_out = log_loss(model.log_odds(rows["validation"]), texts.validation.targets)
        job.say(f"epoch {epoch}: loss {loss:.4f}, on validation {held_out:.4f}")

    lengths = np.array([len(row) for row in rows["train"]], np.int64)
    steps = Steps(config.epochs, config.batch, config.decay)
    rates = encoder.rates(config.rate, config.head_rate, config.rate_fall)
    targets, alike = texts.train.targets, counts(texts.train, config.reweighing)
    fit(encoder, ask, targets, lengths, steps, rates=rates, seed=config.seed, after_epoch=tell, counts=alike)
    grams = {
        part: ngrams(data.texts, inputs) for part, data in (("train", texts.train), ("validation", texts.validation))
    }
    linear = fit_linear(inputs, grams["train"], targets, config.strength, alike, emphasis=config.emphasis)
    of_pieces, of_grams = model.log_odds(rows["validation"]), linear.log_odds(grams["validation"])
    blend = blended(model, linear, of_pieces, of_grams, texts.validation.targets)
    job.say(f"shares of the encoder and of n-grams: {blend.shares.round(2).tolist()}")
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
        served=dataclasses.replace(blend, whole=True) if config.whole else None,
        more={"layers": config.layers, "epochs": config.epochs, "reweighing": config.reweighing},
    )


if __name__ == "__main__":
    sys.exit(run_job("text_transformer", Config, train))
