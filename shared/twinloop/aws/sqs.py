"""Messages into an SQS queue, in as few calls as its limits allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client

_MAX_MESSAGES = 10  # of one SendMessageBatch call
_MAX_BYTES = 250_000  # of all of them together; the service's oldest limit is 262,144 with attributes


class SqsQueue:
    """One queue.

    Args:
        url: Its address.
        sqs: A boto3 client; the process's shared one by default.
    """

    def __init__(self, url: str, sqs: Any | None = None) -> None:
        self.url = url
        self._client = sqs

    def send(self, bodies: Sequence[str]) -> set[int]:
        """Send messages; returns the positions of those not taken, which should be tried again."""
        sqs = self._client or client("sqs")
        refused: set[int] = set()
        for positions in _batches(bodies):
            entries = [{"Id": str(position), "MessageBody": bodies[position]} for position in positions]
            try:
                answer = sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
            except (ClientError, BotoCoreError):
                refused.update(positions)
            else:
                refused.update(int(entry["Id"]) for entry in answer.get("Failed", ()))
        return refused


def _batches(bodies: Sequence[str]) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for position, body in enumerate(bodies):
        length = len(body.encode())
        if batch and (len(batch) >= _MAX_MESSAGES or size + length > _MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(position)
        size += length
    if batch:
        yield batch
