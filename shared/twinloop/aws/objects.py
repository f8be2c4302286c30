"""ObjectStore on S3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client
from twinloop.errors import AlreadyExistsError, ConflictError, NotFoundError, UnavailableError
from twinloop.ports import StoredObject

# S3 answers 409 when two conditional writes to one key are under way at once, 412 when the condition does not hold.
_CONDITION_FAILED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_MISSING = {"NoSuchKey", "404", "NotFound"}


class S3ObjectStore:
    """One bucket as an ObjectStore; conditional writes are S3's own If-None-Match and If-Match."""

    def __init__(self, bucket: str, s3: Any | None = None) -> None:
        self.bucket = bucket
        self._client = s3

    @property
    def _s3(self) -> Any:
        return self._client or client("s3")

    def read(self, key: str) -> StoredObject:
        try:
            answer = self._s3.get_object(Bucket=self.bucket, Key=key)
            return StoredObject(key, answer["Body"].read(), answer["ETag"])
        except (ClientError, BotoCoreError) as error:
            _raise(error, self.bucket, key)

    def write(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> str:
        return self._put(key, body, content_type)

    def write_new(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> str:
        try:
            return self._put(key, body, content_type, IfNoneMatch="*")
        except ConflictError as error:
            raise AlreadyExistsError(f"s3://{self.bucket}/{key} is written once and is there already") from error

    def replace(self, key: str, body: bytes, *, etag: str, content_type: str = "application/octet-stream") -> str:
        return self._put(key, body, content_type, IfMatch=etag)

    def keys(self, prefix: str) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        try:
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"]
        except (ClientError, BotoCoreError) as error:
            _raise(error, self.bucket, prefix)

    def delete(self, key: str) -> None:
        try:
            self._s3.delete_object(Bucket=self.bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            _raise(error, self.bucket, key)

    def _put(self, key: str, body: bytes, content_type: str, **condition: str) -> str:
        try:
            answer = self._s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, **condition)
            return str(answer["ETag"])
        except (ClientError, BotoCoreError) as error:
            _raise(error, self.bucket, key)


def _raise(error: Exception, bucket: str, key: str) -> NoReturn:
    """Translate a client's error into one of ours, once, here."""
    where = f"s3://{bucket}/{key}"
    if not isinstance(error, ClientError):
        raise UnavailableError(f"S3 did not answer for {where}; try again") from error
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _MISSING:
        raise NotFoundError(f"no object at {where}") from error
    if code in _CONDITION_FAILED:
        raise ConflictError(f"{where} was changed by somebody else; read it again and decide anew") from error
    raise UnavailableError(f"S3 refused {where}: {code}") from error
