"""Which arm a user is in: the same one every time, in every process, without a memory."""

from __future__ import annotations

import hashlib


def bucket(user_id: str, experiment: str) -> float:
    """Return the user's place in [0, 1) for one experiment; places in two experiments are independent."""
    digest = hashlib.sha256(f"{experiment}\0{user_id}".encode("utf-8", errors="surrogatepass")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def in_challenger(user_id: str, challenger: str, share: float) -> bool:
    """Say whether the user sees the challenger, which gets `share` of all users.

    `challenger`: the version that learning made of its models, so that users stay when its items are refreshed.
    """
    return bucket(user_id, challenger) < share
