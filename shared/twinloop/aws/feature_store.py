"""FeatureStore on DynamoDB: one more item per user, and one per item, each written as histories are."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twinloop.aws.online_store import HISTORY, DynamoOnlineStore, packed_data, read_history
from twinloop.aws.records import entity_key
from twinloop.contracts.tally import Happening, Layout, Tally
from twinloop.errors import IntegrityError
from twinloop.features.stores import Attributes, Entity, Known, Recalled, counted, settled

FEATURES = "features"
# In the place of a record that cannot be read: its counters cannot be either, and who reads them is told so, by
# IntegrityError. So one damaged record costs that record, and not all that was read with it.
_UNREADABLE = Known(b"\x00")
_TELLABLE = (str, int, float, type(None))


class DynamoFeatureStore(DynamoOnlineStore):
    """Counters and attributes: `pk` `<system>#user#<user_id>` or `<system>#item#<item_id>`, `sk` `features`.

    `data` holds the counters, packed; `attributes` a JSON object; `late`, where there are any, keys of 8 bytes. They
    are apart from the history, because most events change the counters alone, and a write costs by the size of its
    item.
    """

    def known(self, system: str, keys: Sequence[tuple[Entity, str]]) -> list[Known]:
        found = self._records.read_many([entity_key(system, *key, FEATURES) for key in keys])
        return [_known_or_unreadable(item) for item in found]

    def recall(self, system: str, user_id: str, item_ids: Sequence[str] = ()) -> Recalled:
        keys = [entity_key(system, "user", user_id, HISTORY), entity_key(system, "user", user_id, FEATURES)]
        keys += [entity_key(system, "item", item_id, FEATURES) for item_id in item_ids]
        history, user, *items = self._records.read_many(keys)
        known = dict(zip(item_ids, map(_known_or_unreadable, items), strict=True))
        return Recalled(read_history(history), _known_or_unreadable(user), known)

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


def _known_or_unreadable(item: Mapping[str, Any]) -> Known:
    try:
        return _known(item)
    except IntegrityError:
        return _UNREADABLE


def _known(item: Mapping[str, Any]) -> Known:
    """Return what an item's attributes hold; raises IntegrityError where that cannot be read."""
    if not item:
        return Known()
    counters = packed_data(item)
    try:
        attributes = json.loads(item["attributes"]["S"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise IntegrityError(_damaged(item)) from error
    if not isinstance(attributes, dict) or not all(isinstance(v, _TELLABLE) for v in attributes.values()):
        raise IntegrityError(_damaged(item))
    return Known(counters, attributes, _late(item))


def _late(item: Mapping[str, Any]) -> tuple[int, ...]:
    if "late" not in item:
        return ()
    try:
        packed = item["late"]["B"]
        return struct.unpack(f"<{len(packed) // 8}Q", packed)
    except (KeyError, TypeError, struct.error) as error:
        raise IntegrityError(
            f"the record at {item.get('pk')} {item.get('sk')} has no keys in `late`; delete it, and materialise makes "
            "it anew"
        ) from error


def _damaged(item: Mapping[str, Any]) -> str:
    return (
        f"the record at {item.get('pk')} {item.get('sk')} has no JSON object of numbers and texts in `attributes`; "
        "delete it, and materialise makes it anew"
    )


def _item(known: Known) -> dict[str, Any]:
    attributes = json.dumps(known.attributes, sort_keys=True, separators=(",", ":"))
    late = {"late": {"B": struct.pack(f"<{len(known.late)}Q", *known.late)}} if known.late else {}
    return {"data": {"B": known.counters}, "attributes": {"S": attributes}, **late}
