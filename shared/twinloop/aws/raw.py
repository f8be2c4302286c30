"""Raw objects on S3: opened as streams for ingest, and uploaded from disk in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from twinloop.aws.clients import client, transfer_client
from twinloop.errors import NotFoundError, UnavailableError
from twinloop.ingest.source import RawObject
from twinloop.ingest.upload import Upload

_MISSING = {"NoSuchKey", "404", "NotFound"}


class RawObjects:
    """The raw part of the data bucket."""

    def __init__(self, bucket: str, s3: Any | None = None) -> None:
        self._bucket, self._client = bucket, s3

    @property
    def _s3(self) -> Any:
        return self._client or client("s3")

    def open(self, key: str) -> RawObject:
        """Return the object as it is now, as a stream; raises NotFoundError, UnavailableError."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                raise NotFoundError(f"no object at s3://{self._bucket}/{key}") from error
            raise UnavailableError(f"S3 refused s3://{self._bucket}/{key}: {error}") from error
        except BotoCoreError as error:
            raise UnavailableError(f"S3 did not answer for s3://{self._bucket}/{key}; try again") from error
        body = _Body(answer["Body"], key)
        return RawObject(key, answer["ETag"].strip('"'), answer["LastModified"], answer["ContentLength"], body)

    def send(self, upload: Upload, progress: Callable[[int], None] | None = None) -> str:
        """Upload a file, in parts where it is big; returns its ETag. `progress` is told the bytes of each piece."""
        try:
            transfer_client().upload_file(str(upload.path), self._bucket, upload.key, Callback=progress)
            head = self._s3.head_object(Bucket=self._bucket, Key=upload.key)
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            raise UnavailableError(f"{upload.path} was not uploaded: {error}") from error
        return str(head["ETag"]).strip('"')


class _Body:
    """A stream whose broken connection is an error that is worth a retry."""

    def __init__(self, body: Any, key: str) -> None:
        self._body, self._key = body, key

    def read(self, size: int, /) -> bytes:
        try:
            return bytes(self._body.read(size))
        except (BotoCoreError, HTTPError, OSError) as error:
            raise UnavailableError(f"reading {self._key} broke off: {error}") from error
