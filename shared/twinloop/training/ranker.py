"""The ranker's rows, its fit, and its ONNX form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import onnxruntime as ort
import xgboost as xgb
from numpy.typing import NDArray
from onnxmltools.convert import convert_xgboost
from pydantic import Field
from skl2onnx.common.data_types import FloatTensorType

from twinloop.errors import BadInputError
from twinloop.training.artefact import session
from twinloop.training.config import JobConfig
from twinloop.training.events import Events, Floats32
from twinloop.training.snapshot import Snapshot
from twinloop.training.validate import Question, questions, retrieve

_FOLDS = 5
# A user is asked at several moments of their past: a short history and a long one must both be ranked well.
_CUTS = (0.5, 0.65, 0.8, 0.9)


@dataclass(frozen=True)
class Rows:
    """Candidates of many questions: features float32[q, K, F], and which of them the user liked next, bool[q, K]."""

    features: Floats32
    liked: NDArray[np.bool_]

    def matrix(self) -> xgb.DMatrix:
        """Return the rows grouped by question."""
        asked, per_question, columns = self.features.shape
        matrix = xgb.DMatrix(self.features.reshape(-1, columns), label=self.liked.reshape(-1).astype(np.int32))
        matrix.set_group([per_question] * asked)
        return matrix


def ask(model: ort.InferenceSession, asked: Iterator[Question]) -> Rows:
    """Ask the retrieval model; questions with nothing right among the candidates teach nothing and are left out."""
    features, liked = [], []
    for question in asked:
        answer = retrieve(model, question)
        right = np.isin(answer["items"], question.relevant)
        if right.any():
            features.append(answer["features"])
            liked.append(right)
    if not features:
        (shape,) = (output.shape for output in model.get_outputs() if output.name == "features")
        return Rows(np.zeros((0, *shape), np.float32), np.zeros((0, shape[0]), np.bool_))
    return Rows(np.stack(features), np.stack(liked))


class TreesConfig(JobConfig):
    """Hyperparameters of the ranker's trees."""

    rounds: int = Field(200, ge=1, le=5000, description="Trees; fewer with a greater eta.")
    eta: float = Field(0.05, gt=0, le=1)
    max_depth: int = Field(4, ge=1, le=10)
    min_child_weight: float = Field(20, ge=0)
    subsample: float = Field(0.8, gt=0, le=1)
    colsample_bytree: float = Field(0.5, gt=0, le=1)
    pairs: int = Field(50, ge=1, le=100, description="Top places whose pairs count in a question's gradient.")
    context_weight: float = Field(
        0.1, gt=0, le=1, description="How likely a tree may use what is known of the user, against another column."
    )
    users: int = Field(4000, ge=1, description="Users whose past is asked about; more only take longer.")

    def fitted(self, rows: Rows, *, context: int, threads: int) -> xgb.Booster:
        """Return the trees fitted on rows whose last `context` columns are known of the user."""
        fields = ("eta", "max_depth", "min_child_weight", "subsample", "colsample_bytree", "seed")
        told = {name: getattr(self, name) for name in fields}
        told |= {"lambdarank_num_pair_per_sample": self.pairs, "nthread": threads}
        return fit(rows, told, self.rounds, context=context, context_weight=self.context_weight)


