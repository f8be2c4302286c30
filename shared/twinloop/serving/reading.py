"""The online store as a request reads it: once, only what its releases ask for, and not just after it failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from twinloop.contracts.features import Counting
from twinloop.contracts.history import History
from twinloop.contracts.system import Knowledge
from twinloop.errors import BadInputError, TwinloopError, UnavailableError
from twinloop.ports import Log
from twinloop.serving.breaker import Breaker

_LOGGER = logging.getLogger(__name__)
_REST_S = 2.0

Value = TypeVar("Value")


class HistoryReader(Protocol):
    """The online store, as far as every release needs it."""

    def history(self, system: str, user_id: str) -> History:
        """Return what is known of the user, oldest first; raises TwinloopError."""
        ...


class FeatureReader(HistoryReader, Protocol):
    """The online store, as far as releases need it that ask what is known; see `features/stores.py`."""

    def recall(self, system: str, user_id: str) -> Any:
        """Return everything about a user; raises TwinloopError."""
        ...

    def known(self, system: str, keys: Sequence[tuple[Any, str]]) -> Sequence[Any]:
        """Return what is known of entities, by (kind, id), in that order; raises TwinloopError."""
        ...


class Read(NamedTuple):
    """What was read of a user. `whole`: it is what the store says, and not nothing for want of an answer."""

    history: History
    whole: bool
    knowledge: Knowledge | None = None


class Reader:
    """Reads what a request needs.

    Args:
        system: Whose.
        histories: The users' histories; None where there is no store.
        features: The same store with counters, for systems that count; None: what is known are defaults.
        counting: What the system counts.
        now_ms: The present, epoch milliseconds: of it what is known of items is kept for a while.
        logger: Is told when the store does not answer.
    """

    def __init__(
        self,
        system: str,
        histories: HistoryReader | None,
        features: FeatureReader | None = None,
        counting: Counting | None = None,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        logger: Log = _LOGGER,
    ) -> None:
        self._system = system
        self._histories = histories
        self._features = features
        self._counting = counting
        self._now_ms = now_ms
        self._logger = logger
        self._rest = Breaker(_REST_S)
        self._items: Any = None

    def read(self, user_id: str, *, known: bool) -> Read:
        """Return what is known of the user; raises BadInputError for an id that nobody can have.

        Args:
            user_id: Who asks.
            known: Whether a release is asked with more than the history.
        """
        features, counting = self._features, self._counting
        if not known or features is None or counting is None:
            ask = None if self._histories is None else self._histories.history
            history = self._answer(ask, self._system, user_id)
            return Read(history or (), history is not None)
        from twinloop.features.knowledge import ItemCache, UserKnowledge  # noqa: PLC0415 - most releases ask for nothing

        if self._items is None:
            self._items = ItemCache(counting, self._read_items, now_ms=self._now_ms)
        found = self._answer(features.recall, self._system, user_id)
        if found is None:
            return Read((), whole=False, knowledge=UserKnowledge(counting, None, self._items, users=self._read_users))
        knowledge = UserKnowledge(counting, found.user, self._items, users=self._read_users)
        return Read(found.history, whole=True, knowledge=knowledge)

    def others(self, user_ids: Sequence[str]) -> Mapping[str, Knowledge]:
        """Return what is known of users by themselves, read in one batch; raises BadInputError for impossible ids.

        Where the store does not answer, what is known are defaults, and says so (`degraded`) once it is asked for.
        """
        if not user_ids or self._counting is None:
            return {}
        from twinloop.features.knowledge import NoItems, UserKnowledge  # noqa: PLC0415 - most requests name nobody else

        wanted = list(dict.fromkeys(user_ids))
        ask = None if self._features is None else self._features.known
        found = self._answer(ask, self._system, [("user", user_id) for user_id in wanted])
        records: Sequence[Any] = found if found is not None else [None] * len(wanted)
        items = NoItems(self._counting)
        return {
            user_id: UserKnowledge(self._counting, record, items)
            for user_id, record in zip(wanted, records, strict=True)
        }

    def _read_items(self, item_ids: Sequence[str]) -> Sequence[Any] | None:
        return self._read_known("item", item_ids)

    def _read_users(self, user_ids: Sequence[str]) -> Sequence[Any] | None:
        return self._read_known("user", user_ids)

    def _read_known(self, entity: str, ids: Sequence[str]) -> Sequence[Any] | None:
        ask = None if self._features is None else self._features.known
        try:
            return self._answer(ask, self._system, [(entity, of) for of in ids])
        except BadInputError as error:  # an id of the catalogue that no key can hold is not the caller's fault
            self._logger.warning("entities not read", extra={"entity": entity, "why": str(error)})
            return None

    def _answer(self, ask: Callable[..., Value] | None, *about: Any) -> Value | None:
        """Return what the store answers, None where it does not; after that it is left alone for a while."""
        if ask is None or self._rest.open:
            return None
        try:
            return ask(*about)
        except BadInputError:
            raise
        except TwinloopError as error:
            if isinstance(error, UnavailableError):
                self._rest.trip()
            self._logger.warning("store not read", extra={"why": str(error)})
            return None
