"""Items of the shared table that are read, changed and written back only while nobody else has changed them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from twinloop.aws.clients import client
from twinloop.errors import ConflictError, IntegrityError, UnavailableError
from twinloop.features.stores import partition

PATIENT = 12  # attempts of who has the time; in between they wait up to 3.6 seconds
_ATTEMPTS = 12  # of a write
_BATCH = 100  # keys of one BatchGetItem call
_RETENTION_S = 400 * 86_400  # what was not written for so long is forgotten

Key = Mapping[str, Any]
Value = TypeVar("Value")


class Records:
    """Items with `revision`, which counts writes, and `expires_at`, which moves with every write.

    A write is conditional on the revision that was read. An expired item reads as nothing although DynamoDB may delete
    it days later; one that does not say when it expires never does, as DynamoDB has it.

    Args:
        table: The table's name.
        dynamodb: A boto3 client; the process's shared one by default.
        clock: Seconds since the epoch.
        attempts: How often `read_many` asks while DynamoDB leaves keys undone (`UnprocessedKeys`).
    """

    def __init__(
        self, table: str, dynamodb: Any | None, clock: Callable[[], float], *, attempts: int = PATIENT
    ) -> None:
        self.table = table
        self._attempts = attempts
        self._client = dynamodb
        self._clock = clock

    @property
    def _dynamodb(self) -> Any:
        return self._client or client("dynamodb")

    def read(self, key: Key, *, consistent: bool = False) -> tuple[dict[str, Any], int]:
        """Return an item's attributes, and the revision that a write must find: 0 where there is no item.

        Raises UnavailableError, and IntegrityError for an item without a revision.
        """
        try:
            item = self._dynamodb.get_item(TableName=self.table, Key=key, ConsistentRead=consistent).get("Item")
        except (ClientError, BotoCoreError) as error:
            raise UnavailableError(f"DynamoDB did not give an item of table {self.table}: {error}") from error
        if item is None:
            return {}, 0
        try:
            return self._alive(item), int(item["revision"]["N"])
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"the record at {key} has no revision; delete it, and it is made anew") from error

    def read_many(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """Return items' attributes in the order of their keys, empty where there is none: a call for 100 of them.

        Raises UnavailableError, also where after the last attempt some are still undone.
        """
        unique = list({_place(key): key for key in keys}.values())
        batches = [unique[start : start + _BATCH] for start in range(0, len(unique), _BATCH)]
        if len(batches) > 1:
            with ThreadPoolExecutor(len(batches)) as pool:
                answers = list(pool.map(self._batch, batches))
        else:
            answers = [self._batch(batch) for batch in batches]
        found = {_place(item): self._alive(item) for items in answers for item in items}
        return [found.get(_place(key), {}) for key in keys]

    def change(self, key: Key, change: Callable[[dict[str, Any]], tuple[dict[str, Any] | None, Value]]) -> Value:
        """Read an item, change it, write it back; as often as somebody else was quicker.

        Args:
            key: The item's.
            change: Attributes -> (the attributes to write, None where nothing is new; what to return).

        Raises:
            UnavailableError: The table does not answer, or somebody else was always quicker.
        """
        for attempt in range(_ATTEMPTS):
            before, revision = self.read(key, consistent=True)
            after, value = change(before)
            if after is None:
                return value
            try:
                self._write(key, after, revision)
                return value
            except ConflictError:
                # Full jitter: writers that met once must not meet again.
                time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))  # noqa: S311
        raise UnavailableError(f"too many writers at once to {key['pk']['S']!r}; try again")

    def _batch(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {self.table: {"Keys": list(keys)}}
        items: list[dict[str, Any]] = []
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))  # noqa: S311
            try:
                answer = self._dynamodb.batch_get_item(RequestItems=asked)
            except (ClientError, BotoCoreError) as error:
                raise UnavailableError(f"DynamoDB did not give items of table {self.table}: {error}") from error
            items += answer["Responses"].get(self.table, [])
            asked = answer.get("UnprocessedKeys") or {}
            if not asked:
                return items
        raise UnavailableError(f"DynamoDB is too busy to give {len(keys)} items of table {self.table}; try again")

    def _alive(self, item: dict[str, Any]) -> dict[str, Any]:
        expires_at = item.get("expires_at", {}).get("N")
        return {} if expires_at is not None and float(expires_at) <= self._clock() else item

    def _write(self, key: Key, attributes: Mapping[str, Any], revision: int) -> None:
        item = {
            **attributes,
            **key,
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
                raise ConflictError(f"the item at {key['pk']['S']!r} was changed by somebody else") from error
            raise UnavailableError(f"DynamoDB refused a write to table {self.table}: {error}") from error
        except BotoCoreError as error:
            raise UnavailableError(f"DynamoDB did not take a write to table {self.table}: {error}") from error


def entity_key(system: str, entity: str, entity_id: str, sort: str) -> dict[str, Any]:
    """Return the key of what is known of an entity; raises BadInputError for an id that is no key."""
    return {"pk": {"S": partition(system, entity, entity_id)}, "sk": {"S": sort}}


def _place(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]
