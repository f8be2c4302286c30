"""LambdaMART over lists (Burges, 2010; XGBoost's rank:ndcg)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xgboost as xgb

from twinloop.contracts.signature import FEATURES
from twinloop.training import ranker
from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph
from twinloop.training.grouped import Groups


@dataclass(frozen=True)
class PlacedGroups:
    """Lists as the trees learn them: where each row was seen is the last column."""

    groups: Groups

    def matrix(self) -> xgb.DMatrix:
        """Return the rows as XGBoost takes them."""
        matrix = xgb.DMatrix(self.groups.placed(), label=self.groups.labels)
        matrix.set_group(self.groups.sizes)
        return matrix


@dataclass(frozen=True)
class Trees:
    """A LambdaMART ranker whose last column, the place, is always the first one's when it is asked."""

    booster: xgb.Booster
    columns: int

    def first(self, rounds: int) -> Trees:
        """Return the ranker of the first trees."""
        return Trees(self.booster[:rounds], self.columns)

    def scores(self, features: Floats32) -> Floats32:
        """See `RowScorer`."""
        first = np.zeros((len(features), 1), np.float32)
        return ranker.predict(self.booster, np.concatenate([features, first], axis=1))

    def add(self, g: Graph) -> str:
        """See `RowScorer`."""
        rows = g.op("Slice", g.op("Shape", FEATURES), g.constant([0]), g.constant([1]))
        first = g.op("Expand", g.constant(np.zeros((1, 1), np.float32)), g.op("Concat", rows, g.constant([1]), axis=0))
        told = g.op("Concat", FEATURES, first, axis=1)
        return g.embed(ranker.to_onnx(self.booster, self.columns + 1), features=told)["scores"]


def fit_trees(groups: Groups, parameters: dict[str, object], rounds: int) -> Trees:
    """Return trees fitted on lists; see `ranker.fit`."""
    return Trees(ranker.fit(PlacedGroups(groups), parameters, rounds), groups.features.shape[1])
