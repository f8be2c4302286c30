"""Which releases a process serves now, kept up with the registry's aliases while it lives.

A warm process looks at the aliases when a request comes and its last look is older than `look_every_s`. It looks and
loads in a thread, and the request waits for that a bounded time. So a Lambda that was frozen between two requests
learns of a promotion with its next request instead of after it, and no request is held up by a slow download: it is
answered by what was served so far, and the thread goes on, over a freeze if need be.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twinloop.contracts.live import LiveCalibration
from twinloop.errors import TwinloopError, UnavailableError
from twinloop.ports import Log
from twinloop.serving.releases import LoadedRelease

_LOGGER = logging.getLogger(__name__)
_REFUSED_FOR_S = 300.0
_TRY_AGAIN_S = 1.0  # while there is nothing to serve


class AliasReader(Protocol):
    """The registry, as far as it is needed here."""

    def alias(self, name: str) -> Any:
        """Return where the alias points (an object with `version`), or None."""
        ...


class Loader(Protocol):
    """Versions into memory."""

    def load(self, version: str) -> LoadedRelease:
        """Return the release; raises TwinloopError."""
        ...

    def load_baseline(self, version: str) -> LoadedRelease:
        """Return at least the release's baseline; raises TwinloopError."""
        ...


@dataclass(frozen=True)
class Serving:
    """What is in memory. `wanted`: where the champion alias points; `champion` may lag behind it.

    `live`: how far off releases were lately, as it was read last; it may be too old to be used.
    """

    champion: LoadedRelease | None = None
    challenger: LoadedRelease | None = None
    shadow: LoadedRelease | None = None
    wanted: str | None = None
    live: LiveCalibration | None = None

    @property
    def releases(self) -> tuple[LoadedRelease, ...]:
        """Those that there are, whatever their role."""
        return tuple(of for of in (self.champion, self.challenger, self.shadow) if of is not None)


