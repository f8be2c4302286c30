"""Lambda `monitor`: {"system": ...} to the offsets that serving adds to what its releases say of clicks.

Out: monitoring.live.LiveAnswer, the offsets and what of the prediction log they are made of.
"""

import os
from datetime import UTC, datetime
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from twinloop import systems
from twinloop.aws.objects import S3ObjectStore
from twinloop.monitoring.live import calibrate

logger = Logger(service="monitor")


@cache
def store() -> S3ObjectStore:
    return S3ObjectStore(os.environ["TWINLOOP_BUCKET"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048"))  # a third for DuckDB
    made = calibrate(systems.load(event["system"]), store(), now=datetime.now(UTC), memory_mb=memory_mb // 3)
    told = made.model_dump(mode="json")
    logger.info("calibrated", system=event["system"], **told)
    return told
