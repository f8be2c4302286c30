"""What users did, in batches: checked event by event, queued once each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import ValidationError
from pydantic_core import from_json

from twinloop.contracts.api import EventsAnswer, EventsRequest, FieldFault, RejectedEvent
from twinloop.contracts.model import Contract
from twinloop.contracts.system import System
from twinloop.errors import BadInputError, NotFoundError, UnavailableError
from twinloop.serving.http import Request, Response, json_body
from twinloop.serving.problems import InvalidRequestError, MethodNotAllowedError, faults_of

MAX_EVENT_BYTES = 60_000  # as it is queued; several must fit into one call of the queue
_PATH = re.compile(r"/v1/([^/]+)/events")
_MOST_FAULTS = 20
_SHOWN_ID = 256


class EventQueue(Protocol):
    """Where accepted events wait to be worked on."""

    def send(self, bodies: Sequence[str]) -> set[int]:
        """Send messages; returns the positions of those not taken, which should be tried again."""
        ...


def _now() -> datetime:
    return datetime.now(UTC)


def collect(
    request: Request, load: Callable[[str], System], queue: EventQueue, *, clock: Callable[[], datetime] = _now
) -> Response:
    """Answer POST /v1/{system}/events.

    202 where at least one event was accepted, with every rejected one and why. An event that is dated ahead of the
    clock is queued as of now: nothing that happened is to wait for its moment, and store and lake are told the same.

    Raises:
        NotFoundError: There is no such path or system.
        BadInputError: The body is no batch of events, or no event in it is valid.
        UnavailableError: The queue took none of the valid events.
    """
    match = _PATH.fullmatch(request.path)
    if match is None:
        raise NotFoundError(f"there is nothing at {request.path[:200]}; send events to /v1/<system>/events")
    if request.method != "POST":
        raise MethodNotAllowedError(request.method, "POST")
    system = load(match[1])
    answer = _accept(_events(json_body(request)), system, queue, clock())
    counts = {"Accepted": answer.accepted, "Rejected": len(answer.rejected)}
    return Response(202, answer.model_dump_json().encode(), counts=counts)


def _events(body: bytes) -> tuple[dict[str, Any], ...]:
    try:
        # Not a number is valid for Python's JSON and for nobody else's: it must not get as far as the queue.
        return EventsRequest.model_validate(from_json(body, allow_inf_nan=False), strict=False).events
    except ValidationError as error:
        raise InvalidRequestError(faults_of(error)) from error
    except ValueError as error:
        raise BadInputError(f"not JSON: {error}") from error


def _accept(events: Sequence[Mapping[str, Any]], system: System, queue: EventQueue, arrival: datetime) -> EventsAnswer:
    contract = system.tables["events"]
    rejected: list[RejectedEvent] = []
    bodies: dict[str, str] = {}  # by event id: who sends an event twice sends it once
    places: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        event_id = str(event.get("event_id", ""))
        try:
            body = _body(event, system.spec.name, contract, arrival)
        except InvalidRequestError as error:
            rejected.append(_rejected(index, event, error.faults, retry=False))
            continue
        bodies.setdefault(event_id, body)
        places.setdefault(event_id, []).append(index)
    if not bodies:
        raise InvalidRequestError(_by_place(rejected))
    ids = list(bodies)
    refused = {ids[position] for position in queue.send([bodies[event_id] for event_id in ids])}
    if len(refused) == len(ids):
        raise UnavailableError("the events could not be queued; send them again, the same ids are taken once")
    again = (FieldFault(field="", reason="it could not be queued just now; send it again"),)
    rejected += [_rejected(index, events[index], again, retry=True) for i in refused for index in places[i]]
    accepted = sum(len(indices) for event_id, indices in places.items() if event_id not in refused)
    return EventsAnswer(accepted=accepted, rejected=tuple(sorted(rejected, key=lambda entry: entry.index)))


def _body(event: Mapping[str, Any], system: str, contract: type[Contract], arrival: datetime) -> str:
    """Return what is queued of an event; raises InvalidRequestError.

    Only what the contract names is checked; other fields are kept with the event and are nobody's business here.
    """
    body = _queued(event, system)
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidRequestError((FieldFault(field="", reason=f"larger than {MAX_EVENT_BYTES} bytes"),))
    try:
        row = contract.model_validate({name: value for name, value in event.items() if name in contract.model_fields})
    except ValidationError as error:
        raise InvalidRequestError(faults_of(error)) from error
    time = getattr(row, "time", None)
    if isinstance(time, datetime) and time > arrival:
        return _queued({**event, "time": int(arrival.timestamp() * 1000)}, system)
    return body


def _queued(event: Mapping[str, Any], system: str) -> str:
    return json.dumps({"system": system, "event": event}, separators=(",", ":"))


def _rejected(index: int, event: Mapping[str, Any], faults: tuple[FieldFault, ...], *, retry: bool) -> RejectedEvent:
    event_id = event.get("event_id")
    shown = str(event_id)[:_SHOWN_ID] if isinstance(event_id, str | int) else None
    return RejectedEvent(index=index, event_id=shown, errors=faults, retry=retry)


def _by_place(rejected: Sequence[RejectedEvent]) -> tuple[FieldFault, ...]:
    faults = (
        FieldFault(field=f"events.{entry.index}.{fault.field}".rstrip("."), reason=fault.reason)
        for entry in rejected
        for fault in entry.errors
    )
    return tuple(fault for fault, _ in zip(faults, range(_MOST_FAULTS), strict=False))
