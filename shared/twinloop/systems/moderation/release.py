"""Another policy, or another list of known media, for the model that serves: a release without training."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from twinloop.contracts.thresholds import TEXT_FILE, TextTold
from twinloop.errors import ConflictError, IntegrityError, NotFoundError
from twinloop.registry.aliases import Move
from twinloop.registry.registry import Registry
from twinloop.systems.moderation.policy import Policy, check_labels
from twinloop.systems.moderation.spec import MEDIA_FILE, POLICY_FILE

_COMPONENT = "text"


def served_policy(registry: Registry) -> bytes | None:
    """Return `policy.json` of the champion; None where its thresholds are its policy. Raises NotFoundError."""
    return registry.read_release(_champion(registry))[_COMPONENT].get(POLICY_FILE)


def change(registry: Registry, *, policy: Policy | None = None, media: bytes | None = None, why: str, by: str) -> Move:
    """Make a release of the champion's model with another policy or list of media, and promote it.

    The registry's history says who did so and why, and `twinloop rollback moderation` takes it back.

    Args:
        registry: Moderation's.
        policy: None leaves it as it is.
        media: `media_hashes.bin`; None leaves it as it is.
        why: Goes into the history.
        by: Whoever does it.

    Raises:
        NotFoundError: Nothing serves yet.
        BadInputError: The policy does not speak of exactly the labels that the model knows.
        ConflictError: The release would be the one that serves, or somebody else moved the champion meanwhile.
    """
    version = _champion(registry)
    manifest, components = registry.release(version), registry.read_release(version)
    files = dict(components[_COMPONENT])
    if policy is not None:
        check_labels(policy, _labels(files))
        files[POLICY_FILE] = policy.model_dump_json(indent=1).encode()
    if media is not None:
        files[MEDIA_FILE] = media
    versions = {**manifest.components, _COMPONENT: registry.register_component(_COMPONENT, files)}
    if versions == manifest.components:
        raise ConflictError(f"the champion {version} has this policy and this list already")
    draft = registry.draft_release(
        rung=manifest.rung, snapshot_id=manifest.snapshot_id, schema_hash=manifest.schema_hash, components=versions
    )
    told = draft.model_copy(update={"metrics": manifest.metrics, "verdict": f"{version} with another policy: {why}"})
    registry.register_release(told, {})
    return registry.promote(told.version, why=why, by=by, expected=version)


def _labels(files: Mapping[str, bytes]) -> tuple[str, ...]:
    try:
        return tuple(TextTold.model_validate_json(files[TEXT_FILE]).labels)
    except (KeyError, ValidationError) as error:
        raise IntegrityError(f"{TEXT_FILE} of the champion cannot be read: {error}") from error


def _champion(registry: Registry) -> str:
    state = registry.alias("champion")
    if state is None:
        raise NotFoundError("moderation has no champion whose policy could change; run `twinloop learn moderation`")
    return state.version
