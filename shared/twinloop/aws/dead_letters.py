"""Messages that can never be taken, put away with the reason beside them."""

from __future__ import annotations

import re
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client

_MAX_REASON = 1000  # characters; it counts towards the message's size
_NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")  # SQS takes no others


class SqsDeadLetters:
    """A dead-letter queue: the body as it came, so that it can be sent again, and the attribute `reason`.

    Args:
        url: Its address.
        sqs: A boto3 client; the process's shared one by default.
    """

    def __init__(self, url: str, sqs: Any | None = None) -> None:
        self.url = url
        self._client = sqs

    def send(self, body: str, reason: str) -> bool:
        """Put a message away; returns whether the queue took it."""
        said = _NOT_XML.sub("?", reason)[:_MAX_REASON] or "unknown"
        attributes = {"reason": {"DataType": "String", "StringValue": said}}
        try:
            sqs = self._client or client("sqs")
            sqs.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=attributes)
        except (ClientError, BotoCoreError):
            return False  # the message fails, and its own queue puts it away in the end
        return True
