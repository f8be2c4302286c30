"""JSON lines into Firehose delivery streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client

_MAX_RECORDS = 500  # of one PutRecordBatch call
_MAX_BYTES = 4_000_000


class FirehoseStream:
    """Delivery streams, one per system: `name` holds the place of the system, as in `twinloop-{system}-events`."""

    def __init__(self, name: str, firehose: Any | None = None) -> None:
        self.name = name
        self._client = firehose

    def send(self, system: str, lines: Sequence[bytes]) -> set[int]:
        """Send lines in as few calls as the limits allow; returns the positions of those not taken."""
        firehose = self._client or client("firehose")
        refused: set[int] = set()
        for positions in _batches(lines):
            records = [{"Data": lines[position]} for position in positions]
            try:
                answer = firehose.put_record_batch(
                    DeliveryStreamName=self.name.replace("{system}", system), Records=records
                )
            except (ClientError, BotoCoreError):
                refused.update(positions)
                continue
            results = zip(positions, answer["RequestResponses"], strict=True)
            refused.update(position for position, result in results if "ErrorCode" in result)
        return refused


def _batches(lines: Sequence[bytes]) -> list[list[int]]:
    batches: list[list[int]] = []
    size = 0
    for position, line in enumerate(lines):
        if not batches or len(batches[-1]) >= _MAX_RECORDS or size + len(line) > _MAX_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(position)
        size += len(line)
    return batches
