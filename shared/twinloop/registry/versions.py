"""Versions of one model: sets of files that are written once and verified whenever they are read.

A version exists when its `checksums.json` does, and that is written last. A writer that dies half way leaves files
that nobody sees, and the next writer of the same content finishes them under the same version id: content claims its
id, once, in `contents/<hash>.json`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from pydantic import ValidationError

from twinloop.contracts.artefacts import FileEntry
from twinloop.contracts.model import Contract
from twinloop.errors import (
    AlreadyExistsError,
    BadInputError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from twinloop.ports import ObjectStore
from twinloop.registry import names
from twinloop.registry.parallel import all_at_once

_ATTEMPTS = 5


class Checksums(Contract):
    """What a version consists of."""

    files: tuple[FileEntry, ...]


class _Claim(Contract):
    version: str


class Versions:
    """The versions under one prefix of the registry.

    Args:
        store: Where they lie.
        system: Of which system.
        model: A component's name, or `release`.
        clock: Gives the moment that becomes part of a new version's id.
    """

    def __init__(self, store: ObjectStore, system: str, model: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._model = model
        self._root = names.model_root(system, model)
        self._clock = clock

    def claim(self, content: bytes) -> str:
        """Return the version id of this content: always the same one, whoever asks and however often."""
        digest = hashlib.sha256(content).hexdigest()
        key = f"{self._root}contents/{digest}.json"
        mine = _Claim(version=names.new_version(self._clock(), digest))
        stored = self._write_once(key, mine.model_dump_json().encode())
        try:
            return names.check_version(_Claim.model_validate_json(stored).version)
        except (ValidationError, BadInputError) as error:
            raise IntegrityError(f"{key} does not name a version; delete it and register again") from error

    def write(self, version: str, files: Mapping[str, bytes], *, may_differ: frozenset[str] = frozenset()) -> None:
        """Write the files of a claimed version; harmless where it is complete already.

        Args:
            version: As claimed.
            files: Name -> content.
            may_differ: Files that describe the content and are not part of it. Where an earlier writer has left one,
                the earlier one stays.

        Raises:
            BadInputError: A name cannot be a file's.
            ConflictError: Another content stands under this version.
        """
        prefix = self._prefix(version)
        entries = []
        for name, body in sorted(files.items()):
            key = prefix + names.check_file(name)
            stored = self._write_once(key, body)
            if stored != body and name not in may_differ:
                raise ConflictError(f"{key} is there already with another content; it cannot be written again")
            entries.append(_entry(name, stored))
        self._write_once(prefix + names.CHECKSUMS, Checksums(files=tuple(entries)).model_dump_json().encode())

    def read(self, version: str, *, leave_out: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Return the version's files but those whose names end so, each verified.

        Raises:
            NotFoundError: There is no such version, or it was never finished.
            IntegrityError: A file is gone, or its bytes are not those that were registered.
        """
        prefix = self._prefix(version)
        entries = [entry for entry in self._checksums(version).files if not entry.path.endswith(leave_out)]
        return all_at_once({entry.path: partial(self._read_file, prefix, entry) for entry in entries})

    def read_sound(self, version: str, *, leave_out: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Return those of the version's files that are what was registered; raises as `read` where none can be told."""
        prefix = self._prefix(version)
        sound: dict[str, bytes] = {}
        for entry in self._checksums(version).files:
            if entry.path.endswith(leave_out):
                continue
            with contextlib.suppress(IntegrityError):
                sound[entry.path] = self._read_file(prefix, entry)
        return sound

    def read_file(self, version: str, name: str) -> bytes:
        """Return one verified file of a version; raises as `read`, and NotFoundError where it has no such file."""
        for entry in self._checksums(version).files:
            if entry.path == name:
                return self._read_file(self._prefix(version), entry)
        raise NotFoundError(f"{self._model} {version} has no file {name!r}")

    def all(self) -> list[str]:
        """Return the ids of the complete versions, oldest first."""
        root = f"{self._root}versions/"
        keys = self._store.keys(root)
        return sorted(key[len(root) :].split("/")[0] for key in keys if key.endswith("/" + names.CHECKSUMS))

    def listed(self) -> dict[str, frozenset[str]]:
        """Return all versions with the names of the files that are there, also those that are not complete."""
        root = f"{self._root}versions/"
        found: dict[str, set[str]] = {}
        for key in self._store.keys(root):
            version, _, name = key[len(root) :].partition("/")
            if names.is_version(version):
                found.setdefault(version, set()).add(name)
        return {version: frozenset(files) for version, files in found.items()}

    def unfinish(self, version: str) -> None:
        """Make a version one that was never finished: nobody sees it any more, and its files are still there."""
        self._store.delete(self._prefix(version) + names.CHECKSUMS)

    def discard(self, version: str, *, last: tuple[str, ...] = ()) -> None:
        """Delete a version: what makes it complete first, some files last; harmless where it is gone already.

        The same content registered again is written anew, under the same id.
        """
        self.unfinish(version)
        prefix = self._prefix(version)
        there = [key[len(prefix) :] for key in self._store.keys(prefix)]
        for name in sorted(there, key=lambda name: (last.index(name) if name in last else -1, name)):
            self._store.delete(prefix + name)

    def _write_once(self, key: str, body: bytes) -> bytes:
        """Write where nothing is yet, and return what is there afterwards."""
        for _ in range(_ATTEMPTS):
            try:
                self._store.write_new(key, body, content_type=_content_type(key))
                return body
            except AlreadyExistsError:
                # S3 also refuses a write that overlaps with another one which then fails: nothing is there, try again.
                with contextlib.suppress(NotFoundError):
                    return self._store.read(key).body
        raise UnavailableError(f"{key} can be neither written nor read; try again")

    def _prefix(self, version: str) -> str:
        return f"{self._root}versions/{names.check_version(version)}/"

    def _checksums(self, version: str) -> Checksums:
        key = self._prefix(version) + names.CHECKSUMS
        try:
            checksums = Checksums.model_validate_json(self._store.read(key).body)
            for entry in checksums.files:
                names.check_file(entry.path)
        except NotFoundError as error:
            told = f"there is no complete version {version} of {self._model}"
            if self._claimed(version):
                told += ": it was never finished, or a refresh made it and it was discarded since"
            raise NotFoundError(told) from error
        except ValidationError as error:
            raise IntegrityError(f"{key} cannot be read; the version must not be used") from error
        return checksums

    def _claimed(self, version: str) -> bool:
        """Return whether the id was given to a content once; False where that cannot be told now."""
        root = f"{self._root}contents/{version.partition('-')[2]}"
        with contextlib.suppress(NotFoundError, ValidationError, UnavailableError):
            claims = (_Claim.model_validate_json(self._store.read(key).body) for key in self._store.keys(root))
            return any(claim.version == version for claim in claims)
        return False

    def _read_file(self, prefix: str, entry: FileEntry) -> bytes:
        key = prefix + entry.path
        try:
            body = self._store.read(key).body
        except NotFoundError as error:
            raise IntegrityError(f"{key} was registered and is gone; the version must not be used") from error
        if len(body) != entry.bytes or hashlib.sha256(body).hexdigest() != entry.sha256:
            raise IntegrityError(f"{key} is not what was registered (checksum differs); the version must not be used")
        return body


def content_of(files: Mapping[str, bytes]) -> bytes:
    """Return what identifies a set of files: their names and checksums, in a canonical form."""
    return json.dumps({name: hashlib.sha256(body).hexdigest() for name, body in files.items()}, sort_keys=True).encode()


def _entry(name: str, body: bytes) -> FileEntry:
    return FileEntry(path=name, sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))


def _content_type(name: str) -> str:
    kinds = {".json": "application/json", ".html": "text/html; charset=utf-8", ".gz": "application/gzip"}
    return next((kind for ending, kind in kinds.items() if name.endswith(ending)), "application/octet-stream")
