"""Aliases: mutable pointers to releases, moved only by compare-and-swap, and the history of their moves.

The object of an alias is the record of its latest move. So the object that decides a race also tells who won it, and
a mover that dies before it has written the history loses nothing: whoever comes next writes that entry from the
object. `previous` has no object of its own; it is where `champion` came from, or what a move says that it kept, and
therefore moves with it atomically. A move of `previous` alone is one of the champion to where it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

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

_ATTEMPTS = 5
_STAMP = "%Y%m%dT%H%M%S%fZ"

_Who = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000)]


class Unset(Enum):
    """No expectation: move from wherever the alias points now."""

    UNSET = "unset"


UNSET = Unset.UNSET


class Move(Contract):
    """One move of one alias. `sequence` counts the alias's moves from 1; `moved_at` never runs backwards."""

    alias: str
    sequence: int = Field(ge=1)
    version: str | None = Field(description="Where the alias points since; None: nowhere.")
    came_from: str | None
    kept: str | None = Field(None, description="Where `previous` points since; None: where the alias came from.")
    moved_at: datetime
    by: _Who
    why: _Why
    move_id: str

    @property
    def before(self) -> str | None:
        """Where `previous` points since, for a move of the champion."""
        return self.kept or self.came_from


@dataclass(frozen=True)
class AliasState:
    """Where an alias points, since when, and why."""

    version: str
    etag: str
    moved_at: datetime
    by: str
    why: str


