"""The trivial baseline: what many go to and is near. One number is learnt: what distance costs against popularity."""

import sys
from dataclasses import dataclass

import numpy as np

from twinloop.contracts.signature import FEATURES as COLUMNS
from twinloop.systems.suggestions.columns import FEATURES
from twinloop.systems.suggestions.learning import baseline_scores, distance_weight, read_lists, write_release
from twinloop.systems.suggestions.policy import TYPICAL_KM
from twinloop.training.config import JobConfig
from twinloop.training.events import Floats32
from twinloop.training.graphs import Graph
from twinloop.training.job import Job, run_job


@dataclass(frozen=True)
class DistancePopularity:
    """log(1 + people who come) - weight x log(1 + km)."""

    weight: float

    def scores(self, features: Floats32) -> Floats32:
        """See `RowScorer`."""
        return baseline_scores(features, self.weight)

    def add(self, g: Graph) -> str:
        """See `RowScorer`."""
        names, one = list(FEATURES), g.constant(1.0, np.float32)
        km, going = (
            g.op("Gather", COLUMNS, g.constant(names.index(name)), axis=1) for name in ("distance_km", "going")
        )
        km = g.op("Where", g.op("IsNaN", km), g.constant(TYPICAL_KM, np.float32), km)
        far = g.op("Mul", g.op("Log", g.op("Add", km, one)), g.constant(self.weight, np.float32))
        return g.op("Sub", g.op("Log", g.op("Add", going, one)), far)


def train(config: JobConfig, job: Job) -> None:
    """Choose the weight on train, measure it on validation, choose anew on both, export, prove."""
    learnt = read_lists(job.snapshot)
    early, held_out, everything = learnt.early, learnt.held_out, learnt.everything
    trial = baseline_scores(held_out.features, distance_weight(early))
    model = DistancePopularity(distance_weight(everything))
    job.say(f"{len(everything.sizes)} lists; distance weighs {model.weight:g}")
    write_release(job, config, learnt, model, framework="numpy", ndcg=held_out.ndcg(trial))


if __name__ == "__main__":
    sys.exit(run_job("distance_popularity", JobConfig, train))
