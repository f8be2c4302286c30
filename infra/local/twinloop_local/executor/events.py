"""The state-change events that EventBridge has from SageMaker, put by the executor under a source of its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client

SOURCE = "twinloop.sagemaker"  # `aws.sagemaker` may be put by AWS only
DETAIL_TYPE = "SageMaker Training Job State Change"

_logger = logging.getLogger(__name__)


def announce(description: Mapping[str, Any]) -> None:
    """Put one event; its detail is the job's description, times in epoch milliseconds as AWS has them there."""
    tags = {tag["Key"]: tag["Value"] for tag in description.get("Tags") or ()}
    entry = {
        "Source": SOURCE,
        "DetailType": DETAIL_TYPE,
        "Resources": [description["TrainingJobArn"]],
        "Detail": json.dumps({**description, "Tags": tags}, default=_epoch_milliseconds),
    }
    try:
        answer = client("events").put_events(Entries=[entry])
    except (ClientError, BotoCoreError) as error:
        _logger.warning("no state-change event for %s: %s", description["TrainingJobName"], error)
        return
    if answer.get("FailedEntryCount"):
        _logger.warning("no state-change event for %s: %s", description["TrainingJobName"], answer["Entries"])


def _epoch_milliseconds(value: object) -> int:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    raise TypeError(f"{type(value).__name__} has no place in an event")
