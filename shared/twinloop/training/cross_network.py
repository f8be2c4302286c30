"""DCN-v2 of clicks (Wang et al., WWW 2021): explicit crosses of ids and features beside a deep network.

Every hashed id that was met often enough has a vector. The others share one; ids that training hides at random have it
too, so that it means "some id". A cross layer is x_{l+1} = x_0 * (W x_l + b) + x_l.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from twinloop.evaluation.probability import log_loss
from twinloop.training.averaging import Averaged
from twinloop.training.calibration import Floats, chances
from twinloop.training.click_graph import Inputs
from twinloop.training.clicks import Rows, base_rate
from twinloop.training.events import Ints
from twinloop.training.graphs import Graph
from twinloop.training.standard import Standard

_TOGETHER = 8_192
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Shape:
    """What the network looks like and how it is fitted.

    Attributes:
        dim: Of an id's vector.
        crosses: Cross layers.
        hidden: Width of each of the two deep layers.
        dropout: Of the deep layers.
        least: Times that an id must have been met to have a vector of its own.
        hide: Share of ids that training hides.
        learning_rate, weight_decay: Of AdamW.
        ridge, ridge_plain: Of an id's vector and of its own weight instead, however often it was met: half of that is
            how many rows' log loss a square of one costs.
        batch: Rows of a step, at most.
        rows: Of an epoch, at most.
        averaging: Of the weights; see `averaging.py`.
        patience: Epochs without gain before it ends.
        half_life_days: After so many days before the latest row, a row counts half; 0: all count the same.
    """

    dim: int = 8
    crosses: int = 2
    hidden: int = 64
    dropout: float = 0.0
    least: int = 3
    hide: float = 0.0
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    ridge: float = 600.0
    ridge_plain: float = 60.0
    batch: int = 1_024
    rows: int = 1_000_000
    averaging: float = 0.995
    patience: int = 2
    half_life_days: float = 0.0


class CrossNetwork(nn.Module):
    """The network itself: rows of its table and standardised features -> log-odds."""

    def __init__(self, fields: int, own: int, features: int, shape: Shape) -> None:
        super().__init__()
        self.vectors = nn.Embedding(own, shape.dim)
        nn.init.normal_(self.vectors.weight, std=0.05)
        self.plain = nn.Embedding(own, 1)
        nn.init.zeros_(self.plain.weight)
        width = fields * shape.dim + features
        crosses = [nn.Linear(width, width) for _ in range(shape.crosses)]
        for cross in crosses:
            nn.init.normal_(cross.weight, std=0.01)
            nn.init.zeros_(cross.bias)
        self.crosses = nn.ModuleList(crosses)
        self.inner, self.outer = nn.Linear(width, shape.hidden), nn.Linear(shape.hidden, shape.hidden)
        self.last = nn.Linear(width + shape.hidden, 1)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, rows: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        first = torch.cat([self.vectors(rows).flatten(start_dim=1), features], dim=1)
        crossed = first
        for cross in self.crosses:
            crossed = first * cross(crossed) + crossed
        deep = self.dropout(torch.relu(self.outer(self.dropout(torch.relu(self.inner(first))))))
        said = self.last(torch.cat([crossed, deep], dim=1)) + self.plain(rows).sum(dim=1)
        result: torch.Tensor = said.squeeze(1)
        return result

    def penalty(self, rows: torch.Tensor, share: torch.Tensor, shape: Shape) -> torch.Tensor:
        """Return what a batch pays for its ids' squares, a row's worth.

        Args:
            rows: int64[N, F].
            share: float32[N, F]: of all times that an id is met, this one. So every id pays the same for a square
                in an epoch, as in a ridge regression; one that is met once is not freer than one met often.
            shape: For the ridges.
        """
        vectors = (share * (self.vectors(rows) ** 2).sum(dim=-1)).sum()
        plain = (share * self.plain(rows).squeeze(-1) ** 2).sum()
        result: torch.Tensor = (shape.ridge * vectors + shape.ridge_plain * plain) / (2 * max(len(rows), 1))
        return result


class Learner:
    """Fits one network on rows; `model` is the average of its weights.

    Args:
        rows: To learn from.
        buckets: Of the ids; 0: there are none.
        shape: Of the network.
        seed: Of everything random.
    """

    def __init__(self, rows: Rows, buckets: int, shape: Shape, *, seed: int) -> None:
        torch.manual_seed(seed)
        self._rows, self._shape, self._draw = rows, shape, np.random.default_rng(seed)
        self.standard = Standard.fit(rows.known)
        met = np.bincount(rows.ids.reshape(-1), minlength=max(buckets, 1))
        often = met >= shape.least
        self.row_of: Ints = np.where(often, np.cumsum(often), 0).astype(np.int64)  # 0: some id
        times = np.concatenate([[met[~often].sum()], met[often]])
        self._share = torch.from_numpy((1 / np.maximum(times, 1)).astype(np.float32))
        network = CrossNetwork(rows.ids.shape[1], int(often.sum()) + 1, 2 * rows.known.shape[1], shape)
        rate = base_rate(rows.clicked)
        with torch.no_grad():
            network.last.bias.fill_(float(np.log(rate / (1 - rate))))
        self._network, self._fitted = network, Averaged(network, share=1 - shape.averaging)
        of_ids = [network.vectors.weight, network.plain.weight]
        rest = [value for name, value in network.named_parameters() if not name.startswith(("vectors", "plain"))]
        groups = [{"params": rest, "weight_decay": shape.weight_decay}, {"params": of_ids, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=shape.learning_rate)
        self._weights = _recent(rows.times, shape.half_life_days)
        self._batch = int(np.clip(len(rows) // 20, 16, shape.batch))

    def _told(self, rows: Rows, chosen: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.row_of[rows.ids[chosen]]), torch.from_numpy(
            self.standard.apply(rows.known[chosen])
        )

    def epoch(self) -> float:
        """Fit on every row, or as many as an epoch may have; returns the mean loss, as rows count."""
        network, rows, shape, losses = self._network.train(), self._rows, self._shape, 0.0
        order = self._draw.permutation(len(rows))[: shape.rows]
        for chosen in np.array_split(order, -(-len(order) // self._batch)):
            ids, features = self._told(rows, chosen)
            hidden = torch.from_numpy(self._draw.random(ids.shape) < shape.hide)
            ids = torch.where(hidden, 0, ids)
            clicked = torch.from_numpy(rows.clicked[chosen])
            weights = torch.from_numpy(self._weights[chosen])
            loss = nn.functional.binary_cross_entropy_with_logits(network(ids, features), clicked, weights)
            self._optimiser.zero_grad()
            cost: torch.Tensor = loss + network.penalty(ids, self._share[ids], shape)
            cost.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            self._optimiser.step()
            self._fitted.step()
            losses += loss.item() * len(chosen)
        return losses / len(order)

    def log_odds(self, rows: Rows) -> Floats:
        """Return float64[N]."""
        said, model = np.empty(len(rows)), self._fitted.average
        for begin in range(0, len(rows), _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            with torch.no_grad():
                said[part] = model(*self._told(rows, part)).numpy()
        return said

    def add(self, g: Graph, inputs: Inputs) -> str:
        """Add it to a graph; returns the log-odds, float32[K]."""
        state: dict[str, NDArray[Any]] = {
            name: np.asarray(value.detach().numpy()) for name, value in self._fitted.average.named_parameters()
        }
        parts, plain = [], None
        if inputs.fields:
            rows = g.op("Gather", g.constant(self.row_of.astype(np.int32)), inputs.ids(), axis=0)
            vectors = g.op("Gather", g.constant(state["vectors.weight"]), rows, axis=0)
            parts.append(g.op("Reshape", vectors, g.constant([-1, inputs.fields * self._shape.dim])))
            found = g.op("Gather", g.constant(state["plain.weight"][:, 0]), rows, axis=0)
            plain = g.op("ReduceSum", found, g.constant([1]), keepdims=0)
        if inputs.known:
            parts.append(self.standard.add(g, inputs.features()))
        first = g.op("Concat", *parts, axis=1)
        crossed = first
        for n in range(self._shape.crosses):
            product = g.op("Mul", first, _linear(g, state, f"crosses.{n}", crossed))
            crossed = g.op("Add", product, crossed)
        deep = g.op("Relu", _linear(g, state, "inner", first))
        deep = g.op("Relu", _linear(g, state, "outer", deep))
        said = _linear(g, state, "last", g.op("Concat", crossed, deep, axis=1))
        flat = g.op("Squeeze", said, g.constant([1]))
        return flat if plain is None else g.op("Add", flat, plain)


def _recent(times: Ints, half_life_days: float) -> NDArray[np.float32]:
    """Return how much each row counts, float32[N], 1 on average."""
    if not half_life_days:
        return np.ones(len(times), np.float32)
    weights = np.exp2((times - times.max()) / (half_life_days * _DAY_MS))
    return np.asarray(weights / weights.mean(), np.float32)


def _linear(g: Graph, state: dict[str, NDArray[Any]], name: str, x: str) -> str:
    return g.op("Add", g.op("MatMul", x, g.constant(state[f"{name}.weight"].T)), g.constant(state[f"{name}.bias"]))


def best_epochs(
    learner: Learner,
    held_out: Rows,
    *,
    epochs: int,
    patience: int,
    offset: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[int, float]:
    """Return after how many epochs the log loss on rows that it does not learn from was least, and that log loss.

    Args:
        learner: Which has learnt nothing yet.
        held_out: At least one row.
        epochs: At most.
        patience: Epochs without gain before it ends.
        offset: Of its log-odds; see `calibration.sampling_offset`.
        say: Is told how far it is.
    """
    best, least = 1, float("inf")
    for epoch in range(1, epochs + 1):
        fitted = learner.epoch()
        found = log_loss(held_out.clicked, chances(learner.log_odds(held_out) + offset))
        say(f"epoch {epoch}: loss {fitted:.5f}, held out {found:.5f}")
        if found < least:
            best, least = epoch, found
        elif epoch - best >= patience:
            break
    return best, least
