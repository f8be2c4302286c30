"""Events as they happen: on to the raw data that the lake is made of, and into histories and counters."""

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
from twinloop.contracts.tally import Happening, key_of
from twinloop.errors import BadInputError, NotFoundError, TwinloopError
from twinloop.features.counting import count
from twinloop.features.stores import FeatureStore, OnlineStore
from twinloop.ports import Log

_LOGGER = logging.getLogger(__name__)


class EventStream(Protocol):
    """Where events go on their way to raw/."""

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        """Send JSON lines; returns the positions of those that were not taken and should be tried again."""
        ...


class DeadLetters(Protocol):
    """Where messages go that can never be taken."""

    def send(self, body: str, reason: str) -> bool:
        """Put a message away with the reason; returns whether it was taken."""
        ...


@dataclass(frozen=True)
class _Message:
    message_id: str
    system: System
    event: Mapping[str, Any]  # as it came, for raw/
    user_id: str
    item_id: str
    entry: HistoryEntry | None
    happening: Happening | None  # without its item's marks


def apply_events(
    messages: Mapping[str, str],
    load: Callable[[str], System],
    store: OnlineStore,
    stream: EventStream,
    *,
    features: FeatureStore | None = None,
    dead_letters: DeadLetters | None = None,
    logger: Log = _LOGGER,
) -> list[str]:
    """Take queued events in, by message id; returns the ids of the messages to deliver again.

    A body is `{"system": ..., "event": {...}}`. Raw data comes first: what cannot be counted, because everybody writes
    to one item at once, say, is not lost to the lake, out of which counters can be made anew. What the stream does not
    take goes nowhere else yet, and what a store does not take is delivered again, into raw data too. Nothing here minds
    that: histories merge, counters know the latest events by id, and readers of the lake see each event id once.

    Args:
        messages: Message id -> body.
        load: A system by its name.
        store: The users' histories.
        stream: On to raw/.
        features: Counters of users and items, for systems that count.
        dead_letters: Where a body goes that can never be taken, with its reason. Without it, or where it does not
            answer, the message fails alone, again and again, until the queue itself puts it away.
        logger: Is told of everything that did not go as it should.
    """
    failed: list[str] = []
    valid: dict[str, list[_Message]] = defaultdict(list)
    for message_id, body in messages.items():
        try:
            message = _parse(message_id, body, load)
        except TwinloopError as error:
            logger.error("event refused", extra={"message_id": message_id, "reason": str(error)})
            final = isinstance(error, BadInputError | NotFoundError)
            if not (final and dead_letters is not None and dead_letters.send(body, str(error))):
                failed.append(message_id)
            continue
        valid[message.system.spec.name].append(message)

    for name, messages_of_system in valid.items():
        refused = stream.send(name, [_line(message.event) for message in messages_of_system])
        failed += [messages_of_system[position].message_id for position in sorted(refused)]
        sent = [message for position, message in enumerate(messages_of_system) if position not in refused]
        remembered = _remember(name, sent, store, failed, logger)
        if features is not None:
            _count(remembered, features, failed, logger)
    return failed


def _remember(
    name: str, messages: list[_Message], store: OnlineStore, failed: list[str], logger: Log
) -> list[_Message]:
    """Merge one system's events into histories; returns the messages that were, and adds the others to those failed."""
    users: dict[str, list[_Message]] = defaultdict(list)
    for message in messages:
        users[message.user_id].append(message)
    merged = []
    for user_id, theirs in users.items():
        entries = [message.entry for message in theirs if message.entry is not None]
        try:
            if entries:
                store.merge(name, user_id, entries, length=theirs[0].system.spec.history_length)
        except TwinloopError as error:
            logger.error("history not updated", extra={"user_id": user_id, "reason": str(error)})
            failed += [message.message_id for message in theirs]
        else:
            merged += theirs
    return merged


def _count(messages: list[_Message], store: FeatureStore, failed: list[str], logger: Log) -> None:
    """Count one system's events; adds the messages that were not to those that failed."""
    counting = messages[0].system.counting if messages else None
    if counting is None:
        return
    events = [(m.user_id, m.item_id, m.happening) for m in messages if m.happening is not None]
    not_counted = count(messages[0].system.spec.name, counting, store, events)
    for key, error in not_counted.items():
        logger.error("counters not updated", extra={"event_key": key, "reason": str(error)})
    failed += [m.message_id for m in messages if m.happening is not None and m.happening.key in not_counted]


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
    user_id, item_id = row.get("user_id"), row.get("item_id")
    if user_id is None or item_id is None:  # a search that nothing was chosen of: for the lake alone
        return _Message(message_id, known, event, "", "", None, None)
    strength = known.strength(row)
    time_ms = _milliseconds(row["time"])
    entry = None if strength is None else HistoryEntry(item_id, time_ms, strength)
    amounts = known.counting.amounts(row) if known.counting is not None else ()
    happening = Happening(time_ms, key_of(row["event_id"]), amounts) if any(amounts) else None
    return _Message(message_id, known, event, user_id, item_id, entry, happening)


def _milliseconds(moment: datetime | int) -> int:
    if isinstance(moment, int):
        return moment
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
