"""Lambda `index`: search's index made of the items that the lake holds now, behind the models that serve.

In: whatever the schedule sends. Out: systems.search.reindex.Reindexed.
"""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from twinloop.aws.objects import S3ObjectStore
from twinloop.systems.search.reindex import reindex

logger = Logger(service="index")


@cache
def store() -> S3ObjectStore:
    return S3ObjectStore(os.environ["TWINLOOP_BUCKET"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "3008"))  # a third for DuckDB
    made = reindex(store(), by="the function index", memory_mb=memory_mb // 3)._asdict()
    logger.info("indexed", **made)
    return made
