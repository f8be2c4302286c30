"""Lambda `refresh`: what serves a system, with the items that the lake holds now, and everything learnt as it was.

In: {"system": name}. Out: contracts.system.Refreshed.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics

from twinloop.aws.objects import S3ObjectStore
from twinloop.contracts.system import Refresh
from twinloop.registry.refresh import refresh
from twinloop.systems import load

logger = Logger(service="refresh")
metrics = Metrics(namespace="twinloop", service="refresh")


@cache
def store() -> S3ObjectStore:
    return S3ObjectStore(os.environ["TWINLOOP_BUCKET"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3008"))  # a third for DuckDB
    asked = Refresh(by="the function refresh", memory_mb=memory_mb // 3)
    made = refresh(load(event["system"]), store(), asked)._asdict()
    logger.info("refreshed", system=event["system"], **made)
    metrics.add_dimension(name="FunctionName", value=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "refresh"))
    metrics.add_metric(name="NotRefreshed", unit="Count", value=len(made["failed"]))
    metrics.flush_metrics()
    return made