class Slots:
    """The releases of one system behind its aliases.

    Args:
        registry: Where the aliases are.
        loader: Loads what they point to.
        look_every_s: How old the last look may be.
        patience_s: How long the request waits that began a look; those that come while it lasts wait a tenth.
        clock: Seconds, monotonic.
        live: Reads the live calibration, and never raises; None where the system has none. Looked at with the aliases,
            but for the first look.
        logger: Is told what changed and what was refused.
    """

    def __init__(
        self,
        registry: AliasReader,
        loader: Loader,
        *,
        look_every_s: float = 10.0,
        patience_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        live: Callable[[], LiveCalibration | None] | None = None,
        logger: Log = _LOGGER,
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._look_every_s = look_every_s
        self._patience_s = patience_s
        self._clock = clock
        self._live = live
        self._logger = logger
        self._serving = Serving()
        self._standby: LoadedRelease | None = None
        self._refused: dict[str, float] = {}
        self._looked_at = float("-inf")
        self._stood_by_at = float("-inf")
        self._lock = threading.Lock()  # held by whoever looks or loads
        self._look: threading.Thread | None = None

    def current(self) -> Serving:
        """Return what to serve with now, after a look at the aliases where one is due."""
        if self._serving.champion is None:
            self._first_look()
        elif self._clock() - self._looked_at >= self._look_every_s:
            self._later_look()
        return self._serving

    def standby(self) -> LoadedRelease | None:
        """Return the release before the champion, loaded when first needed; None where there is none that works."""
        with self._lock:
            if self._clock() - self._stood_by_at >= self._look_every_s:
                version = self._pointed_or_none("previous")
                if version is not None and (self._standby is None or self._standby.version != version):
                    self._standby = self._held(version) or self._load("previous", version) or self._standby
                self._stood_by_at = self._clock()
            return self._standby if self._standby and self._standby.whole else None

    def baseline(self) -> LoadedRelease | None:
        """Return any release of which the baseline can be read; None where there is none."""
        held = self._serving.champion or self._standby
        if held is not None:
            return held
        with self._lock:
            for alias in ("champion", "previous"):
                version = self._pointed_or_none(alias)
                if version is None:
                    continue
                try:
                    self._standby = self._loader.load_baseline(version)
                except TwinloopError as error:
                    self._logger.warning("no baseline", extra={"alias": alias, "version": version, "why": str(error)})
                else:
                    return self._standby
        return None

    def _first_look(self) -> None:
        """Get the champion and nothing else: the rest can wait for the second request, a cold start cannot."""
        with self._lock:
            if self._serving.champion is None and self._clock() - self._looked_at >= _TRY_AGAIN_S:
                self._update_all("champion")
                if self._serving.champion is not None:
                    self._looked_at = float("-inf")

    def _later_look(self) -> None:
        look, patience_s = self._look, self._patience_s / 10
        if look is None or not look.is_alive():
            look, patience_s = threading.Thread(target=self._look_at_all, daemon=True), self._patience_s
            self._look = look
            look.start()
        look.join(patience_s)

    def _look_at_all(self) -> None:
        with self._lock:
            if self._update_all("champion", "challenger", "shadow") and self._live is not None:
                self._serving = replace(self._serving, live=self._live())

    def _update_all(self, *aliases: str) -> bool:
        """Look at aliases, the champion's first; returns whether anybody answers."""
        try:
            for alias in aliases:
                try:
                    self._update(alias)
                except UnavailableError as error:
                    self._logger.warning("alias not read, will try again", extra={"alias": alias, "why": str(error)})
                    if alias == "champion":
                        return False  # nothing answers: asking for the others would only take as long again
            return True
        finally:
            self._looked_at = self._clock()

    def _update(self, alias: str) -> None:
        """Make one slot hold what its alias names; where that is not possible the slot stays as it is."""
        version = self._pointed(alias)
        held: LoadedRelease | None = getattr(self._serving, alias)
        if version is None:
            # A champion is replaced and never taken away: an alias that is gone is an accident, not a wish.
            if alias != "champion":
                self._set(alias, None)
            return
        if held is None or held.version != version:
            held = self._held(version) or self._load(alias, version) or held
        if alias == "champion":
            self._serving = replace(self._serving, wanted=version)
        self._set(alias, held)

    def _set(self, alias: str, held: LoadedRelease | None) -> None:
        slot: dict[str, Any] = {alias: held}
        self._serving = replace(self._serving, **slot)

    def _held(self, version: str) -> LoadedRelease | None:
        """Return a release that is in memory for another alias: a promoted challenger is not loaded again."""
        slots = (*self._serving.releases, self._standby)
        return next((release for release in slots if release and release.version == version and release.whole), None)

    def _load(self, alias: str, version: str) -> LoadedRelease | None:
        """Return the release, or None where it was refused; a refused one is left alone for some minutes."""
        if self._clock() < self._refused.get(version, float("-inf")):
            return None
        facts = {"alias": alias, "version": version}
        try:
            release = self._loader.load(version)
        except UnavailableError as error:
            self._logger.warning("release not loaded, will try again", extra={**facts, "why": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever is wrong with an artefact must not stop what serves
            self._refused[version] = self._clock() + _REFUSED_FOR_S
            self._logger.error("release refused", extra={**facts, "why": f"{type(error).__name__}: {error}"})
        else:
            self._logger.info("release loaded", extra=facts)
            return release
        return None

    def _pointed(self, alias: str) -> str | None:
        """Return the version an alias names; raises UnavailableError."""
        try:
            state = self._registry.alias(alias)
        except UnavailableError:
            raise
        except TwinloopError as error:
            self._logger.error("alias refused", extra={"alias": alias, "why": str(error)})
            return None
        return state.version if state else None

    def _pointed_or_none(self, alias: str) -> str | None:
        try:
            return self._pointed(alias)
        except UnavailableError as error:
            self._logger.warning("alias not read", extra={"alias": alias, "why": str(error)})
            return None
