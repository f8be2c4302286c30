"""Events as they happen: into the users' histories, and on to the raw data that the lake is made of."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import ValidationError

from twinloop.contracts.history import HistoryEntry
from twinloop.contracts.system import System
from twinloop.errors import BadInputError, TwinloopError
from twinloop.features.stores import OnlineStore

_LOGGER = logging.getLogger(__name__)


class Log(Protocol):
    """The part of a logger that is used here; powertools' has it too."""

    def error(self, msg: object, *, extra: Mapping[str, object] | None = None) -> None:
        """Log an error with named facts."""
        ...


class EventStream(Protocol):
    """Where events go on their way to raw/."""

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        """Send JSON lines; returns the positions of those that were not taken and should be tried again."""
        ...


@dataclass(frozen=True)
class _Message:
    message_id: str
    system: System
    event: Mapping[str, Any]  # as it came, for raw/
    user_id: str
    entry: HistoryEntry | None


def apply_events(
    messages: Mapping[str, str],
    load: Callable[[str], System],
    store: OnlineStore,
    stream: EventStream,
    *,
    logger: Log = _LOGGER,
) -> list[str]:
    """Take queued events in, by message id; returns the ids of the messages to deliver again.

    A body is `{"system": ..., "event": {...}}`. Nothing here minds a second delivery: histories merge, and readers of
    the lake see each event id once. A body that can never be taken fails alone, again and again, until the queue
    gives it to its dead-letter queue.
    """
    failed: list[str] = []
    users: dict[tuple[str, str], list[_Message]] = defaultdict(list)
    for message_id, body in messages.items():
        try:
            message = _parse(message_id, body, load)
        except TwinloopError as error:
            logger.error("event refused", extra={"message_id": message_id, "reason": str(error)})
            failed.append(message_id)
            continue
        users[message.system.spec.name, message.user_id].append(message)

    lines: dict[str, list[_Message]] = defaultdict(list)
    for (name, user_id), theirs in users.items():
        try:
            entries = [message.entry for message in theirs if message.entry is not None]
            if entries:
                store.merge(name, user_id, entries, length=theirs[0].system.spec.history_length)
        except TwinloopError as error:
            logger.error("history not updated", extra={"user_id": user_id, "reason": str(error)})
            failed += [message.message_id for message in theirs]
        else:
            lines[name] += theirs
    for name, sent in lines.items():
        refused = stream.send(name, [_line(message.event) for message in sent])
        failed += [sent[position].message_id for position in sorted(refused)]
    return failed


def _parse(message_id: str, body: str, load: Callable[[str], System]) -> _Message:
    """Return a valid message; raises BadInputError or NotFoundError with what is wrong."""
    try:
        message = json.loads(body)
        name, event = message["system"], message["event"]
        known = load(name)
        row = (
            known.tables["events"]
            .model_validate(
                # What the contract does not know stays in the raw line; the ETL keeps it in `extra`.
                {field: value for field, value in event.items() if field in known.tables["events"].model_fields}
            )
            .model_dump()
        )
    except (json.JSONDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f'a message is {{"system": ..., "event": {{...}}}}, this one is not: {error!r}') from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "event"
        raise BadInputError(f"{place}: {first['msg']}") from error
    strength = known.strength(row)
    entry = None if strength is None else HistoryEntry(row["item_id"], _milliseconds(row["time"]), strength)
    return _Message(message_id, known, event, row["user_id"], entry)


def _milliseconds(moment: datetime | int) -> int:
    if isinstance(moment, int):
        return moment
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
