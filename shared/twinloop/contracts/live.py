"""What came in lately says how far off a release's probabilities are: offsets of its log-odds, by release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints

from twinloop.contracts.model import Contract
from twinloop.contracts.segments import segment_value

FARTHEST = 1.5
"""Logits by which a release is corrected at most: odds of 4.5 times. What is further off has another fault."""
LIVES_FOR = timedelta(hours=6)
MOST_VERSIONS, MOST_FACTS, MOST_VALUES = 20, 20, 100

_Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# One of them may take back what another, or the overall one, gives.
_Part = Annotated[float, Field(ge=-2 * FARTHEST, le=2 * FARTHEST)]


@dataclass(frozen=True)
class LiveSettings:
    """How a system's probabilities are kept right while a release serves.

    A ridge of k rows believes in no offset as firmly as k showings of average information would.

    Attributes:
        label: Of `Predictions.chances`: what is calibrated.
        logged: Field of the prediction log: what the release itself said, one probability for each of `items`, without
            any offset. `items` are lists that begin with the item's id.
        facts: Of a request's context: each of their values has an offset of its own, beside the overall one.
        window_hours: How far back showings are looked at, from the latest whose outcome is known.
        ridge: Of the overall offset, in rows.
        ridge_of_value: Of a value's offset, in rows.
        most: Showings of a release that are looked at, the latest.
        minimum: Outcomes of either kind without which there is no offset: of the release, and of a value.
    """

    label: str
    logged: str
    facts: tuple[str, ...] = ()
    window_hours: float = 24.0
    ridge: float = 200.0
    ridge_of_value: float = 200.0
    most: int = 500_000
    minimum: int = 20

    def __post_init__(self) -> None:
        """Raises ValueError where a number makes no sense."""
        if len(self.facts) > MOST_FACTS:
            raise ValueError(f"{len(self.facts)} facts are more than {MOST_FACTS}")
        if min(self.window_hours, self.ridge, self.ridge_of_value, self.most, self.minimum) <= 0:
            raise ValueError("window, ridges, the most rows and the minimum are all over 0")

    @property
    def window_ms(self) -> int:
        """The window in whole milliseconds."""
        return round(self.window_hours * 3_600_000)


class LiveOffsets(Contract):
    """How far off one release was, by the showings of a while. Offsets are in logits, to be added to its log-odds."""

    since: AwareDatetime = Field(description="The first showing.")
    until: AwareDatetime = Field(description="The last one.")
    rows: int = Field(ge=0, description="Showings.")
    positives: int = Field(ge=0, description="Of these, those that the label came of.")
    expected: float = Field(ge=0, description="As many as the release itself expected.")
    offset: float = Field(0.0, ge=-FARTHEST, le=FARTHEST, description="Overall.")
    by: dict[_Name, Annotated[dict[_Name, _Part], Field(max_length=MOST_VALUES)]] = Field(
        default_factory=dict, max_length=MOST_FACTS, description="Fact of the context -> value -> what is added to it."
    )

    def of(self, context: Mapping[str, Any]) -> float:
        """Return the offset of a request: the overall one, and that of each value that is known; never too much."""
        total = self.offset
        for fact, values in self.by.items():
            value = segment_value(context.get(fact))
            if value is not None:
                total += values.get(value, 0.0)
        return max(-FARTHEST, min(FARTHEST, total))


class LiveCalibration(Contract):
    """The object `live/<system>/calibration.json`."""

    system: str
    label: str
    made_at: AwareDatetime
    versions: dict[_Name, LiveOffsets] = Field(max_length=MOST_VERSIONS, description="By release.")

    def fresh(self, at: datetime) -> bool:
        """Return whether it may be used: nobody knows what holds hours after it was made, nor before."""
        return -LIVES_FOR <= at - self.made_at <= LIVES_FOR

    def offsets(self, version: str, at: datetime) -> LiveOffsets | None:
        """Return those of a release; None where there are none that may be used at this moment."""
        return self.versions.get(version) if self.fresh(at) else None


def live_key(system: str) -> str:
    """Return where a system's live calibration is."""
    return f"live/{system}/calibration.json"
