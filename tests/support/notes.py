"""A small system that learns from labelled examples: whether people want a note put aside; with a world and a job."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from twinloop.contracts.api import Id, PredictionAnswer, PredictionRequest
from twinloop.contracts.artefacts import Case
from twinloop.contracts.endpoint import Endpoint, Origin, Question
from twinloop.contracts.events import EventTime, Moment, UserRow
from twinloop.contracts.examples import Examples
from twinloop.contracts.model import Contract
from twinloop.contracts.spec import GatePolicy, Rung, Split, SystemSpec
from twinloop.contracts.system import Evaluation, Model, System
from twinloop.features.schema import schema_hash
from twinloop.ingest.process import ingest
from twinloop.ingest.receipts import Receipt
from twinloop.ingest.source import RawObject
from twinloop.ports import ObjectStore
from twinloop.training.examples import open_examples

NOW = datetime(2025, 7, 1, tzinfo=UTC)
START = datetime(2025, 6, 1, tzinfo=UTC)
WORDS = ("offer", "urgent", "lunch", "report")
Row = dict[str, Any]


class NoteRow(Contract):
    item_id: Id
    text: str
    author_id: Id
    created_at: Moment
    tags: tuple[str, ...] = ()
    extra: str | None = None


class SeenRow(Contract):
    event_id: Id
    type: Literal["view"]
    time: EventTime
    user_id: Id
    item_id: Id
    extra: str | None = None


class LabelRow(Contract):
    """What somebody says of a note: people may disagree, and every word of theirs is kept."""

    identity_columns: ClassVar[tuple[str, ...] | None] = ("item_id", "reviewer", "time")

    item_id: Id
    reviewer: str | None = None
    aside: bool
    time: EventTime
    extra: str | None = None


class GradeRow(Contract):
    """How much a note matters; a later word on it replaces an earlier one."""

    identity_columns: ClassVar[tuple[str, ...] | None] = ("topic", "item_id")

    topic: str
    item_id: Id
    grade: float


def case(rows: Sequence[Mapping[str, Any]]) -> Case | None:
    """All notes of an author; who wrote a single one is not judged."""
    if len(rows) < 2:
        return None
    return Case(
        case_id=rows[0]["group_id"],
        request={"texts": [row["text"] for row in rows]},
        truth={"aside": [row["aside"] for row in rows]},
        slices={"prolific": "yes" if len(rows) > 4 else "no"},
    )


EXAMPLES = Examples(
    tables=("labels",),
    sql="""
        SELECT item_id AS example_id, author_id AS group_id, created_ms AS time_ms, text,
            said.aside::DOUBLE / said.labels AS aside, said.reviewers
        FROM items JOIN (
            SELECT item_id, sum(aside::INTEGER) AS aside, count(*) AS labels,
                list(reviewer ORDER BY reviewer, time_ms) AS reviewers
            FROM labels GROUP BY item_id
        ) AS said USING (item_id)
    """,
    case=case,
    most_cases=40,
)


def counts(texts: Sequence[str]) -> NDArray[np.float32]:
    """How often each of WORDS is in each text: float32[N, words]."""
    return np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32).reshape(-1, 4)


class Found(NamedTuple):
    chances: NDArray[np.float32]
    degraded: bool = False


class Predictor:
    def __init__(self, models: Mapping[str, Model]) -> None:
        self.model = models["text"]

    def chances(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.model.run({"counts": counts(texts)})["aside"][:, 0]
        return found


def judge(predictor: Any, judged: Case) -> dict[str, float]:
    """1 - Brier score."""
    off = np.asarray(predictor.chances(judged.request["texts"])) - np.array(judged.truth["aside"])
    return {"quality": 1 - float((off**2).mean())}


class NotesRequest(PredictionRequest):
    texts: tuple[str, ...]


class NotesAnswer(PredictionAnswer):
    chances: tuple[float, ...]


def tell(question: Question, found: Found, origin: Origin) -> NotesAnswer:
    return NotesAnswer(chances=tuple(found.chances.tolist()), **origin.told())


def labelled_cases(rows: Iterable[Mapping[str, Any]], histories: Any) -> Iterable[Case]:
    """Of a file of labels that brings the text along, as a column of its own."""
    del histories
    for row in rows:
        text = json.loads(row["extra"] or "{}").get("text")
        if text is not None:
            yield Case(case_id=row["item_id"], request={"texts": [text]}, truth={"aside": [float(row["aside"])]})


SYSTEM = System(
    spec=SystemSpec(
        name="notes", verb="chances", requirements="", framing="", data="", architecture="", evaluation="",
        deployment="", split=Split(strategy="by_group", validation=0.1, test=0.2),
        rungs=(
            Rung(name="constant", framework="xgboost", complexity=0),
            Rung(name="words", framework="xgboost", complexity=1),
        ),
        gate=GatePolicy(
            primary="quality", resamples=300, slices=("prolific",), minimum_slice_cases=5, latency_p99_ms=5000
        ),
    ),
    tables={"users": UserRow, "items": NoteRow, "events": SeenRow, "labels": LabelRow, "grades": GradeRow},
    features=(),
    strength_sql="NULL",
    predictor=Predictor,
    judge=judge,
    endpoint=Endpoint(
        summary="Whether notes are to be put aside.", request=NotesRequest, answer=NotesAnswer,
        subject=lambda request: request.texts[0],
        ask=lambda predictor, question: Found(predictor.chances(question.request.texts)),
        fall_back=lambda predictor, question: Found(
            np.full(len(question.request.texts), 0.5, np.float32), degraded=True
        ),
        tell=tell, log=lambda question, found, answer: {"chances": answer.chances},
    ),
    evaluation=Evaluation(
        cases=labelled_cases, remote=lambda ask, judged: Remote(ask(judged.request)), table="labels"
    ),
    examples=EXAMPLES,
)  # fmt: skip


class Remote:
    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.answer = answer

    def chances(self, texts: Sequence[str]) -> NDArray[np.float32]:
        del texts
        return np.array(self.answer["chances"], np.float32)


def world(authors: int = 200, seed: int = 3) -> dict[str, list[Row]]:
    """Raw rows: notes with offers are put aside by most who label them."""
    random = np.random.default_rng(seed)
    items: list[Row] = []
    labels: list[Row] = []
    for author in range(authors):
        for _ in range(int(random.integers(1, 8))):
            number = len(items)
            at = START + timedelta(minutes=5 * number)
            text = " ".join(random.choice(WORDS, size=4))
            items.append(
                {"item_id": f"n{number}", "text": text, "author_id": f"a{author}", "created_at": at.isoformat()}
            )
            for reviewer in ("ann", "ben"):
                aside = random.random() < min(0.95, 0.05 + 0.45 * text.split().count("offer"))
                said = {"item_id": f"n{number}", "reviewer": reviewer, "aside": bool(aside)}
                labels.append(said | {"time": at.isoformat()})
    return {"items": items, "labels": labels}


def deliver(
    objects: ObjectStore, tables: Mapping[str, Sequence[Row]], *, name: str = "all", at: datetime = NOW
) -> list[Receipt]:
    """Bring raw rows into the lake through the ETL."""
    receipts = []
    for table, rows in tables.items():
        body = "\n".join(json.dumps(row) for row in rows).encode()
        digest = hashlib.sha256(body).hexdigest()
        raw = RawObject(f"raw/notes/{table}/{name}.jsonl", digest, at, len(body), io.BytesIO(body))
        receipts.append(ingest(raw, SYSTEM, objects))
    return receipts


def train(rung: str, folder: Path) -> dict[str, bytes]:
    """Fit p = a + b counts by least squares to a snapshot's train part: the component `text`."""
    snapshot = open_examples(folder)
    rows = snapshot.read("train")
    told = counts(rows["text"].to_pylist())
    used = np.concatenate([np.ones((len(told), 1), np.float32), told if rung == "words" else told[:, :0]], axis=1)
    weights = np.linalg.lstsq(used, rows["aside"].to_numpy(), rcond=None)[0]
    a, b = weights[0], np.pad(weights[1:], (0, len(WORDS) - len(weights) + 1))
    manifest = {
        "system": "notes", "component": "text", "rung": rung, "framework": "numpy",
        "snapshot_id": snapshot.manifest.snapshot_id, "schema_hash": schema_hash(()), "feature_versions": {},
        "seed": 0, "code_version": "0", "library_versions": {}, "hyperparameters": {}, "inputs": ["counts"],
        "outputs": ["aside"], "parity": {"max_abs_diff": 0.0, "rows": rows.num_rows}, "trained_seconds": 0.1,
    }  # fmt: skip
    return {"model.onnx": _model(float(a), b), "manifest.json": json.dumps(manifest).encode(), "metrics.json": b"{}"}


def write(rung: str, snapshot: Path, model: Path) -> None:
    """Leave in a job's model folder what it makes of a snapshot."""
    folder = model / "text"
    folder.mkdir(parents=True)
    for name, content in train(rung, snapshot).items():
        (folder / name).write_bytes(content)


def _model(a: float, b: NDArray[Any]) -> bytes:
    tensors = [
        helper.make_tensor("b", TensorProto.FLOAT, [len(b), 1], b.tolist()),
        helper.make_tensor("a", TensorProto.FLOAT, [1], [a]),
    ]
    nodes = [helper.make_node("MatMul", ["counts", "b"], ["told"]), helper.make_node("Add", ["told", "a"], ["aside"])]
    inputs = [helper.make_tensor_value_info("counts", TensorProto.FLOAT, ["n", len(b)])]
    outputs = [helper.make_tensor_value_info("aside", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "notes", inputs, outputs, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())
