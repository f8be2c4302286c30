"""Networks of labels of texts in PyTorch: how they learn soft labels of which some are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from twinloop.contracts.text import TextInputs
from twinloop.errors import BadInputError
from twinloop.text.ngrams import Counted, padded
from twinloop.training.graphs import Graph
from twinloop.training.job import Job
from twinloop.training.text_linear import text_inputs
from twinloop.training.texts import Floats, Ints, TextConfig, Texts, open_texts

_TOGETHER = 50  # batches whose texts are sorted by length together, so that little is filled up


Rates = Sequence[tuple[Sequence[nn.Parameter], float]]


class NetworkConfig(TextConfig):
    """What every job that fits a network of texts can be told."""

    threads: int = Field(1, ge=1, le=256, description="Last digits differ by their number.")


def open_for_network(config: NetworkConfig, job: Job) -> Texts:
    """Set the threads, and read the texts: train to learn from, validation to choose and calibrate by.

    Raises BadInputError as `open_texts` does, and where there is no validation.
    """
    torch.set_num_threads(config.threads)
    texts = open_texts(job.snapshot, least_positives=config.least_positives)
    if not len(texts.validation):
        raise BadInputError("the snapshot has no validation texts to calibrate by; load more data")
    job.say(f"{len(texts.train)} texts to learn from, labels {', '.join(texts.labels)}")
    return texts


def masked_loss(log_odds: Tensor, targets: Tensor) -> Tensor:
    """Return the mean log loss of soft targets float[N, L]; what is NaN is nobody's word and teaches nothing."""
    told = ~torch.isnan(targets)
    losses = functional.binary_cross_entropy_with_logits(log_odds, torch.nan_to_num(targets), reduction="none")
    return (losses * told).sum() / told.sum().clamp(min=1)


def batches(lengths: Ints, size: int, random: np.random.Generator) -> Iterator[Ints]:
    """Yield the places of all rows, in batches of like length, in random order."""
    order = random.permutation(len(lengths))
    pools = np.array_split(order, max(1, -(-len(order) // (size * _TOGETHER))))
    found = []
    for pool in pools:
        ranked = pool[np.argsort(lengths[pool], kind="stable")]
        found += [ranked[start : start + size] for start in range(0, len(ranked), size)]
    for place in random.permutation(len(found)):
        yield found[place]


@dataclass(frozen=True)
class Steps:
    """How a network is fitted.

    Attributes:
        epochs: Over all rows.
        batch: Rows of a step.
        decay: Of weights (AdamW).
    """

    epochs: int
    batch: int
    decay: float


def fit(
    network: nn.Module,
    ask: Callable[[Ints], Tensor],
    targets: Floats,
    lengths: Ints,
    steps: Steps,
    *,
    rates: Rates,
    seed: int,
    after_epoch: Callable[[int, float], None],
) -> None:
    """Fit a network; `ask` gives its log-odds of the rows at these places, with gradients.

    Args:
        network: What is fitted.
        ask: Places -> float[N, L].
        targets: float64[N, L], NaN where nobody was asked.
        lengths: int64[N], by which rows are put together.
        steps: How.
        rates: Its parameters, with their rates of learning at the highest: these rise for a tenth of the steps, and
            fall to nothing.
        seed: Of the order.
        after_epoch: Is told its number and the mean loss.
    """
    random = np.random.default_rng(seed)
    count = steps.epochs * -(-len(lengths) // steps.batch)
    groups = [{"params": list(parameters), "lr": rate} for parameters, rate in rates]
    every = [parameter for parameters, _ in rates for parameter in parameters]
    optimiser = torch.optim.AdamW(groups, weight_decay=steps.decay)
    warm = max(1, count // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, max(0.0, (count - step) / max(1, count - warm)))
    )
    wanted = torch.from_numpy(targets.astype(np.float32))
    for epoch in range(1, steps.epochs + 1):
        losses = []
        network.train()
        for places in batches(lengths, steps.batch, random):
            loss = masked_loss(ask(places), wanted[places])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(every, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        network.eval()
        after_epoch(epoch, float(np.mean(losses)))


class Bag(nn.Module):
    """The mean of the vectors of a text's n-grams, weighted by how rare they are, and a hidden layer over it."""

    def __init__(self, buckets: int, rarity: Floats, labels: int, *, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.vectors = nn.Embedding(buckets, dim, sparse=False)
        nn.init.normal_(self.vectors.weight, std=0.05)
        self.rarity = nn.Parameter(torch.from_numpy(rarity.astype(np.float32)), requires_grad=False)
        self.hidden, self.head = nn.Linear(dim, hidden), nn.Linear(hidden, labels)
        self.dropout = dropout

    def forward(self, ids: Tensor, counts: Tensor) -> Tensor:
        """Return log-odds float[N, L] of `ids` int64[N, T], `counts` float[N, T]."""
        weight = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0.0) * self.rarity[ids]
        weight = weight / weight.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)
        mean = (self.vectors(ids) * weight[:, :, None]).sum(1)
        mean = functional.dropout(mean, self.dropout, self.training)
        hidden = functional.dropout(functional.relu(self.hidden(mean)), self.dropout, self.training)
        logits: Tensor = self.head(hidden)
        return logits


@dataclass(frozen=True)
class BagModel:
    """A fitted bag as it serves."""

    inputs: TextInputs
    bag: Bag

    def log_odds(self, rows: list[Counted]) -> Floats:
        """Return float64[N, L]."""
        self.bag.eval()
        found = np.zeros((len(rows), self.bag.head.out_features))
        with torch.no_grad():
            for start in range(0, len(rows), 64):
                found[start : start + 64] = self.bag(*tensors(rows[start : start + 64])).numpy()
        return found

    def add(self, g: Graph) -> str:
        """Add it to a graph with the inputs `ids` and `counts`; returns the log-odds, float32[K, L]."""
        ids, counts = text_inputs(g)
        one, none = g.constant(1, np.float32), g.constant(0, np.float32)
        tf = g.op("Add", one, g.op("Log", g.op("Max", counts, one)))
        tf = g.op("Where", g.op("Greater", counts, none), tf, none)
        weight = g.op("Mul", tf, g.op("Gather", g.constant(_array(self.bag.rarity)), ids))
        length = g.op("Max", g.op("ReduceL2", weight, axes=[1], keepdims=1), g.constant(1e-6, np.float32))
        unit = g.op("Unsqueeze", g.op("Div", weight, length), g.constant([1]))
        each = g.op("Gather", g.constant(_array(self.bag.vectors.weight)), ids)
        mean = g.op("Squeeze", g.op("MatMul", unit, each), g.constant([1]))
        hidden = g.op("Relu", _linear(g, mean, self.bag.hidden))
        return _linear(g, hidden, self.bag.head)


def tensors(rows: Sequence[Counted]) -> tuple[Tensor, Tensor]:
    """Return `ids` and `counts` of rows."""
    made = padded(rows)
    return torch.from_numpy(made.ids), torch.from_numpy(made.counts)


def _linear(g: Graph, x: str, module: nn.Linear) -> str:
    weight = g.constant(np.ascontiguousarray(_array(module.weight).T))
    return g.op("Add", g.op("MatMul", x, weight), g.constant(_array(module.bias)))


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().numpy().astype(np.float32)
