"""Lambda `monitor`: {"system": ...} to the offsets that serving adds to what its releases say of clicks.

Out: monitoring.live.LiveAnswer, the offsets and what of the prediction log they are made of.
"""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Logger

from twinloop import systems
from twinloop.aws.environment import memory_for_duckdb, own_bucket
from twinloop.monitoring.live import calibrate

logger = Logger(service="monitor")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    system, memory_mb = systems.load(event["system"]), memory_for_duckdb(3)
    made = calibrate(system, own_bucket(), now=datetime.now(UTC), memory_mb=memory_mb)
    told = made.model_dump(mode="json")
    logger.info("calibrated", system=event["system"], **told)
    return told
