"""Lambda `snapshot`: {"system": ..., "rungs"?: [...]} to a training set, or {"action": "materialise"} to the store.

With "since": "last" only what can go on from the champion is trained.
"""

import os
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Logger

from twinloop import systems
from twinloop.aws.environment import memory_for_duckdb, own_bucket
from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.errors import BadInputError
from twinloop.features.materialise import materialise
from twinloop.features.rungs import chosen_rungs, going_on, snapshot_answer
from twinloop.features.snapshot import Resources, make_snapshot
from twinloop.registry.registry import Registry

logger = Logger(service="snapshot")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    system, objects, resources = systems.load(event["system"]), own_bucket(), Resources(memory_for_duckdb(2))
    if event.get("action") == "materialise":
        store = DynamoFeatureStore(os.environ["TWINLOOP_TABLE"])
        return materialise(system, objects, store, features=store, resources=resources)
    rungs = chosen_rungs(system, event.get("rungs"))
    if event.get("since") not in (None, "last"):
        raise BadInputError(f"since is 'last' or absent, not {event['since']!r}")
    registry = Registry(objects, system.spec.name)
    # Before the snapshot, which takes minutes: what there is nothing to go on from is said at once.
    champion = going_on(rungs, *registry.champion_component()) if event.get("since") else None
    manifest = make_snapshot(system, objects, now=datetime.now(UTC), resources=resources)
    logger.info("snapshot", snapshot_id=manifest.snapshot_id, rows=manifest.rows)
    return snapshot_answer(system, manifest, rungs, named=event.get("rungs") or (), champion=champion)
