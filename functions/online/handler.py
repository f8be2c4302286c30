"""Lambda `online`: queued events into the online store, and on to Firehose for raw/.

In: SQS records whose bodies are {"system": "video", "event": {...}}. Out: the messages to deliver again.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from twinloop import systems
from twinloop.aws.firehose import FirehoseStream
from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.features.live import apply_events

logger = Logger(service="online")


@cache
def adapters() -> tuple[DynamoOnlineStore, FirehoseStream]:
    return DynamoOnlineStore(os.environ["TWINLOOP_TABLE"]), FirehoseStream(os.environ["TWINLOOP_RAW_STREAM"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    messages = {record["messageId"]: record["body"] for record in event["Records"]}
    failed = apply_events(messages, systems.load, *adapters(), logger=logger)
    logger.info("events", taken=len(messages) - len(failed), failed=len(failed))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
