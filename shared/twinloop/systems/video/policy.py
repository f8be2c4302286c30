"""Video's rules over what the models say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twinloop.contracts.history import History


def shut(history: History, exclude: Iterable[str], index: Mapping[str, int]) -> list[int]:
    """Return the indices of items that must not be recommended: what the user has seen, and what was asked for.

    A recommendation is of something new. Ids that the model does not know cannot be returned anyway.
    """
    ids = dict.fromkeys(entry.item_id for entry in history) | dict.fromkeys(exclude)
    return [index[item_id] for item_id in ids if item_id in index]
