"""Text in blocks of whole records, in bounded memory whatever a line's length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinloop.ingest.limits import Limits

_BOM = b"\xef\xbb\xbf"
_KEPT = 1000  # bytes of an overlong line that its rejection shows
_FEW = 32  # lines that are not worth splitting again
_LINE_END = ord("\n")


@dataclass(frozen=True)
class Block:
    """Whole records, the last perhaps without its line end, and the number of the first one's line."""

    line: int
    data: bytes


@dataclass(frozen=True)
class Overlong:
    """A line that was skipped for its length, and its beginning."""

    line: int
    head: bytes
    size: int


def blocks(chunks: Iterable[bytes], limits: Limits, *, quoted: bool = False) -> Iterator[Block | Overlong]:
    """Cut a stream at line ends into blocks of about `limits.block_bytes`.

    With `quoted` a line end inside double quotes does not end a record, as in CSV. A quote that is not closed within
    the line limit does not hold lines together, so that it costs its own line and not the file.
    """
    line, held = 1, bytearray()
    skipped: tuple[bytes, int] | None = None  # beginning and size of the overlong line that we are in
    first = True
    for chunk in chunks:
        data = chunk.removeprefix(_BOM) if first else chunk
        first = False
        if skipped is not None:
            end = data.find(b"\n")
            skipped = (skipped[0], skipped[1] + (len(data) if end < 0 else end))
            if end < 0:
                continue
            yield Overlong(line, *skipped)
            line, skipped, data = line + 1, None, data[end + 1 :]
        held += data
        start_of_last = held.rfind(b"\n") + 1
        if len(held) < limits.block_bytes and len(held) - start_of_last <= limits.line_bytes:
            continue
        whole = bytes(held)
        cut = _cut(whole, limits.line_bytes) if quoted else start_of_last
        if cut:
            block = Block(line, whole[:cut])
            yield block
            line += count_ends(block.data)
            del held[:cut]
        if len(held) - (start_of_last - cut) > limits.line_bytes and start_of_last == cut:
            skipped, held = (bytes(held[:_KEPT]), len(held)), bytearray()
    if skipped is not None:
        yield Overlong(line, *skipped)
    elif held:
        yield Block(line, bytes(held))


def has_overlong(data: bytes, limit: int) -> bool:
    """Return whether any line of a block is over the limit."""
    at = 0
    while len(data) - at > limit:
        end = data.rfind(b"\n", at, at + limit + 1)
        if end < 0:
            return True
        at = end + 1
    return False


def has_deep(data: bytes, depth: int) -> bool:
    """Return whether a line of a block of JSON opens more objects and lists than `depth`, and so may nest deeper.

    Arrow's parser has no limit of its own: a line of a hundred thousand open braces ends the process.
    """
    text = np.frombuffer(data, np.uint8)
    opening = (text == ord("{")) | (text == ord("["))
    ends = text == _LINE_END
    opened = np.count_nonzero(opening) - np.count_nonzero(ends[:-1] & opening[1:])
    if opened <= depth:  # every other line opens the one that it begins with
        return False
    places = np.flatnonzero(opening)
    cuts = np.append(np.flatnonzero(ends), len(data))
    return bool(np.diff(np.searchsorted(places, cuts), prepend=0).max() > depth)


def count_ends(data: bytes) -> int:
    """Return how many line ends there are. bytes.count is slower, and holds the other threads up."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == _LINE_END))


def ends_of(data: bytes) -> NDArray[np.int64]:
    """Return where each line ends, the last one perhaps with the block."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _LINE_END)
    return ends if data.endswith(b"\n") else np.append(ends, len(data))


def halves(block: Block, *, quoted: bool = False) -> tuple[Block, Block] | None:
    """Cut a block at a line end near its middle; None where it is too small, or an open quote (`quoted`) is cut."""
    data = block.data
    middle = data.find(b"\n", len(data) // 2) + 1
    first, second = data[:middle], data[middle:]
    if not first or not second or count_ends(data) <= _FEW or (quoted and first.count(b'"') % 2):
        return None
    return Block(block.line, first), Block(block.line + count_ends(first), second)


def _cut(data: bytes, limit: int) -> int:
    """Return where the last whole record ends: after a line end that no open quote precedes."""
    last = data.rfind(b"\n") + 1
    if not data.count(b'"', 0, last) % 2:
        return last
    at, odd = last, True
    while odd and last - at <= limit:
        earlier = data.rfind(b"\n", 0, at - 1) + 1
        odd = odd != bool(data.count(b'"', earlier, at) % 2)
        at = earlier
        if at == 0:
            break
    return at if not odd and at else last
