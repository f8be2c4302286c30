"""How much memory a worker holds."""

from __future__ import annotations

from pathlib import Path


def descendants(pid: int) -> list[int]:
    """All processes below one, parents first. What is gone meanwhile is left out."""
    found, new = [], [pid]
    while new:
        children = [child for parent in new for child in _children(parent)]
        found += children
        new = children
    return found


def held_bytes(pids: list[int], enough: int) -> int:
    """Memory of the processes that cannot be given back: pages of their own and shared ones, without mapped files.

    Pages that several of the processes share, as after a fork, count once where the sum is above `enough`: to tell them
    takes a walk over all pages, too much to do at each look.
    """
    held = sum(_held(pid) for pid in pids)
    return held if held <= enough else min(held, sum(_share(pid) for pid in pids))


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []


def _held(pid: int) -> int:
    return _sum(pid, "status", ("RssAnon:", "RssShmem:")) or 0


def _share(pid: int) -> int:
    """Its pages, each divided by the number of processes that have it; all of them where we may not see that."""
    share = _sum(pid, "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))
    return _held(pid) if share is None else share


def _sum(pid: int, file: str, fields: tuple[str, ...]) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(fields)]
    return sum(found) if found else None
