"""What a function that works on the lake is told by its environment: its bucket, and how much memory it has."""

from __future__ import annotations

import os

from twinloop.aws.objects import S3ObjectStore

_ELSEWHERE_MB = "3008"  # where no Lambda says how much there is


def own_bucket() -> S3ObjectStore:
    """Return the bucket named by TWINLOOP_BUCKET."""
    return S3ObjectStore(os.environ["TWINLOOP_BUCKET"])


def memory_for_duckdb(part: int) -> int:
    """Return one `part`th of the function's memory, in MB: the rest is for what stands beside DuckDB."""
    return int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", _ELSEWHERE_MB)) // part
