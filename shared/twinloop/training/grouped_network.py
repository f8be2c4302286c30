"""A small network over standardised features of lists, fitted on the log loss, as a ranker."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from twinloop.contracts.signature import FEATURES
from twinloop.errors import BadInputError
from twinloop.training.averaging import Averaged
from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph
from twinloop.training.grouped import Groups
from twinloop.training.standard import Standard

_TOGETHER = 65_536


@dataclass(frozen=True)
class Shape:
    """What the network looks like and how it is fitted; `averaging` is of its weights, see `averaging.py`."""

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.1
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    batch: int = 512
    averaging: float = 0.99


class Learner:
    """Fits one network; what a place in the list costs is a weight of its own, left out when it is asked.

    Raises BadInputError where all labels are the same.
    """

    def __init__(self, groups: Groups, shape: Shape, *, seed: int) -> None:
        if not 0 < groups.labels.sum() < len(groups):
            raise BadInputError("all examples have the same label: there is nothing to learn; load more data")
        torch.manual_seed(seed)
        self._groups, self._shape, self._draw = groups, shape, np.random.default_rng(seed)
        self.standard = Standard.fit(groups.features)
        widths = [2 * groups.features.shape[1], *shape.hidden]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU(), nn.Dropout(shape.dropout)]
        last = nn.Linear(widths[-1], 1)
        self._place = nn.Parameter(torch.zeros(()))
        rate = float(groups.labels.mean())
        with torch.no_grad():
            last.bias.fill_(float(np.log(rate / (1 - rate))))
        self._network = nn.Sequential(*layers, last)
        self._fitted = Averaged(self._network, share=1 - shape.averaging)
        self._optimiser = torch.optim.AdamW(
            [*self._network.parameters(), self._place], lr=shape.learning_rate, weight_decay=shape.weight_decay
        )

    def epoch(self) -> float:
        """Fit on every row; returns the mean loss."""
        network, groups, total = self._network.train(), self._groups, 0.0
        order = self._draw.permutation(len(groups))
        for chosen in np.array_split(order, -(-len(order) // self._shape.batch)):
            features = torch.from_numpy(self.standard.apply(groups.features[chosen]))
            said = network(features).squeeze(1) + self._place * torch.from_numpy(groups.places[chosen])
            loss = nn.functional.binary_cross_entropy_with_logits(said, torch.from_numpy(groups.labels[chosen]))
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            self._fitted.step()
            total += loss.item() * len(chosen)
        return total / len(order)

    def scores(self, features: Floats32) -> Floats32:
        """See `RowScorer`."""
        said, network = np.empty(len(features), np.float32), self._fitted.average.eval()
        for begin in range(0, len(features), _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            with torch.no_grad():
                said[part] = network(torch.from_numpy(self.standard.apply(features[part]))).squeeze(1).numpy()
        return said

    def add(self, g: Graph) -> str:
        """See `RowScorer`."""
        told = self.standard.add(g, FEATURES)
        linear = [layer for layer in self._fitted.average if isinstance(layer, nn.Linear)]
        for place, layer in enumerate(linear):
            weight, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
            told = g.op("Add", g.op("MatMul", told, g.constant(weight)), g.constant(bias))
            told = told if place == len(linear) - 1 else g.op("Relu", told)
        return g.op("Squeeze", told, g.constant([1]))
