"""Lazily made, shared clients. Endpoints come from AWS_ENDPOINT_URL[_SERVICE], as in every AWS tool."""

from __future__ import annotations

from functools import cache
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

_PATIENT = {"connect_timeout": 2, "read_timeout": 30, "retries": {"total_max_attempts": 4, "mode": "standard"}}
_QUICK = {"connect_timeout": 0.5, "read_timeout": 1, "retries": {"total_max_attempts": 2, "mode": "standard"}}
_SHARED = {"s3": {"addressing_style": "path"}, "max_pool_connections": 32}
_ON_REQUESTS = ("dynamodb", "firehose", "s3", "sqs")


@cache
def client(service: str) -> Any:
    """Return the process's client of one AWS service; made on first use, safe to share between threads.

    Timeouts are short and retries few: a caller that has a fallback must reach it before its own caller gives up.
    """
    return _session(service in _ON_REQUESTS).create_client(service, config=Config(**_PATIENT, **_SHARED))


@cache
def quick_client(service: str) -> Any:
    """Return a client that gives up within about two seconds: for requests that have a fallback and no time."""
    return _session(service in _ON_REQUESTS).create_client(service, config=Config(**_QUICK, **_SHARED))


@cache
def waiting_client(service: str) -> Any:
    """Return a client that waits for an answer as long as a function may run, and asks once: for work that is done."""
    waiting = {"connect_timeout": 2, "read_timeout": 910, "retries": {"total_max_attempts": 1, "mode": "standard"}}
    return _session(service in _ON_REQUESTS).create_client(service, config=Config(**waiting, **_SHARED))


@cache
def transfer_client() -> Any:
    """Return an S3 client with boto3's `upload_file` and `download_file`, which move big files in parts."""
    import boto3  # noqa: PLC0415 - importing its transfer manager takes 30 ms, and serving moves no files

    return boto3.Session().client("s3", config=Config(**_PATIENT, **_SHARED))


def forget() -> None:
    """Make the next clients anew, from the environment as it is then."""
    for made in (client, quick_client, waiting_client, transfer_client, _session):
        made.cache_clear()


@cache
def _session(on_requests: bool) -> Any:
    session = botocore.session.get_session()
    if on_requests:
        session.register_component("data_loader", _ToldLoader())
    return session


class _ToldLoader(Loader):  # type: ignore[misc]  # botocore has no types
    """botocore's loader, told which services there are: finding out takes a look into 400 folders, twice."""

    def list_available_services(self, type_name: str) -> list[str]:
        del type_name
        return list(_ON_REQUESTS)
