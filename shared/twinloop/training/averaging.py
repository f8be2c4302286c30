"""The moving average of a network's weights, whose quality depends less on which step was the last."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class Averaged(Generic[NetworkT]):
    """Keeps `average` near the latest tenth of the steps at first, and later as near as `share` says.

    Args:
        network: What is fitted.
        share: Of the average that a step replaces, in the long run.
    """

    def __init__(self, network: NetworkT, *, share: float) -> None:
        self._network, self._share, self._steps = network, share, 0
        self.average = copy.deepcopy(network).eval()

    def step(self) -> None:
        """Take in the network's weights."""
        self._steps += 1
        share = max(self._share, 10 / (9 + self._steps))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self._network.parameters(), strict=True):
                mean.lerp_(value, share)
