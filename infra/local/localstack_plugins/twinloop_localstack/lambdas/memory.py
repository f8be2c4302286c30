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


def held_bytes(pids: list[int]) -> int:
    """Memory of the processes that cannot be given back: pages of their own and shared ones, without mapped files."""
    return sum(_held(pid) for pid in pids)


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []


def _held(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
