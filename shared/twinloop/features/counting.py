"""Events into the counters of their users and items, each once.

An item's counters remember few events and a user's many, so the user's memory decides what is new, and is written last:
a delivery that failed half way is known to the item alone, and comes again soon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from twinloop.contracts.features import Counting, Turned
from twinloop.contracts.tally import Happening, mark_of, unpack
from twinloop.errors import TwinloopError
from twinloop.features.stores import Attributes, Entity, FeatureStore, Known

_PARALLEL_WRITES = 8

Event = tuple[str, str, Happening]  # user, item, what happened


def count(system: str, counting: Counting, store: FeatureStore, events: Iterable[Event]) -> dict[int, TwinloopError]:
    """Count events; returns why some were not, by their key: those can be counted again, alone or with others."""
    events = list(events)
    failed: dict[int, TwinloopError] = {}
    try:
        fresh = _new(system, counting, store, events)
    except TwinloopError as error:
        return {happening.key: error for _, _, happening in events}

    items: defaultdict[str, list[Happening]] = defaultdict(list)
    for _, item_id, happening in fresh:
        items[item_id].append(happening)
    written = _write(system, counting, store, items, entity="item", failed=failed)

    users: defaultdict[str, list[Happening]] = defaultdict(list)
    for user_id, item_id, happening in fresh:
        if happening.key not in failed:
            marks = marks_of(counting, item_id, written[item_id].attributes)
            users[user_id].append(happening._replace(marks=marks))
    _write(system, counting, store, users, entity="user", failed=failed)
    return failed


def marks_of(counting: Counting, item_id: str, attributes: Attributes) -> tuple[int, ...]:
    """Return an item's marks, by `Counting.marks`; 0 for what is not known of it."""
    texts = (item_id if name == "item_id" else attributes.get(name) for name in counting.marks)
    return tuple(mark_of(text if isinstance(text, str) else None) for text in texts)


def _new(system: str, counting: Counting, store: FeatureStore, events: list[Event]) -> list[Event]:
    """The events that their users' records do not know, with the amounts that count, read in one batch."""
    layout = counting.layout("user")
    user_ids = list(dict.fromkeys(user_id for user_id, _, _ in events))
    known = store.known(system, [("user", user_id) for user_id in user_ids])
    recent = {
        user_id: unpack(record.counters, layout).recent
        for user_id, record in zip(user_ids, known, strict=True)
        if record.counters
    }
    remembered = {
        user_id: {*record.late, *(happening.key for happening in recent.get(user_id, ()))}
        for user_id, record in zip(user_ids, known, strict=True)
        if recent.get(user_id)
    }
    fresh = [event for event in events if event[2].key not in remembered.get(event[0], ())]
    return fresh if counting.turned is None else _turned(counting, counting.turned, fresh, recent)


def _turned(
    counting: Counting, turned: Turned, events: list[Event], recent: Mapping[str, tuple[Happening, ...]]
) -> list[Event]:
    """Apply `Counting.turned`, which needs the mark `item_id`, to events in the order of their time."""
    place = counting.marks.index("item_id")
    before: defaultdict[tuple[str, int], list[Happening]] = defaultdict(list)
    for user_id, theirs in recent.items():
        for happening in theirs:
            before[user_id, happening.marks[place]].append(happening)
    counted = []
    for user_id, item_id, happening in sorted(events, key=lambda event: event[2]):
        said = before[user_id, mark_of(item_id)]
        earlier = [other.amounts for other in sorted(said) if other[:2] < happening[:2]]
        news = happening._replace(amounts=turned(happening.amounts, earlier))
        said.append(news)
        counted.append((user_id, item_id, news))
    return counted


def _write(
    system: str,
    counting: Counting,
    store: FeatureStore,
    happenings: dict[str, list[Happening]],
    *,
    entity: Entity,
    failed: dict[int, TwinloopError],
) -> dict[str, Known]:
    """Count every entity's events; returns what is then known of those it went well for, and notes the others'."""
    layout = counting.layout(entity)

    def one(entity_id: str) -> Known | TwinloopError:
        try:
            return store.count(system, (entity, entity_id), happenings[entity_id], layout)
        except TwinloopError as error:
            return error

    written = {}
    with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
        # One alone needs no thread: to start it can take as long as the write.
        outcomes = pool.map(one, happenings) if len(happenings) > 1 else map(one, happenings)
        for entity_id, outcome in zip(happenings, outcomes, strict=True):
            if isinstance(outcome, TwinloopError):
                failed |= {happening.key: outcome for happening in happenings[entity_id]}
            else:
                written[entity_id] = outcome
    return written
