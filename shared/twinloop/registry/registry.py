"""The registry of one system: immutable components and releases, and the aliases that point to releases."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import ValidationError

from twinloop.contracts.artefacts import ReleaseManifest
from twinloop.errors import BadInputError, IntegrityError, NotFoundError
from twinloop.ports import ObjectStore
from twinloop.registry import names
from twinloop.registry.aliases import UNSET, Aliases, AliasState, Move, Unset
from twinloop.registry.parallel import all_at_once
from twinloop.registry.versions import Versions, content_of

# What describes a release, and may be measured anew, is not what it consists of.
_DESCRIPTION = frozenset({names.MANIFEST, "metrics.json", "card.html"})


def utc_now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def _unique() -> str:
    return uuid.uuid4().hex


class Registry:
    """What one system has ever trained, and what of it serves.

    Args:
        store: Where it lies, under `registry/<system>/`.
        system: The system's name.
        clock: Now, with a time zone.
        new_id: A fresh unique id.
    """

    def __init__(
        self,
        store: ObjectStore,
        system: str,
        *,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], str] = _unique,
    ) -> None:
        self.system = names.check_system(system)
        self._store = store
        self._clock = clock
        self._releases = Versions(store, system, names.RELEASE, clock)
        self._aliases = Aliases(store, system, clock, new_id)

    def register_component(self, component: str, files: Mapping[str, bytes]) -> str:
        """Store a model's files once and return their version; the same files again give the same version."""
        if not files:
            raise BadInputError(f"the component {component!r} has no files")
        for name in files:
            names.check_file(name)
        versions = self._component(component)
        version = versions.claim(content_of(files))
        versions.write(version, files)
        return version

    def read_component(self, component: str, version: str) -> dict[str, bytes]:
        """Return a component's files, verified; raises NotFoundError, IntegrityError."""
        return self._component(component).read(version)

    def read_components(
        self, components: Mapping[str, str], *, leave_out: tuple[str, ...] = ()
    ) -> dict[str, dict[str, bytes]]:
        """Return several components as {component: {file: content}} without the files to leave out, verified.

        Args:
            components: Component name -> version, as a release's manifest has them.
            leave_out: Endings of names of files that the caller does not need.

        Raises:
            NotFoundError, IntegrityError: A component is not whole.
        """
        calls = {
            name: partial(self._component(name).read, version, leave_out=leave_out)
            for name, version in components.items()
        }
        return all_at_once(calls)

    def read_sound_files(self, component: str, version: str, *, leave_out: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Return the verified files of a component and leave out damaged ones: for what needs only some of them."""
        return self._component(component).read_sound(version, leave_out=leave_out)

    def draft_release(
        self,
        *,
        rung: str,
        snapshot_id: str,
        schema_hash: str,
        components: Mapping[str, str],
        refreshed_from: str | None = None,
    ) -> ReleaseManifest:
        """Return the manifest of a release to be, with its version id: the same components give the same id.

        Nothing can be read under that id before `register_release`. `refreshed_from`: as in the manifest; what a
        refresh made is never the release that learning made, not even of the same components.
        """
        if not components:
            raise BadInputError("a release consists of at least one component")
        for component, version in components.items():
            names.check_component(component)
            names.check_version(version)
        identity: dict[str, Any] = {
            "rung": rung,
            "snapshot_id": snapshot_id,
            "schema_hash": schema_hash,
            "components": dict(components),
        }
        if refreshed_from is not None:
            identity["refreshed_from"] = names.check_version(refreshed_from)
        version = self._releases.claim(json.dumps(identity, sort_keys=True).encode())
        return ReleaseManifest(
            system=self.system,
            version=version,
            rung=rung,
            snapshot_id=snapshot_id,
            schema_hash=schema_hash,
            components=dict(components),
            created_at=self._clock(),
            refreshed_from=refreshed_from,
        )

    def register_release(self, manifest: ReleaseManifest, files: Mapping[str, bytes]) -> str:
        """Store a drafted release with the files that describe it, and return its version.

        Where the release is registered already, what was written first stays.

        Raises:
            BadInputError: The manifest is another system's, or `files` brings a manifest of its own.
            NotFoundError, IntegrityError: One of its components is not whole in the registry.
        """
        if manifest.system != self.system:
            raise BadInputError(f"a release of {manifest.system!r} does not belong to {self.system!r}")
        if {names.MANIFEST, names.REFRESHED} & set(files):
            raise BadInputError(f"{names.MANIFEST} and {names.REFRESHED} are written from the manifest that was given")
        for component, version in manifest.components.items():
            self.read_component(component, version)
        written = {**files, names.MANIFEST: manifest.model_dump_json(indent=1).encode()}
        if manifest.refreshed_from is not None:
            written[names.REFRESHED] = json.dumps({"refreshed_from": manifest.refreshed_from}).encode()
        self._releases.write(manifest.version, written, may_differ=_DESCRIPTION)
        return manifest.version

    def versions(self) -> list[str]:
        """Return the ids of the complete releases, oldest first."""
        return self._releases.all()

    def release(self, version: str) -> ReleaseManifest:
        """Return a release's manifest; raises NotFoundError, IntegrityError."""
        body = self._releases.read_file(version, names.MANIFEST)
        try:
            manifest = ReleaseManifest.model_validate_json(body)
        except ValidationError as error:
            raise IntegrityError(f"the manifest of release {version} cannot be read by this version of twinloop") from (
                error
            )
        if manifest.system != self.system or manifest.version != version:
            raise IntegrityError(f"the manifest of release {version} speaks of {manifest.system} {manifest.version}")
        return manifest

    def release_file(self, version: str, name: str) -> bytes:
        """Return one of the files that describe a release: metrics.json, card.html."""
        return self._releases.read_file(version, name)

    def read_release(self, version: str) -> dict[str, dict[str, bytes]]:
        """Return all components of a release as {component: {file: content}}, verified."""
        return self.read_components(self.release(version).components)

    def alias(self, name: str) -> AliasState | None:
        """Return where an alias points, or None where it points nowhere."""
        return self._aliases.state(name)

    def champion_component(self) -> tuple[str, str]:
        """Return the champion's rung and the prefix of its files, for a job that goes on from there.

        Raises:
            NotFoundError: There is no champion.
            BadInputError: It consists of several components, of which no job goes on from all.
        """
        state = self.alias("champion")
        if state is None:
            raise NotFoundError(f"{self.system} has no champion to go on from; learn from everything first")
        manifest = self.release(state.version)
        if len(manifest.components) > 1:
            raise BadInputError(
                f"the champion {state.version} has the components {', '.join(sorted(manifest.components))}; learning "
                "goes on from releases of one"
            )
        [(component, version)] = manifest.components.items()
        return manifest.rung, f"{names.model_root(self.system, component)}versions/{names.check_version(version)}/"

    def move_alias(
        self,
        name: str,
        to: str | None,
        *,
        why: str,
        by: str,
        expected: str | Unset | None = UNSET,
        keep_previous: bool = False,
    ) -> Move:
        """Point an alias to a whole release (or, for challenger and shadow, nowhere) by compare-and-swap.

        Args:
            name: champion, challenger or shadow.
            to: The release's version.
            why: In words, for the history.
            by: Who moves it.
            expected: The version (None: nowhere) the alias must point to now; by default wherever it does.
            keep_previous: Whether `previous` stays where it is, if it is anywhere, when the champion moves.

        Raises:
            NotFoundError, IntegrityError: The release or one of its components is not whole.
            ConflictError: Somebody else moved it first; the message says who, where to and why.
        """
        if to is not None:
            self._require_whole(to)
        elif name == "champion":
            raise BadInputError("the champion cannot be taken away; promote another release")
        return self._aliases.move(name, to, why=why, by=by, expected=expected, keep_previous=keep_previous)

    def move_previous(self, to: str, *, why: str, by: str, expected: str) -> Move:
        """Point `previous` from the version that is expected to another whole release; the champion stays.

        Raises:
            NotFoundError, IntegrityError: The release or one of its components is not whole.
            BadInputError: It is the champion.
            ConflictError: `previous` is no longer where it was expected; the message says who moved it.
        """
        self._require_whole(to)
        return self._aliases.move_previous(to, why=why, by=by, expected=expected)

    def promote(self, version: str, *, why: str, by: str, expected: str | Unset | None = UNSET) -> Move:
        """Make a release the champion and the old champion `previous`, in one atomic move."""
        return self.move_alias("champion", version, why=why, by=by, expected=expected)

    def rollback(self, *, why: str, by: str, expected: str | Unset | None = UNSET) -> Move:
        """Make `previous` the champion again, and the champion `previous`; twice is back where it began."""
        return self._aliases.move("champion", self._rollback_target, why=why, by=by, expected=expected)

    def history(self, limit: int | None = None) -> list[Move]:
        """Return who moved which alias when, where to and why, oldest first; the latest `limit` moves."""
        return self._aliases.history(limit)

    def _rollback_target(self, latest: Move | None) -> str:
        if latest is None:
            raise NotFoundError(f"{self.system} has no champion yet; there is nothing to roll back")
        if latest.before is None:
            raise NotFoundError(f"{latest.version} is the first champion of {self.system}; there is none before it")
        self._require_whole(latest.before)
        return latest.before

    def _require_whole(self, version: str) -> None:
        """Read every byte of a release: what is pointed at must be servable at that moment."""
        self.read_release(version)

    def _component(self, component: str) -> Versions:
        return Versions(self._store, self.system, names.check_component(component), self._clock)
