"""The composition root of serving: the app on S3, DynamoDB and Firehose, for a Lambda and for a container alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twinloop.aws.clients import quick_client
from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.aws.firehose import FirehoseStream
from twinloop.aws.objects import S3ObjectStore
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.ports import Log
from twinloop.serving.app import App
from twinloop.serving.service import make_app

# What DynamoDB was too busy for is asked for once more: then there are defaults, which are worth more than an answer
# that comes too late.
_READ_ATTEMPTS = 2


@dataclass(frozen=True)
class ServeSettings:
    """What the environment says. Without a table everybody gets popular items; without a stream nothing is logged."""

    system: str
    bucket: str
    table: str | None = None
    prediction_stream: str | None = None
    challenger_share: float = 0.1
    preset_mix: float = 0.0
    explore: bool = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> ServeSettings:
        """Read TWINLOOP_SYSTEM, _BUCKET, _TABLE, _PREDICTION_STREAM, and how much is left to chance.

        That is TWINLOOP_CHALLENGER_SHARE and TWINLOOP_PRESET_MIX (shares), and TWINLOOP_EXPLORE (0 or 1).
        Raises BadInputError.
        """
        missing = [name for name in ("TWINLOOP_SYSTEM", "TWINLOOP_BUCKET") if not environ.get(name)]
        if missing:
            raise BadInputError(f"set {' and '.join(missing)}: which system to serve, and the bucket of its registry")
        explore = environ.get("TWINLOOP_EXPLORE") or "1"
        if explore not in ("0", "1"):
            raise BadInputError(f"TWINLOOP_EXPLORE is 0 or 1, not {explore!r}")
        return cls(
            environ["TWINLOOP_SYSTEM"],
            environ["TWINLOOP_BUCKET"],
            environ.get("TWINLOOP_TABLE") or None,
            environ.get("TWINLOOP_PREDICTION_STREAM") or None,
            _share(environ, "TWINLOOP_CHALLENGER_SHARE", 0.1),
            _share(environ, "TWINLOOP_PRESET_MIX", 0.0),
            explore == "1",
        )


def _share(environ: Mapping[str, str], name: str, default: float) -> float:
    given = environ.get(name) or str(default)
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise BadInputError(f"{name} is a share between 0 and 1, not {given!r}")
    return share


def serving_app(settings: ServeSettings, load: Callable[[str], System], logger: Log) -> App:
    """Return the app. Its clients give up soon: a request has fallbacks, and no time."""
    table, stream = settings.table, settings.prediction_stream
    store = DynamoFeatureStore(table, quick_client("dynamodb"), attempts=_READ_ATTEMPTS) if table else None
    return make_app(
        load(settings.system),
        S3ObjectStore(settings.bucket),
        store,
        FirehoseStream(stream, quick_client("firehose")) if stream else None,
        features=store,
        challenger_share=settings.challenger_share,
        preset_mix=settings.preset_mix,
        explore=settings.explore,
        logger=logger,
    )