def training_rows(
    snapshot: Snapshot,
    build: Callable[[Events, int], bytes],
    *,
    users: int,
    seed: int,
    folds: int = _FOLDS,
    also: Callable[[Snapshot, ort.InferenceSession], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Rows:
    """Return rows of the train split to fit a ranker on.

    Folds by user: the sources that score a user's candidates are fitted on the other users' whole histories. So they
    are as dense as those that will serve, and have never seen what the user did next. Within a user time decides:
    history before the cut, labels after it, and the snapshot's features as of the first label.

    Args:
        snapshot: What to learn from.
        build: (events, number of the fold) -> the retrieval model whose sources were fitted on these events.
        users: At most so many users' worth.
        seed: Of the folds.
        folds: How many. Fewer take less time, and their sources know less than those that will serve.
        also: Is given each fold's users' part of the snapshot, and the model whose sources do not know them.
        say: Is told how far it is.
    """
    events, moments = snapshot.train, snapshot.moments
    draw = np.random.default_rng(seed)
    fold_of = draw.permutation(events.n_users) % folds
    chosen = np.zeros(events.n_users, dtype=bool)
    chosen[draw.permutation(events.n_users)[:users]] = True
    parts = []
    for fold in range(folds):
        held = fold_of == fold
        others, theirs = events.take(~held[events.users]), _of_users(snapshot, held & chosen)
        if not len(others) or not len(theirs.train):
            continue
        model, longest = session(build(others, fold)), snapshot.manifest.history_length
        for share in _CUTS:
            parts.append(ask(model, questions(*cut(theirs.train, share), longest=longest, moments=moments)))
        also(theirs, model)
        say(f"fold {fold + 1} of {folds}: {sum(len(part.liked) for part in parts)} questions so far")
    if not sum(len(part.liked) for part in parts):
        raise BadInputError(
            "no user has enough positive events to learn a ranking from: load more data, or leave this rung out"
        )
    return Rows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.liked for part in parts]),
    )


def _of_users(snapshot: Snapshot, users: NDArray[np.bool_]) -> Snapshot:
    train, validation = (events.take(users[events.users]) for events in (snapshot.train, snapshot.validation))
    return replace(snapshot, train=train, validation=validation)


def cut(events: Events, share: float) -> tuple[Events, Events]:
    """Divide each user's events in two by time; the first `share`, rounded down, come first."""
    sizes = np.diff(events.offsets)[events.users]
    place = np.arange(len(events)) - events.offsets[events.users]
    early = place < np.floor(sizes * share + 1e-9)
    return events.take(early), events.take(~early)


class Grouped(Protocol):
    """Rows in groups."""

    def matrix(self) -> xgb.DMatrix:
        """Return the rows as XGBoost takes them, with their groups."""
        ...


def fit(
    rows: Grouped, parameters: dict[str, object], rounds: int, *, context: int = 0, context_weight: float = 1.0
) -> xgb.Booster:
    """Fit LambdaMART for that many rounds.

    No early stopping: NDCG@10 of a held-out fifth of the users, or of the validation split, is flat within its noise
    over hundreds of rounds, so what it stops at is chance (see docs/decisions/models-ranker-rounds.md).

    Args:
        rows: Questions and what was right.
        parameters: What XGBoost is told.
        rounds: Trees.
        context: How many of the last columns are known of the user and not of the candidate.
        context_weight: How likely a tree may use one of those, against any other column.
    """
    matrix = rows.matrix()
    if context:
        weights = np.ones(matrix.num_col(), dtype=np.float32)
        weights[-context:] = context_weight
        matrix.set_info(feature_weights=weights)
    told = {**parameters, "objective": "rank:ndcg", "lambdarank_pair_method": "topk"}
    return xgb.train(told, matrix, rounds)


def predict(booster: xgb.Booster, features: Floats32) -> Floats32:
    """Return scores float32[K] of features float32[K, F]."""
    return np.asarray(booster.inplace_predict(features), dtype=np.float32)


def to_onnx(booster: xgb.Booster, columns: int) -> bytes:
    """Return the ranker as ONNX: `features` float32[K, columns] -> `scores` float32[K].

    The converter gives NaN for rank:ndcg, whose raw output is a plain sum of leaves; so it is told that this is a
    regression, which is the same sum.
    """
    model = json.loads(booster.save_raw(raw_format="json"))
    model["learner"]["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
    plain = xgb.Booster()
    plain.load_model(bytearray(json.dumps(model).encode()))
    plain.feature_names = None
    converted = convert_xgboost(plain, initial_types=[("features", FloatTensorType([None, columns]))], target_opset=15)
    graph = converted.graph
    (output,) = graph.output
    reshape = graph.node.add()
    reshape.op_type = "Reshape"
    reshape.input.extend([output.name, "flat"])
    reshape.output.append("scores")
    flat = graph.initializer.add()
    flat.name, flat.data_type = "flat", 7
    flat.dims.append(1)
    flat.int64_data.append(-1)
    graph.name = "ranking"  # the converter draws a random one, and equal models would not have equal bytes
    output.name = "scores"
    del output.type.tensor_type.shape.dim[1:]
    return bytes(converted.SerializeToString(deterministic=True))
