"""What refreshes made and nobody needs any more, deleted; what learning made is never touched.

A release is deleted from what makes it complete to its manifest, its own components in between, and the sign that a
refresh made it last. So nobody sees half of one, and whoever dies half way leaves what the next run finds and goes on
with.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from twinloop.errors import NotFoundError
from twinloop.ports import ObjectStore
from twinloop.registry import names
from twinloop.registry.aliases import Aliases
from twinloop.registry.versions import Versions

_LOGGER = logging.getLogger(__name__)
MOST = 50
"""Releases that one run discards; it takes some seconds, and the next run goes on."""
_AT_ONCE = timedelta(days=1)  # to know what is still needed takes reading some hundred manifests: not every hour
_SKEW = timedelta(days=1)  # clocks of those who register a component and a release of it; far more than they differ


def discard(store: ObjectStore, system: str, *, before: datetime, most: int = MOST) -> list[str]:
    """Delete releases that refreshes made before a moment and that no alias has named since; return their versions.

    So are those of their components that no other release has. The work is put off until a day's releases are due.

    Args:
        store: Where the registry is.
        system: Whose.
        before: The moment, with a time zone.
        most: How many at most.
    """
    return _Discards(store, system, before).run(most)


class _Discards:
    """One run."""

    def __init__(self, store: ObjectStore, system: str, before: datetime) -> None:
        self._store, self._system, self._before = store, system, before
        self._releases = self._versions(names.RELEASE)
        self._aliases = Aliases(store, system, lambda: before, str)  # nothing is moved here

    def run(self, most: int) -> list[str]:
        gone: dict[str, dict[str, str]] = {}
        for version in self._due()[:most]:
            parts = self._components(version)
            if parts is not None and version not in self._aliases.pointed_at():  # somebody may have promoted it since
                self._releases.unfinish(version)
                gone[version] = parts
        for name, component in self._unneeded(gone.values()):
            self._versions(name).discard(component)
        for version in gone:
            self._releases.discard(version, last=(names.MANIFEST, names.REFRESHED))
        return list(gone)

    def _due(self) -> list[str]:
        """Return what may be discarded, oldest first; nothing before it is worth the reading."""
        made = sorted(version for version, files in self._releases.listed().items() if names.REFRESHED in files)
        pointed_at = self._aliases.pointed_at() if made else set()
        old = [version for version in made if names.made_at(version) < self._before and version not in pointed_at]
        if not old or names.made_at(old[0]) >= self._before - _AT_ONCE:
            return []
        named = self._aliases.named_since(self._before)
        return [version for version in old if version not in named]

    def _components(self, version: str) -> dict[str, str] | None:
        """Return the components that a refresh made for this release or one before it; None: leave it alone.

        Those of the learnt release are not among them. A release whose manifest is gone has none left.
        """
        try:
            manifest = self._manifest(version)
        except NotFoundError:
            return {}
        learnt = manifest.get("refreshed_from")
        if not isinstance(learnt, str):
            _LOGGER.warning("%s %s has a manifest that speaks of no refresh; it stays", self._system, version)
            return None
        kept = self._parts(learnt)
        return {name: of for name, of in self._parts(version).items() if kept.get(name) != of}

    def _unneeded(self, discarded: Iterable[dict[str, str]]) -> list[tuple[str, str]]:
        """Return those of the components of discarded releases that no complete release has."""
        asked = {part for parts in discarded for part in parts.items()}
        if not asked:
            return []
        # A release is younger than its components, so older ones have none of these.
        since = min(names.made_at(version) for _, version in asked) - _SKEW
        whole = (version for version, files in self._releases.listed().items() if names.CHECKSUMS in files)
        younger = (version for version in whole if names.made_at(version) >= since)
        return sorted(asked - {part for version in younger for part in self._parts(version).items()})

    def _parts(self, version: str) -> dict[str, str]:
        """Return the components that a release's manifest names, whether or not this code understands the rest."""
        try:
            parts = self._manifest(version).get("components")
        except NotFoundError:
            return {}
        return parts if isinstance(parts, dict) else {}

    def _manifest(self, version: str) -> dict[str, Any]:
        """Return the manifest, also of a release that is not complete; raises NotFoundError."""
        root = names.model_root(self._system, names.RELEASE)
        stored = self._store.read(f"{root}versions/{names.check_version(version)}/{names.MANIFEST}")
        try:
            manifest = json.loads(stored.body)
        except ValueError:
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def _versions(self, model: str) -> Versions:
        return Versions(self._store, self._system, model, lambda: self._before)
