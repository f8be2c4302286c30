"""Lambda `online`: queued events into the online store, and on to Firehose for raw/.

In: SQS records whose bodies are {"system": "video", "event": {...}}. Out: the messages to deliver again.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from twinloop import systems
from twinloop.aws.dead_letters import SqsDeadLetters
from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.aws.firehose import FirehoseStream
from twinloop.features.live import apply_events

logger = Logger(service="online")


@cache
def adapters() -> tuple[DynamoFeatureStore, FirehoseStream, SqsDeadLetters | None]:
    letters = os.environ.get("TWINLOOP_DEAD_LETTERS_URL")
    table, stream = os.environ["TWINLOOP_TABLE"], os.environ["TWINLOOP_RAW_STREAM"]
    return DynamoFeatureStore(table), FirehoseStream(stream), SqsDeadLetters(letters) if letters else None


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    messages = {record["messageId"]: record["body"] for record in event["Records"]}
    store, stream, letters = adapters()
    failed = apply_events(messages, systems.load, store, stream, features=store, dead_letters=letters, logger=logger)
    logger.info("events", taken=len(messages) - len(failed), failed=len(failed))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
