"""Lambda `etl`: raw objects into the lake and quarantine; with {"action": "compact", "system": ...}: small files merged.

In: SQS records whose bodies are S3 notifications. Out: the messages to deliver again.
"""

import os
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger

from twinloop import systems
from twinloop.aws.lake import GlueCatalog
from twinloop.aws.objects import S3ObjectStore
from twinloop.aws.raw import RawObjects
from twinloop.ingest.compact import compact
from twinloop.ingest.deliveries import take_deliveries

logger = Logger(service="etl")


class Adapters(NamedTuple):
    objects: S3ObjectStore
    raw: RawObjects
    catalog: GlueCatalog


@cache
def adapters() -> Adapters:
    bucket, database = os.environ["TWINLOOP_BUCKET"], os.environ["TWINLOOP_GLUE_DATABASE"]
    return Adapters(S3ObjectStore(bucket), RawObjects(bucket), GlueCatalog(bucket, database))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    objects, raw, catalog = adapters()
    if event.get("action") == "compact":
        return compact(systems.load(event["system"]), objects, now=datetime.now(UTC))
    messages = {record["messageId"]: record["body"] for record in event["Records"]}
    failed = take_deliveries(
        messages, open_raw=raw.open, load_system=systems.load, objects=objects, catalog=catalog, log=logger
    )
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
