"""One error root. Every message says what happened and what the reader can do about it."""

from __future__ import annotations


class TwinloopError(Exception):
    """Root of every error that twinloop raises on purpose."""


class BadInputError(TwinloopError):
    """The caller's data or request is wrong; sending it again unchanged cannot help. HTTP 400, quarantine for rows."""


class TooLargeError(BadInputError):
    """The input is well formed but over a documented limit. HTTP 413."""


class NotFoundError(TwinloopError):
    """The named thing does not exist. HTTP 404."""


class ConflictError(TwinloopError):
    """Somebody else changed the thing first; read it again and decide anew. HTTP 409."""


class AlreadyExistsError(ConflictError):
    """A thing that is written once is there already."""


class IntegrityError(TwinloopError):
    """Bytes do not match their checksum or schema; the artefact must not be used."""


class UnavailableError(TwinloopError):
    """A dependency did not answer; trying again later can help. HTTP 503, retry for queues."""
