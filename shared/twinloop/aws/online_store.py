"""OnlineStore on DynamoDB: one item per user, written only while nobody else has written it meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client
from twinloop.contracts.history import DEFAULT_LENGTH, History, HistoryEntry, fitting, merge_histories, pack, unpack
from twinloop.errors import BadInputError, ConflictError, UnavailableError

_SORT_KEY = "history"
_ATTEMPTS = 12
_PARALLEL_WRITES = 16
_RETENTION_S = 400 * 86_400  # a user who did nothing for so long is forgotten
_MAX_KEY_BYTES = 2048  # of DynamoDB's partition keys


class DynamoOnlineStore:
    """Histories in the shared table: `pk` `<system>#user#<user_id>`, `sk` `history`, packed in `data`.

    `revision` counts writes; a write is conditional on the revision that was read. `expires_at` moves with every
    write, and an expired item reads as nothing although DynamoDB may delete it days later.

    Args:
        table: The table's name.
        dynamodb: A boto3 client; the process's shared one by default.
        clock: Seconds since the epoch.
    """

    def __init__(self, table: str, dynamodb: Any | None = None, clock: Callable[[], float] = time.time) -> None:
        self.table = table
        self._client = dynamodb
        self._clock = clock

    @property
    def _dynamodb(self) -> Any:
        if self._client is None:
            self._client = client("dynamodb")
        return self._client

    def history(self, system: str, user_id: str) -> History:
        return self._read(_key(system, user_id), consistent=False)[0]

    def merge(
        self, system: str, user_id: str, entries: Iterable[HistoryEntry], *, length: int = DEFAULT_LENGTH
    ) -> History:
        entries, key = tuple(entries), _key(system, user_id)
        for attempt in range(_ATTEMPTS):
            known, revision = self._read(key, consistent=True)
            packed = pack(fitting(merge_histories(known, entries, length)))
            merged = unpack(packed)
            if merged == known:
                return known
            try:
                self._write(key, packed, revision)
                return merged
            except ConflictError:
                # Full jitter: writers that met once must not meet again.
                time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))  # noqa: S311
        raise UnavailableError(f"too many writers at once to the history of user {user_id!r}; try again")

    def merge_many(
        self, system: str, entries: Mapping[str, Iterable[HistoryEntry]], *, length: int = DEFAULT_LENGTH
    ) -> None:
        def merge_one(item: tuple[str, Iterable[HistoryEntry]]) -> None:
            self.merge(system, item[0], item[1], length=length)

        with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
            for _ in pool.map(merge_one, entries.items()):
                pass  # raises here what a writer raised

    def _read(self, key: Mapping[str, Any], *, consistent: bool) -> tuple[History, int]:
        """Return the history and the revision that a write must find; revision 0 where there is no item."""
        try:
            item = self._dynamodb.get_item(TableName=self.table, Key=key, ConsistentRead=consistent).get("Item")
        except (ClientError, BotoCoreError) as error:
            raise UnavailableError(f"DynamoDB did not give an item of table {self.table}: {error}") from error
        if item is None:
            return (), 0
        revision = int(item["revision"]["N"])
        if int(item["expires_at"]["N"]) <= self._clock():
            return (), revision
        return unpack(item["data"]["B"]), revision

    def _write(self, key: Mapping[str, Any], packed: bytes, revision: int) -> None:
        item = {
            **key,
            "data": {"B": packed},
            "revision": {"N": str(revision + 1)},
            "expires_at": {"N": str(int(self._clock()) + _RETENTION_S)},
        }
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if revision:
            values = {":read": {"N": str(revision)}}
            condition = {"ConditionExpression": "revision = :read", "ExpressionAttributeValues": values}
        try:
            self._dynamodb.put_item(TableName=self.table, Item=item, **condition)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                raise ConflictError(f"the history at {key['pk']['S']!r} was changed by somebody else") from error
            raise UnavailableError(f"DynamoDB refused a write to table {self.table}: {error}") from error
        except BotoCoreError as error:
            raise UnavailableError(f"DynamoDB did not take a write to table {self.table}: {error}") from error


def _key(system: str, user_id: str) -> dict[str, Any]:
    partition = f"{system}#user#{user_id}"
    try:
        size = len(partition.encode())
    except UnicodeEncodeError as error:
        raise BadInputError(f"user id {user_id!r} is not valid text") from error
    if not user_id or size > _MAX_KEY_BYTES:
        raise BadInputError("a user id has at least one character and fits into a key of 2048 bytes")
    return {"pk": {"S": partition}, "sk": {"S": _SORT_KEY}}
