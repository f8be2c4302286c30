"""Lambda `etl`: raw objects into the lake and quarantine; {"action": "compact", "system": ...} merges small files.

In: SQS records whose bodies are S3 notifications. Out: the messages to deliver again.
"""

import os
from datetime import UTC, datetime
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from twinloop import systems
from twinloop.aws.lake import GlueCatalog
from twinloop.aws.objects import S3ObjectStore
from twinloop.aws.raw import RawObjects
from twinloop.ingest.compact import compact
from twinloop.ingest.deliveries import Deliveries

logger = Logger(service="etl")


@cache
def deliveries() -> Deliveries:
    bucket, database = os.environ["TWINLOOP_BUCKET"], os.environ["TWINLOOP_GLUE_DATABASE"]
    return Deliveries(
        RawObjects(bucket).open, systems.load, S3ObjectStore(bucket), GlueCatalog(bucket, database), logger
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    if event.get("action") == "compact":
        return compact(systems.load(event["system"]), deliveries().objects, now=datetime.now(UTC))
    failed = deliveries().take({record["messageId"]: record["body"] for record in event["Records"]})
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
