"""Work on many entities, in chunks that memory holds."""

from __future__ import annotations

import duckdb

# A chunk of users holds about this many events and elements of their lists; it bounds the memory, not the result.
_CHUNK_ENTRIES = 5_000_000


def ranges_of_ids(sizes: duckdb.DuckDBPyConnection, most: int) -> list[tuple[str, str]]:
    """Return ranges of ids, first and last, in order, that together are all ids.

    Args:
        sizes: A query's result, (id, size) in the order of ids.
        most: What the sizes of a range add up to, about: the id that reaches it is the range's last.
    """
    ranges: list[tuple[str, str]] = []
    first, last, filled = None, "", 0
    while rows := sizes.fetchmany(100_000):
        for entity_id, size in rows:
            first = entity_id if first is None else first
            last, filled = entity_id, filled + size
            if filled >= most:
                ranges.append((first, last))
                first, filled = None, 0
    if first is not None:
        ranges.append((first, last))
    return ranges


def user_chunks(
    connection: duckdb.DuckDBPyConnection, *, list_length: int = 0, entries: int | None = None
) -> list[tuple[str, str]]:
    """Ranges of user ids, first and last, in order, that together are all users.

    Args:
        connection: With the table `events`.
        list_length: Elements of the lists that every event will carry.
        entries: About how many a chunk holds; by default what suits Arrow.
    """
    most = entries or _CHUNK_ENTRIES
    users = connection.execute(
        "SELECT user_id, count(*) * (1 + least(count(*), ?)) FROM events GROUP BY user_id ORDER BY user_id",
        [list_length],
    )
    return ranges_of_ids(users, most)
