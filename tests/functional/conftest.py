"""What tests of functions start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from played_aws import BUCKET, played_aws

from twinloop.aws.objects import S3ObjectStore


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3ObjectStore]:
    """The bucket of an AWS that moto plays, with the table beside it (support/played_aws.py)."""
    with played_aws(monkeypatch):
        yield S3ObjectStore(BUCKET)
