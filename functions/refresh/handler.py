"""Lambda `refresh`: what serves a system, with the items that the lake holds now, and everything learnt as it was.

In: {"system": name}. Out: contracts.system.Refreshed.
"""

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics

from twinloop.aws.environment import memory_for_duckdb, own_bucket
from twinloop.contracts.system import Refresh
from twinloop.registry.refresh import refresh
from twinloop.systems import load

logger = Logger(service="refresh")
metrics = Metrics(namespace="twinloop", service="refresh")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    asked = Refresh(by="the function refresh", memory_mb=memory_for_duckdb(3))
    made = refresh(load(event["system"]), own_bucket(), asked)._asdict()
    logger.info("refreshed", system=event["system"], **made)
    metrics.add_dimension(name="FunctionName", value=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "refresh"))
    metrics.add_metric(name="NotRefreshed", unit="Count", value=len(made["failed"]))
    metrics.flush_metrics()
    return made
