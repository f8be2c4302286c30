"""How much of a raw object is read before it counts as hostile or broken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one raw object; the defaults fit a function of 2 GB memory and 4 GB of disk.

    Attributes:
        line_bytes: A longer line is skipped while streaming and quarantined by its beginning.
        block_bytes: How much text is parsed at once.
        decompressed_bytes: A compressed object that grows past this is refused whole.
        ratio: So is one that grows past this many times its size, once it is over `ratio_from_bytes`.
        spool_bytes: A Parquet file is read from disk, and may be this big.
        buffer_bytes: Typed rows held in memory before they go to disk by date.
        part_rows: Rows of one Parquet file in the lake.
    """

    line_bytes: int = 1_000_000
    block_bytes: int = 4_000_000
    decompressed_bytes: int = 30_000_000_000
    ratio: int = 200
    ratio_from_bytes: int = 64_000_000
    spool_bytes: int = 2_000_000_000
    buffer_bytes: int = 128_000_000
    part_rows: int = 500_000


DEFAULTS = Limits()
