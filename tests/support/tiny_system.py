"""Video with a short ladder, and a registry that holds releases of tiny models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from tiny_models import SNAPSHOT, video_files

from twinloop.contracts.events import VIDEO_TABLES
from twinloop.contracts.spec import GatePolicy, Rung, Split, SystemSpec
from twinloop.contracts.system import Evaluation, System
from twinloop.features.schema import schema_hash
from twinloop.ports import ObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.recommendations import RECOMMENDATIONS
from twinloop.systems.video.evaluate import Remote, cases
from twinloop.systems.video.features import FEATURES, STRENGTH_SQL, strength
from twinloop.systems.video.presets import PRESETS
from twinloop.systems.video.serve import VideoPredictor, judge

STEPS = ("requirements", "framing", "data", "architecture", "evaluation", "deployment")
SCHEMA = schema_hash(())  # of models that are asked with nothing but the history

SYSTEM = System(
    spec=SystemSpec(
        name="video",
        verb="recommendations",
        split=Split(),
        rungs=(Rung(name="popularity", framework="xgboost", complexity=0),),
        gate=GatePolicy(primary="ndcg@10"),
        **{step: step for step in STEPS},
    ),
    tables=VIDEO_TABLES,
    features=FEATURES,
    strength_sql=STRENGTH_SQL,
    predictor=VideoPredictor,
    judge=judge,
    endpoint=RECOMMENDATIONS,
    strength=strength,
    evaluation=Evaluation(cases=cases, remote=Remote),
    presets={name: preset.purpose for name, preset in PRESETS.items()},
)


def registry(store: ObjectStore) -> Registry:
    """The registry of video in a store, with a clock that stands still."""
    return Registry(store, "video", clock=lambda: datetime(2026, 1, 31, 12, tzinfo=UTC))


def register(
    store: ObjectStore, files: Mapping[str, Mapping[str, bytes]] | None = None, *, schema: str = SCHEMA
) -> str:
    """Put a release into the registry and return its version."""
    home = registry(store)
    parts = files if files is not None else video_files(schema_hash=schema)
    components = {name: home.register_component(name, content) for name, content in parts.items()}
    draft = home.draft_release(rung="ease", snapshot_id=SNAPSHOT, schema_hash=schema, components=components)
    return home.register_release(draft, {"metrics.json": b"{}", "card.html": b"<p>"})


def promote(store: ObjectStore, version: str, alias: str = "champion") -> None:
    """Point an alias to a release."""
    registry(store).move_alias(alias, version, why="for the test", by="the test")
