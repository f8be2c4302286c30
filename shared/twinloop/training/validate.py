"""Ask a retrieval model, and a ranker behind it, for every user of a split, and score the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import onnxruntime as ort

from twinloop.evaluation.metrics import ndcg_at_k, recall_at_k
from twinloop.training.events import Events, Floats32, Ints

Ranker = Callable[[Floats32], Floats32]
"""features float32[K, F] -> scores float32[K]"""


@dataclass(frozen=True)
class Question:
    """One user at one moment: what they had liked, oldest first, and what they liked next (item indices)."""

    history: Ints
    times_s: Ints
    relevant: Ints


def questions(before: Events, after: Events, *, longest: int = 1_000) -> Iterator[Question]:
    """Yield a question for every user with events in both."""
    begins, ends = before.offsets, after.offsets
    for user in range(before.n_users):
        known = slice(max(begins[user], begins[user + 1] - longest), begins[user + 1])
        ahead = slice(ends[user], ends[user + 1])
        if known.start < known.stop and ahead.start < ahead.stop:
            yield Question(before.items[known], before.times[known] // 1000, after.items[ahead])


def proof_questions(before: Events, after: Events, *, most: int = 100) -> list[Question]:
    """Return up to `most` questions to prove parity on: held out, or of the history where none are."""
    return list(islice(questions(before, after), most)) or list(islice(questions(before, before), most))


def retrieve(model: ort.InferenceSession, question: Question) -> dict[str, np.ndarray]:
    """Return the model's outputs by name, with the history's items excluded."""
    names = [output.name for output in model.get_outputs()]
    inputs = {"history": question.history, "times": question.times_s, "exclude": question.history}
    wanted = {entry.name for entry in model.get_inputs()}
    values = model.run(names, {name: value for name, value in inputs.items() if name in wanted})
    return dict(zip(names, values, strict=True))


def validation_metrics(
    model: ort.InferenceSession, before: Events, after: Events, *, ranker: Ranker | None = None, most: int = 2_000
) -> dict[str, float]:
    """Return mean ndcg@10 and recall@20 over at most `most` users, and over how many."""
    ndcg: list[float] = []
    recall: list[float] = []
    for question in questions(before, after):
        if len(ndcg) == most:
            break
        answer = retrieve(model, question)
        scores = answer["scores"] if ranker is None else ranker(answer["features"])
        scores = np.where(np.isneginf(answer["scores"]), -np.inf, scores)
        ranked = answer["items"][np.argsort(-scores, kind="stable")].tolist()
        relevant = set(question.relevant.tolist())
        ndcg.append(ndcg_at_k(ranked, relevant, 10))
        recall.append(recall_at_k(ranked, relevant, 20))
    if not ndcg:
        return {"validation_users": 0.0}
    return {
        "ndcg@10": float(np.mean(ndcg)),
        "recall@20": float(np.mean(recall)),
        "validation_users": float(len(ndcg)),
    }
