"""A job's hyperparameters: strings on the way in, typed and checked before any work is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from twinloop.contracts.model import Contract
from twinloop.errors import BadInputError

# The toolkit and the SDK send their own settings among the hyperparameters (sagemaker_program and others).
_TOOLKIT_PREFIX = "sagemaker_"


class JobConfig(Contract):
    """What every job can be told."""

    seed: int = Field(0, ge=0, description="Of everything random; the same seed and snapshot give the same model.")


def _split(value: object) -> object:
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Floats = Annotated[tuple[float, ...], BeforeValidator(_split), Field(min_length=1)]
"""Values to choose from on the validation split: `100,200,400`."""

ConfigT = TypeVar("ConfigT", bound=JobConfig)


def parse_hyperparameters(values: Mapping[str, str], model: type[ConfigT]) -> ConfigT:
    """Return the typed settings.

    Raises:
        BadInputError: A name is unknown (the message lists the known ones) or a value does not fit.
    """
    own = {name: _plain(value) for name, value in values.items() if not name.startswith(_TOOLKIT_PREFIX)}
    unknown = sorted(own.keys() - model.model_fields.keys())
    if unknown:
        known = ", ".join(sorted(model.model_fields))
        raise BadInputError(f"unknown hyperparameter {', '.join(unknown)}; this job knows: {known}")
    try:
        return model.model_validate(own)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"hyperparameter {where}={first['input']!r}: {first['msg']}") from error


def _plain(value: str) -> str:
    """Undo the SDK's habit of sending every string as JSON: '"adam"' is adam, '3' stays '3'."""
    try:
        decoded = json.loads(value)
    except (json.JSONDecodeError, TypeError):
        return value
    return decoded if isinstance(decoded, str) else value
