"""A small system that is judged by impressions: how likely a user taps a notice that is shown; and a world of it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinloop.contracts.api import Id, PredictionAnswer, PredictionRequest
from twinloop.contracts.artefacts import Case
from twinloop.contracts.endpoint import Endpoint, Origin, Question
from twinloop.contracts.events import EventTime, UserRow
from twinloop.contracts.features import Counting, Feature
from twinloop.contracts.model import Contract
from twinloop.contracts.outcomes import Outcomes
from twinloop.contracts.spec import GatePolicy, Rung, Split, SystemSpec
from twinloop.contracts.system import Knowledge, Model, Predictions, System
from twinloop.evaluation.bundles import LOG_GAIN, log_gain
from twinloop.ingest.process import ingest
from twinloop.ingest.receipts import Receipt
from twinloop.ingest.source import RawObject
from twinloop.ports import ObjectStore

NOW = datetime(2025, 7, 1, tzinfo=UTC)
START = datetime(2025, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KNOWN = ("item_tap_rate", "user_shows")
Row = dict[str, Any]


class NoticeRow(Contract):
    item_id: Id
    brand: str | None = None
    extra: str | None = None


class TapRow(Contract):
    event_id: Id
    type: Literal["show", "tap"]
    time: EventTime
    user_id: Id
    item_id: Id
    request_id: Id | None = None
    position: int | None = None
    tapped: int | None = None
    context: dict[str, Any] | None = None
    extra: str | None = None


def amounts(event: Mapping[str, Any]) -> tuple[int, ...]:
    shown = event["type"] == "show" or event.get("tapped") is not None
    return int(shown), int(event["type"] == "tap" or event.get("tapped") == 1)


SHOWN_SQL = "(type = 'show' OR tapped IS NOT NULL)"
TAPPED_SQL = "(type = 'tap' OR coalesce(tapped, 0) = 1)"

COUNTING = Counting(
    features=(
        Feature(
            name="item_tap_rate", entity="item", kind="rate", of="taps", per="shows", prior=0.2, weight=5.0,
            default=0.2, description="Taps on each showing of the notice.",
        ),
        Feature(name="user_shows", entity="user", kind="total", of="shows", description="Notices shown to the user."),
    ),
    measures=("shows", "taps"),
    amounts=amounts,
    amounts_sql=(f"{SHOWN_SQL}::INT", f"{TAPPED_SQL}::INT"),
    attributes={
        "users": {"plan": "json_extract_string(extra, '$.plan')", "age": "TRY_CAST(extra ->> '$.age' AS DOUBLE)"},
        "items": {"length": "TRY_CAST(extra ->> '$.length' AS DOUBLE)", "brand": "brand::VARCHAR"},
    },
    marks=(),
    memory={"user": 64, "item": 32},
)  # fmt: skip


def slices_of(request: Mapping[str, Any]) -> dict[str, str]:
    device = request["context"].get("device")
    found = {"activity": "new" if request["known"]["user_shows"] < 20 else "known"}
    return found if device is None else found | {"device": str(device)}


OUTCOMES = Outcomes(
    shown_sql=SHOWN_SQL,
    labels={"tap": f"CASE WHEN {TAPPED_SQL} THEN 1 END"},
    window_minutes=60,
    context=("device",),
    texts=("items.brand", "users.plan"),
    judged=True,
    slices_of=slices_of,
)


class Answered(NamedTuple):
    chances: NDArray[np.float32]
    degraded: bool = False


class Predictor:
    """p(tap) by a model that is asked with what is known, and whether the user has the gold plan."""

    asks_known = True

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.model = models["model"]

    def chances(self, known: Knowledge, item_ids: Sequence[str], at_ms: int) -> NDArray[np.float32]:
        plans = known.texts(["users.plan", "items.brand"], item_ids)
        gold = np.array([[plan == "gold"] for plan, _ in plans], np.float32)
        inputs = {"known": known.tensor(self.model.manifest.known_names, item_ids, at_ms), "gold": gold}
        found: NDArray[np.float32] = self.model.run(inputs)["tap"][:, 0]
        return found


def predict(predictor: Predictor, case: Case) -> dict[str, float]:
    asked = case.request
    return {"tap": float(predictor.chances(asked["known"], [asked["item_id"]], asked["time_ms"])[0])}


class TapsRequest(PredictionRequest):
    user_id: Id
    items: tuple[Id, ...]


class TapsAnswer(PredictionAnswer):
    chances: dict[str, float]


def ask(predictor: Predictor, question: Question) -> Answered:
    assert question.known is not None
    found = predictor.chances(question.known, question.request.items, question.at_ms)
    return Answered(found, question.known.degraded)


def tell(question: Question, found: Answered, origin: Origin) -> TapsAnswer:
    return TapsAnswer(
        chances=dict(zip(question.request.items, found.chances.tolist(), strict=True)),
        **origin.told(),
    )


def fall_back(predictor: Predictor, question: Question) -> Answered:
    return Answered(np.full(len(question.request.items), 0.2, np.float32), degraded=True)


SYSTEM = System(
    spec=SystemSpec(
        name="taps", verb="chances", requirements="", framing="", data="", architecture="", evaluation="",
        deployment="", split=Split(strategy="global", validation=0.1, test=0.3),
        rungs=(
            Rung(name="constant", framework="xgboost", complexity=0, needs=("impressions",)),
            Rung(name="linear", framework="xgboost", complexity=1, needs=("impressions",)),
        ),
        gate=GatePolicy(
            primary=LOG_GAIN, resamples=300, slices=("device", "activity"), minimum_slice_cases=10,
            slice_tolerance=0.05, latency_p99_ms=5000, calibration_tolerance=0.1,
        ),
    ),
    tables={"users": UserRow, "items": NoticeRow, "events": TapRow},
    features=(),
    strength_sql="NULL",
    predictor=Predictor,
    judge=log_gain(predict, "tap"),
    endpoint=Endpoint(
        summary="How likely a user taps notices.", request=TapsRequest, answer=TapsAnswer,
        subject=lambda request: request.user_id, ask=ask, fall_back=fall_back, tell=tell,
        log=lambda question, found, answer: {"chances": answer.chances},
    ),
    counting=COUNTING,
    outcomes=OUTCOMES,
    predictions=Predictions(predict, chances=("tap",), guarded=("tap",)),
)  # fmt: skip


def world(shows: int = 6000, seed: int = 4) -> dict[str, list[Row]]:
    """Raw rows: notices of which some are tapped more, above all by users of the gold plan."""
    random = np.random.default_rng(seed)
    users = [{"user_id": f"u{n}", "plan": "gold" if n % 2 else "free", "age": 30 + n} for n in range(80)]
    items = [{"item_id": f"i{n}", "brand": f"b{n % 3}", "length": n} for n in range(12)]
    appeal = random.uniform(0.05, 0.45, len(items))
    events: list[Row] = []
    for n in range(shows):
        user, item = int(random.integers(len(users))), int(random.integers(len(items)))
        tapped = random.random() < appeal[item] * (1.6 if user % 2 else 0.4)
        at = START + n * 4 * MINUTE
        said = {"user_id": f"u{user}", "item_id": f"i{item}", "context": {"device": "tv" if n % 3 else "phone"}}
        show = {"event_id": f"s{n}", "type": "show", "time": at.isoformat(), "position": n % 5, **said}
        if n % 10 == 0:  # an application that waits, and tells at once
            events.append(show | {"tapped": int(tapped)})
            continue
        events.append(show)
        if tapped:
            events.append(
                {"event_id": f"t{n}", "type": "tap", "time": (at + MINUTE).isoformat(), **said}
            )  # fmt: skip
    return {"users": users, "items": items, "events": events}


def deliver(objects: ObjectStore, tables: Mapping[str, Sequence[Row]]) -> list[Receipt]:
    """Bring raw rows into the lake through the ETL."""
    receipts = []
    for table, rows in tables.items():
        body = "\n".join(json.dumps(row) for row in rows).encode()
        raw = RawObject(
            f"raw/taps/{table}/all.jsonl", hashlib.sha256(body).hexdigest(), NOW, len(body), io.BytesIO(body)
        )
        receipts.append(ingest(raw, SYSTEM, objects))
    return receipts
