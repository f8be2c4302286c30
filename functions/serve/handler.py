"""Lambda `serve`: predictions of the system named by TWINLOOP_SYSTEM, over API Gateway."""

# ruff: noqa: E402 - imports make objects that live as long as the process; collecting garbage between them is in vain
import gc
import os

gc.disable()
# No plugin of pydantic is installed here, and looking for one reads the metadata of every package there is.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

import time
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics

from twinloop import systems
from twinloop.aws.serving import ServeSettings, serving_app
from twinloop.serving.app import App
from twinloop.serving.lambdas import answer, settle

logger = Logger(service="serve")
metrics = Metrics(namespace="twinloop", service="serve")


@cache
def app() -> App:
    return serving_app(ServeSettings.from_environment(), systems.load, logger)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    started = time.perf_counter()
    response, counts = answer(event, app, logger=logger)
    settle()
    metrics.add_metric(name="Latency", unit="Milliseconds", value=(time.perf_counter() - started) * 1000)
    for name, count in counts.items():
        metrics.add_metric(name=name, unit="Count", value=count)
    metrics.flush_metrics()
    return response
