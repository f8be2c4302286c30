"""Objects by key, with the two conditional writes that registries need."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from twinloop.errors import AlreadyExistsError, ConflictError, NotFoundError


@dataclass(frozen=True)
class StoredObject:
    """One object as read: its bytes and the ETag that a compare-and-swap write must present."""

    key: str
    body: bytes
    etag: str


class ObjectStore(Protocol):
    """A bucket. Keys are `/`-separated; implementations are safe to share between threads."""

    def read(self, key: str) -> StoredObject:
        """Return the object; raises NotFoundError."""
        ...

    def write(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> str:
        """Write or overwrite; returns the new ETag."""
        ...

    def write_new(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> str:
        """Write only where nothing is yet; raises AlreadyExistsError. Returns the ETag."""
        ...

    def replace(self, key: str, body: bytes, *, etag: str, content_type: str = "application/octet-stream") -> str:
        """Write only while the object's ETag is still `etag`; raises ConflictError. Returns the new ETag."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, in ascending order."""
        ...

    def delete(self, key: str) -> None:
        """Delete; no error where nothing was."""
        ...


class MemoryObjectStore:
    """ObjectStore in a dict, for tests and for jobs that run on a folder."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self, key: str) -> StoredObject:
        with self._lock:
            if key not in self._objects:
                raise NotFoundError(f"no object at {key!r}")
            body = self._objects[key]
        return StoredObject(key, body, _etag(body))

    def write(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> str:
        del content_type
        with self._lock:
            self._objects[key] = body
        return _etag(body)

    def write_new(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> str:
        del content_type
        with self._lock:
            if key in self._objects:
                raise AlreadyExistsError(f"{key!r} is written once and is there already")
            self._objects[key] = body
        return _etag(body)

    def replace(self, key: str, body: bytes, *, etag: str, content_type: str = "application/octet-stream") -> str:
        del content_type
        with self._lock:
            current = self._objects.get(key)
            if current is None or _etag(current) != etag:
                raise ConflictError(f"{key!r} was changed by somebody else; read it again and decide anew")
            self._objects[key] = body
        return _etag(body)

    def keys(self, prefix: str) -> Iterator[str]:
        with self._lock:
            found = sorted(key for key in self._objects if key.startswith(prefix))
        return iter(found)

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(key, None)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
