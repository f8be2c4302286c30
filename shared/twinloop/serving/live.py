"""The live calibration as a serving process reads it: whatever is wrong with it, answers go on without it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from twinloop.contracts.live import LiveCalibration, live_key
from twinloop.errors import IntegrityError, NotFoundError, TwinloopError
from twinloop.ports import Log, ObjectStore, StoredObject

_LOGGER = logging.getLogger(__name__)
_MOST_BYTES = 1_000_000


class LiveReader:
    """Reads `live/<system>/calibration.json`; a call never raises.

    What was read before is kept while the store does not answer: it says itself when it is too old to be used.

    Args:
        objects: Where it lies.
        system: Whose.
        label: Of what it must be.
        now: The moment, with a time zone.
        logger: Is warned of one that cannot be used, once.
    """

    def __init__(
        self,
        objects: ObjectStore,
        system: str,
        label: str,
        *,
        now: Callable[[], datetime],
        logger: Log = _LOGGER,
    ) -> None:
        self._objects = objects
        self._system = system
        self._label = label
        self._now = now
        self._logger = logger
        self._held: LiveCalibration | None = None
        self._etag = ""
        self._warned = ""

    def __call__(self) -> LiveCalibration | None:
        """Return the latest that can be used."""
        try:
            stored = self._objects.read(live_key(self._system))
        except NotFoundError:
            self._held, self._etag = None, ""
            return None
        except TwinloopError as error:
            self._warn("live calibration not read, will try again", self._etag + "?", str(error))
            return self._held
        if stored.etag != self._etag:
            self._held, self._etag = None, stored.etag
            try:
                self._held = self._parsed(stored)
            except IntegrityError as error:
                self._warn("live calibration refused", stored.etag, str(error))
        if self._held is not None and not self._held.fresh(self._now()):
            why = f"it was made at {self._held.made_at.isoformat()}; does the function `monitor` run?"
            self._warn("live calibration too old, not used", stored.etag, why)
            return None
        return self._held

    def _parsed(self, stored: StoredObject) -> LiveCalibration:
        if len(stored.body) > _MOST_BYTES:
            raise IntegrityError(f"{stored.key} has {len(stored.body)} bytes")
        try:
            found = LiveCalibration.model_validate_json(stored.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise IntegrityError(f"{stored.key}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        if (found.system, found.label) != (self._system, self._label):
            raise IntegrityError(f"{stored.key} is of {found.label} of {found.system}")
        return found

    def _warn(self, what: str, about: str, why: str) -> None:
        """Warn once of the same object and fault, and not with every look."""
        if self._warned != what + about:
            self._warned = what + about
            self._logger.warning(what, extra={"system": self._system, "why": why})
