"""A raw object's bytes: bounded decompression of a stream that may lie about its size or break off."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from twinloop.ingest.limits import Limits

GZIP = b"\x1f\x8b"
_CHUNK = 1_000_000


class Stream(Protocol):
    """Bytes that are read once, forward. Raises UnavailableError where the connection to them breaks."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, nothing at the end."""
        ...


@dataclass(frozen=True)
class RawObject:
    """One version of a raw object: where it is, which version, when it was written, and its bytes."""

    key: str
    etag: str
    modified: datetime
    size: int
    stream: Stream


class Content:
    """The decompressed bytes of a raw object, chunk by chunk; whether it is gzip is told by its first bytes.

    After the chunks ran out, `broken` is the reason why the rest was not decompressed, or None.
    """

    def __init__(self, raw: RawObject, limits: Limits) -> None:
        self._raw, self._limits = raw, limits
        self.broken: str | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the content; of what grows out of all proportion, as much as is in proportion."""
        head = self._raw.stream.read(_CHUNK)
        yield from self._gunzip(head) if head[:2] == GZIP else self._plain(head)

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield data
            data = self._raw.stream.read(_CHUNK)

    def _gunzip(self, data: bytes) -> Iterator[bytes]:
        inflater, inside, produced, consumed = zlib.decompressobj(31), False, 0, 0
        while data:
            consumed += len(data)
            while data:
                inside = True
                try:
                    out = inflater.decompress(data, _CHUNK)
                except zlib.error as error:
                    self.broken = f"the gzip data is damaged after {produced} bytes of text ({error})"
                    return
                produced += len(out)
                self.broken = self._bomb(produced, consumed)
                if self.broken:
                    return
                if out:
                    yield out
                data = inflater.unconsumed_tail
                if inflater.eof:  # logs are often several gzip members in a row, and may be padded with zeros
                    data = inflater.unused_data.lstrip(b"\0")
                    inflater, inside = zlib.decompressobj(31), False
            data = self._raw.stream.read(_CHUNK)
            data = data if inside else data.lstrip(b"\0")
        if inside:
            self.broken = f"the gzip data ends too early, after {produced} bytes of text"

    def _bomb(self, produced: int, consumed: int) -> str | None:
        limits = self._limits
        if produced > limits.decompressed_bytes:
            return f"decompressed, the file is over {limits.decompressed_bytes} bytes; split it into smaller files"
        if produced > limits.ratio_from_bytes and produced > limits.ratio * consumed:
            return (
                f"the file decompresses to more than {limits.ratio} times its size, as a zip bomb does; "
                "deliver it uncompressed if it is real"
            )
        return None
