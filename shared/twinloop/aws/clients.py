"""Lazily made, shared boto3 clients. Endpoints come from AWS_ENDPOINT_URL[_SERVICE], as in every AWS tool."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
from botocore.config import Config


@cache
def client(service: str) -> Any:
    """Return the process's client of one AWS service; made on first use, safe to share between threads.

    Timeouts are short and retries few: a caller that has a fallback must reach it before its own caller gives up.
    """
    config = Config(
        connect_timeout=2,
        read_timeout=30,
        retries={"total_max_attempts": 4, "mode": "standard"},
        s3={"addressing_style": "path"},
        max_pool_connections=32,
    )
    return boto3.client(service, config=config)


@cache
def quick_client(service: str) -> Any:
    """Return a client that gives up within about two seconds: for requests that have a fallback and no time."""
    config = Config(
        connect_timeout=0.5,
        read_timeout=1,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=32,
    )
    return boto3.client(service, config=config)