class Aliases:
    """The aliases of one system's releases.

    Args:
        store: Where they lie.
        system: Of which system.
        clock: Now, with a time zone.
        new_id: A fresh unique id, one per attempted move.
    """

    def __init__(
        self, store: ObjectStore, system: str, clock: Callable[[], datetime], new_id: Callable[[], str]
    ) -> None:
        self._store = store
        self._root = names.model_root(system, names.RELEASE)
        self._clock = clock
        self._new_id = new_id

    def state(self, alias: str) -> AliasState | None:
        """Return where the alias points, or None where it points nowhere."""
        if names.check_alias(alias) == "previous":
            move, etag = self._latest("champion")
            version = move.before if move else None
        else:
            move, etag = self._latest(alias)
            version = move.version if move else None
        if move is None or version is None:
            return None
        return AliasState(version, etag, move.moved_at, move.by, move.why)

    def move(
        self,
        alias: str,
        to: str | Callable[[Move | None], str] | None,
        *,
        why: str,
        by: str,
        expected: str | Unset | None = UNSET,
        keep_previous: bool = False,
    ) -> Move:
        """Point the alias to a version, or nowhere, unless somebody else moves it first.

        Args:
            alias: champion, challenger or shadow.
            to: The version, None, or a function that chooses it from the latest move.
            why: In words, for the history.
            by: Who moves it.
            expected: The version (None: nowhere) it must point to now; by default wherever it does.
            keep_previous: Whether `previous` stays where it is, if it is anywhere.

        Returns:
            The move made, or the latest one where the alias pointed there already.

        Raises:
            BadInputError: The alias cannot be moved, or `why` or `by` is empty.
            ConflictError: The alias is not where it was expected, or another mover won; the message names the winner.
        """
        if names.check_alias(alias) == "previous":
            raise BadInputError("'previous' follows the champion by itself; promote or roll back instead")
        latest, etag = self._latest(alias)
        current = latest.version if latest else None
        if expected is not UNSET and current != expected:
            raise ConflictError(f"{alias} was expected at {expected or 'nothing'}. {_told(alias, latest)}")
        target = to(latest) if callable(to) else to
        if target == current:
            if latest is None:
                raise NotFoundError(f"{alias} points nowhere already")
            return latest
        kept = latest.before if keep_previous and latest else None
        return self._make(
            self._next(alias, latest, target, why, by, kept=None if kept == target else kept), latest, etag
        )

    def move_previous(self, to: str, *, why: str, by: str, expected: str) -> Move:
        """Point `previous` from the version that is expected to another one, and leave the champion where it is.

        Raises:
            BadInputError: The version is the champion, or `why` or `by` is empty.
            ConflictError: `previous` is not where it was expected, or another mover won; the message names the winner.
        """
        latest, etag = self._latest("champion")
        if latest is None or latest.before != expected:
            raise ConflictError(f"previous was expected at {expected}. {_told('champion', latest)}")
        if to == latest.version:
            raise BadInputError(f"{to} is the champion; 'previous' is what would serve in its place")
        if to == expected:
            return latest
        return self._make(self._next("champion", latest, latest.version, why, by, kept=to), latest, etag)

    def _make(self, move: Move, latest: Move | None, etag: str) -> Move:
        if latest:
            self._record(latest)
        self._swap(move, etag)
        # The move is made, whatever happens now; the next mover or reader finds it in the alias's own object.
        with contextlib.suppress(UnavailableError):
            self._record(move)
        return move

    def history(self, limit: int | None = None) -> list[Move]:
        """Return the moves of all aliases, oldest first; the latest `limit` of them."""
        # The aliases first: what moves while the entries are read is then missed whole, and leaves no gap.
        latest = [move for move, _ in map(self._latest, names.MOVABLE) if move]
        keys = list(self._store.keys(f"{self._root}history/"))
        moves = {(move.alias, move.sequence): move for move in map(self._parsed, keys[-limit:] if limit else keys)}
        moves |= {(move.alias, move.sequence): move for move in latest}
        ordered = sorted(moves.values(), key=lambda move: (move.moved_at, move.alias, move.sequence))
        return ordered[-limit:] if limit else ordered

    def pointed_at(self) -> set[str]:
        """Return every version that an alias names now."""
        return {state.version for alias in names.ALIASES if (state := self.state(alias))}

    def named_since(self, moment: datetime) -> set[str]:
        """Return every version that an alias named at that moment or has named since; `previous` is an alias, too."""
        # The aliases first: what moves while the entries are read is then missed whole, and leaves no gap.
        moves = [move for move, _ in map(self._latest, names.MOVABLE) if move]
        root, since = f"{self._root}history/", f"{moment.astimezone(UTC):{_STAMP}}"
        earlier: set[str] = set()
        for key in reversed(list(self._store.keys(root))):
            stamp, alias, _ = key[len(root) :].split("-")
            if alias not in earlier:
                moves.append(self._parsed(key))
            if stamp <= since:  # this move was the latest at that moment
                earlier.add(alias)
        named = {move.version for move in moves} | {move.before for move in moves if move.alias == "champion"}
        return {version for version in named if version is not None}

    def _latest(self, alias: str) -> tuple[Move | None, str]:
        key = self._key(alias)
        try:
            stored = self._store.read(key)
        except NotFoundError:
            return None, ""
        try:
            return Move.model_validate_json(stored.body), stored.etag
        except ValidationError as error:
            raise IntegrityError(f"{key} is not an alias; restore it from {self._root}history/") from error

    def _next(self, alias: str, latest: Move | None, to: str | None, why: str, by: str, *, kept: str | None) -> Move:
        now = self._clock().astimezone(UTC)
        try:
            return Move(
                alias=alias,
                sequence=latest.sequence + 1 if latest else 1,
                version=to,
                came_from=latest.version if latest else None,
                kept=kept,
                moved_at=max(now, latest.moved_at) if latest else now,
                by=by,
                why=why,
                move_id=self._new_id(),
            )
        except ValidationError as error:
            field = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise BadInputError(f"an alias is moved by somebody for a reason; {field}: it is empty or long") from error

    def _swap(self, move: Move, etag: str) -> None:
        """Write the move over the state with this ETag ('' for none); raises ConflictError naming the winner."""
        key, body = self._key(move.alias), move.model_dump_json().encode()
        for _ in range(_ATTEMPTS):
            try:
                if etag:
                    self._store.replace(key, body, etag=etag, content_type="application/json")
                else:
                    self._store.write_new(key, body, content_type="application/json")
                return
            except ConflictError as error:
                winner, winner_etag = self._latest(move.alias)
                if winner and winner.move_id == move.move_id:
                    return  # a client that sends a write again is refused by its own first try
                if winner_etag != etag:
                    raise ConflictError(f"Somebody else was first. {_told(move.alias, winner)}") from error
                # S3 refuses some writes that only overlap with another one: nothing has changed, so try again.
        raise UnavailableError(f"{key} is written too often at once; try again")

    def _record(self, move: Move) -> None:
        key = f"{self._root}history/{move.moved_at:{_STAMP}}-{move.alias}-{move.sequence:06d}.json"
        try:
            self._store.write_new(key, move.model_dump_json().encode(), content_type="application/json")
        except AlreadyExistsError:
            return

    def _parsed(self, key: str) -> Move:
        try:
            return Move.model_validate_json(self._store.read(key).body)
        except ValidationError as error:
            raise IntegrityError(f"{key} is not an entry of the history") from error

    def _key(self, alias: str) -> str:
        return f"{self._root}aliases/{alias}.json"


def _told(alias: str, move: Move | None) -> str:
    if move is None:
        return f"{alias} points nowhere."
    where = f"was moved to {move.version}" if move.version else "was taken away"
    return f"{alias} {where} by {move.by} at {move.moved_at:%Y-%m-%d %H:%M:%S} UTC: {move.why}"
