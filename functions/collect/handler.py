"""Lambda `collect`: what users did, from POST /v1/{system}/events into the events queue."""

import os
from functools import cache, partial
from typing import Any

from aws_lambda_powertools import Logger, Metrics

from twinloop import systems
from twinloop.aws.sqs import SqsQueue
from twinloop.serving.collect import collect
from twinloop.serving.lambdas import answer

logger = Logger(service="collect")
metrics = Metrics(namespace="twinloop", service="collect")


@cache
def queue() -> SqsQueue:
    return SqsQueue(os.environ["TWINLOOP_EVENTS_QUEUE_URL"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    response, counts = answer(event, lambda: partial(collect, load=systems.load, queue=queue()), logger=logger)
    for name, count in counts.items():
        metrics.add_metric(name=name, unit="Count", value=count)
    metrics.flush_metrics()
    return response
