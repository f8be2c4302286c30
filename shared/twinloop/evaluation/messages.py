"""What the learning loop asks of the gate, and what the gate answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from twinloop.contracts.model import Contract
from twinloop.contracts.spec import SYSTEM_NAME
from twinloop.errors import BadInputError


class _Message(Contract):
    """A state machine may carry more along than we need."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RungResult(_Message):
    """How one rung's training ended: with a model's archive, or with a reason."""

    rung: str
    status: Literal["Completed", "Failed"]
    model_key: str | None = Field(None, pattern=r"^jobs/[A-Za-z0-9._/-]+$", description="Of model.tar.gz.")
    reason: str | None = None
    seconds: float | None = Field(None, ge=0, description="Of the job.")


class LeftOut(_Message):
    """A rung that was not trained, and why."""

    rung: str
    reason: str


class JudgeRequest(_Message):
    """Judge what was trained on one snapshot, and register it."""

    action: Literal["judge"] = "judge"
    system: str
    snapshot_key: str = Field(pattern=rf"^snapshots/{SYSTEM_NAME}/[A-Za-z0-9_-]+/$")
    results: tuple[RungResult, ...]
    left_out: tuple[LeftOut, ...] = Field((), description="Rungs for which the snapshot lacks what they need.")


class PromoteRequest(_Message):
    """Make a judged release the champion.

    `champion` is the version it was judged against (null: none). Where it is given and somebody has moved the champion
    since, the promotion is refused: the verdict does not speak of the release that serves now.
    """

    action: Literal["promote"]
    system: str
    version: str
    why: str
    by: str = "gate"
    champion: str | None = None


class JudgeAnswer(_Message):
    """The verdict. `version` is the release that serves from now on, `champion` the one that served until now."""

    promote: bool
    version: str | None
    rung: str | None
    verdict: str
    report_key: str
    champion: str | None


class PromoteAnswer(_Message):
    """Where the champion is now and where it came from."""

    version: str
    previous: str | None


_REQUEST: TypeAdapter[JudgeRequest | PromoteRequest] = TypeAdapter(
    Annotated[JudgeRequest | PromoteRequest, Field(discriminator="action")]
)


def parse(event: Mapping[str, Any]) -> JudgeRequest | PromoteRequest:
    """Return the request in a Lambda event, one to judge where it names no action; raises BadInputError."""
    try:
        return _REQUEST.validate_python({"action": "judge", **event})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the event"
        raise BadInputError(f"the gate cannot read {where}: {first['msg']}") from error
