"""Which preset of a system's policy answers a request, and with which probability it came to that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twinloop.contracts.api import FieldFault
from twinloop.serving.problems import InvalidRequestError
from twinloop.serving.routing import bucket


class Chosen(NamedTuple):
    """A preset. `drawn`: the policy chose it with that propensity; otherwise the caller did."""

    name: str | None
    propensity: float
    drawn: bool


def choose(presets: Sequence[str], wanted: str | None, seed: str, mix: float) -> Chosen:
    """Return the preset that was asked for, or the first one, or for a share of the requests any of them.

    Args:
        presets: Names, the default first.
        wanted: What the request names; never changed.
        seed: Equal seeds choose equally; empty leaves nothing to chance.
        mix: Share of the requests without a wish that get one of all presets, each as likely.

    Raises:
        InvalidRequestError: There is no such preset.
    """
    if wanted is not None and wanted not in presets:
        known = f"not one of {', '.join(presets)}" if presets else "not known: this system has no presets"
        raise InvalidRequestError([FieldFault(field="preset", reason=f"is {known}")])
    default = presets[0] if presets else None
    if wanted is not None or default is None or not seed:
        return Chosen(wanted or default, 1.0, drawn=False)
    each = mix / len(presets)
    place = bucket(seed, "preset")
    name = presets[min(int(place / each), len(presets) - 1)] if place < mix else default
    return Chosen(name, each + (1 - mix if name == default else 0.0), drawn=True)
