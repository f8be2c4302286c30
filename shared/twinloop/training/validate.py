"""Ask a retrieval model, and a ranker behind it, for every user of a split, and score the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import onnxruntime as ort

from twinloop.contracts.signature import CONTEXT, EXCLUDE, HISTORY, ITEMS, SCORES, TIMES
from twinloop.evaluation.ranking import ndcg_at_k, recall_at_k
from twinloop.training.events import Events, Floats32, Ints
from twinloop.training.snapshot import Moments, Snapshot

Ranker = Callable[[Floats32], Floats32]
"""features float32[K, F] -> scores float32[K]"""


@dataclass(frozen=True)
class Question:
    """One user at one moment: what they had liked, oldest first, and what they liked next (item indices)."""

    history: Ints
    times_s: Ints
    relevant: Ints
    context: Floats32 = field(default_factory=lambda: np.zeros(0, np.float32))


def questions(before: Events, after: Events, *, longest: int, moments: Moments | None = None) -> Iterator[Question]:
    """Yield a question for every user with events in both, asked at the moment of the first event of `after`.

    Args:
        before: What is known.
        after: What is right.
        longest: Events of a history, as serving keeps them (SnapshotManifest.history_length).
        moments: Gives questions their context.
    """
    begins, ends = before.offsets, after.offsets
    for user in range(before.n_users):
        known = slice(max(begins[user], begins[user + 1] - longest), begins[user + 1])
        ahead = slice(ends[user], ends[user + 1])
        if known.start < known.stop and ahead.start < ahead.stop:
            question = Question(before.items[known], before.times[known] // 1000, after.items[ahead])
            if moments is not None:
                question = replace(question, context=moments.at(user, int(after.times[ends[user]])))
            yield question


def proof_questions(snapshot: Snapshot, *, most: int = 100) -> list[Question]:
    """Return up to `most` questions to prove parity on: held out, or of the history where none are."""
    longest = snapshot.manifest.history_length
    for after in (snapshot.validation, snapshot.train):
        found = list(islice(questions(snapshot.train, after, longest=longest, moments=snapshot.moments), most))
        if found:
            return found
    return []


def retrieve(model: ort.InferenceSession, question: Question) -> dict[str, np.ndarray]:
    """Return the model's outputs by name, with the history's items excluded."""
    names = [output.name for output in model.get_outputs()]
    inputs = {
        HISTORY: question.history,
        TIMES: question.times_s,
        EXCLUDE: question.history,
        CONTEXT: question.context,
    }
    wanted = {entry.name for entry in model.get_inputs()}
    values = model.run(names, {name: value for name, value in inputs.items() if name in wanted})
    return dict(zip(names, values, strict=True))


def scored_pairs(
    model: ort.InferenceSession, asked: Iterable[Question], fitted: Callable[[Question], Floats32]
) -> Iterator[tuple[Floats32, Floats32]]:
    """Yield (exported, fitted) scores of the items that the model returns, question by question.

    Args:
        model: The retrieval model.
        asked: The questions.
        fitted: A question -> every item's score as the fitted model has it, [n]; a known item's is closed here.
    """
    for question in asked:
        answer = retrieve(model, question)
        scores = fitted(question).copy()
        scores[question.history] = -np.inf
        yield answer[SCORES], scores[answer[ITEMS]]


Answer = tuple[Question, dict[str, np.ndarray]]
"""A question, and the outputs of a retrieval model that was asked it."""


def validation_answers(model: ort.InferenceSession, snapshot: Snapshot) -> Iterator[Answer]:
    """Ask about every user of the validation split."""
    longest = snapshot.manifest.history_length
    for question in questions(snapshot.train, snapshot.validation, longest=longest, moments=snapshot.moments):
        yield question, retrieve(model, question)


def validation_metrics(
    model: ort.InferenceSession, snapshot: Snapshot, *, ranker: Ranker | None = None, most: int = 2_000
) -> dict[str, float]:
    """Return mean ndcg@10 and recall@20 on the validation split, over at most `most` users, and over how many."""
    return metrics_of(islice(validation_answers(model, snapshot), most), ranker=ranker)


def metrics_of(answers: Iterable[Answer], *, ranker: Ranker | None = None) -> dict[str, float]:
    """Return mean ndcg@10 and recall@20 of the answers, as the ranker orders them if there is one, and how many."""
    ndcg: list[float] = []
    recall: list[float] = []
    for question, answer in answers:
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
