"""One system's predictions, put together from what its surroundings provide: a Lambda or a container."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from twinloop.contracts.system import System
from twinloop.ports import Log, ObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.answering import Answering, milliseconds
from twinloop.serving.app import OPENAPI_PATH, App, predictions
from twinloop.serving.http import Request, Response
from twinloop.serving.live import LiveReader
from twinloop.serving.prediction_log import LineStream, PredictionLog
from twinloop.serving.reading import FeatureReader, HistoryReader, Reader
from twinloop.serving.releases import ReleaseLoader
from twinloop.serving.slots import Slots

_LOGGER = logging.getLogger(__name__)


def make_app(
    system: System,
    objects: ObjectStore,
    store: HistoryReader | None,
    stream: LineStream | None,
    *,
    features: FeatureReader | None = None,
    challenger_share: float = 0.1,
    preset_mix: float = 0.0,
    explore: bool = True,
    look_every_s: float = 10.0,
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    logger: Log = _LOGGER,
) -> App:
    """Return the app that answers for a system.

    Args:
        system: Whose predictions.
        objects: Where its registry is.
        store: The users' histories; None knows nobody.
        stream: Where answers are logged; None logs none.
        features: Counters and attributes of users and items, for releases that ask for them; without it these are asked
            with defaults, and their answers are marked as degraded.
        challenger_share: Share of the users who see a challenger.
        preset_mix: Share of the requests that get one of all presets by chance.
        explore: Whether answers may leave anything to chance.
        look_every_s: How often the aliases are looked at.
        new_id: A fresh prediction id.
        now: The moment, with a time zone.
        logger: Is told of what went wrong.
    """
    name = system.spec.name
    registry = Registry(objects, name)
    loader = ReleaseLoader(registry, system.predictor, system.definitions)
    live = None
    if system.predictions is not None and system.predictions.live is not None:
        live = LiveReader(objects, name, system.predictions.live.label, now=now, logger=logger)
    slots = Slots(registry, loader, look_every_s=look_every_s, live=live, logger=logger)
    log = PredictionLog(stream, name, logger=logger)
    answering = Answering(
        name,
        system.endpoint,
        slots,
        Reader(name, store, features, system.counting, now_ms=lambda: milliseconds(now()), logger=logger),
        log,
        presets=tuple(system.presets),
        challenger_share=challenger_share,
        preset_mix=preset_mix,
        explore=explore,
        new_id=new_id,
        now=now,
        logger=logger,
    )
    told = {"GET": lambda request: _openapi(request, system)}
    return App(
        {
            f"/v1/{name}/{system.spec.verb}": {"POST": predictions(system.endpoint, answering.answer)},
            f"/v1/{name}/openapi.json": told,
            OPENAPI_PATH: told,
        }
    )


def _openapi(request: Request, system: System) -> Response:
    del request
    from twinloop.serving.openapi import document  # noqa: PLC0415 - a prediction does not pay for it

    return Response(200, json.dumps(document(system)).encode())
