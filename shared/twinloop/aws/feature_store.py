"""FeatureStore on DynamoDB: one more item per user, and one per item, each written as histories are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twinloop.aws.online_store import HISTORY, DynamoOnlineStore, read_history
from twinloop.aws.records import entity_key
from twinloop.contracts.tally import Happening, Layout, Tally
from twinloop.features.stores import Attributes, Entity, Known, Recalled, counted, settled

FEATURES = "features"


class DynamoFeatureStore(DynamoOnlineStore):
    """Counters and attributes: `pk` `<system>#user#<user_id>` or `<system>#item#<item_id>`, `sk` `features`.

    `data` holds the counters, packed; `attributes` a JSON object. They are apart from the history, because most events
    change the counters alone, and a write costs by the size of its item.
    """

    def known(self, system: str, keys: Sequence[tuple[Entity, str]]) -> list[Known]:
        found = self._records.read_many([entity_key(system, *key, FEATURES) for key in keys])
        return [_known(item) for item in found]

    def recall(self, system: str, user_id: str, item_ids: Sequence[str] = ()) -> Recalled:
        keys = [entity_key(system, "user", user_id, HISTORY), entity_key(system, "user", user_id, FEATURES)]
        keys += [entity_key(system, "item", item_id, FEATURES) for item_id in item_ids]
        history, user, *items = self._records.read_many(keys)
        return Recalled(read_history(history), _known(user), dict(zip(item_ids, map(_known, items), strict=True)))

    def count(self, system: str, key: tuple[Entity, str], happenings: Iterable[Happening], layout: Layout) -> Known:
        happenings = tuple(happenings)

        def change(item: dict[str, Any]) -> tuple[dict[str, Any] | None, Known]:
            before = _known(item)
            after = counted(before, happenings, layout)
            return (None if after is before else _item(after)), after

        return self._records.change(entity_key(system, *key, FEATURES), change)

    def settle(self, system: str, key: tuple[Entity, str], lake: Tally, attributes: Attributes, layout: Layout) -> None:
        def change(item: dict[str, Any]) -> tuple[dict[str, Any] | None, None]:
            before = _known(item)
            after = settled(before, lake, attributes, layout)
            return (None if after == before else _item(after)), None

        self._records.change(entity_key(system, *key, FEATURES), change)


def _known(item: Mapping[str, Any]) -> Known:
    if not item:
        return Known()
    return Known(item["data"]["B"], json.loads(item["attributes"]["S"]))


def _item(known: Known) -> dict[str, Any]:
    attributes = json.dumps(known.attributes, sort_keys=True, separators=(",", ":"))
    return {"data": {"B": known.counters}, "attributes": {"S": attributes}}
