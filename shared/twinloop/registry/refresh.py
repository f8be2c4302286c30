"""A release with what was learnt as it was, and other items: built of the champion, and put in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twinloop.contracts.artefacts import ComponentManifest, release_schema
from twinloop.contracts.system import Refresh, Refreshed, System
from twinloop.errors import BadInputError
from twinloop.ports import ObjectStore
from twinloop.registry.registry import Registry

Files = Mapping[str, bytes]
LEAST_SHARE = 0.5
"""Where fewer of the champion's items than this are left, something must have gone wrong."""


def refresh(system: System, objects: ObjectStore, asked: Refresh) -> Refreshed:
    """Let the champion serve the items that the lake holds now; repeating it is harmless.

    Args:
        system: One with `refresh`.
        objects: Where `lake/` and `registry/` are.
        asked: By whom, and how.

    Raises:
        BadInputError: The system's releases hold no items, or so few are left that something must have gone wrong.
        ConflictError: Somebody else moved the champion meanwhile; their release stays.
        IntegrityError: The champion cannot be read, or a proof fails.
    """
    name = system.spec.name
    if system.refresh is None:
        raise BadInputError(
            f"releases of {name} hold no items that could be refreshed; learn anew: twinloop learn {name}"
        )
    if Registry(objects, name).alias("champion") is None:
        return Refreshed(None, 0, 0, f"nothing was learnt yet, so nothing serves: twinloop learn {name}")
    return system.refresh(objects, asked)


def check_left(left: int, of: int, least_share: float) -> None:
    """Raise BadInputError where so few of the champion's items are left that it must be an accident."""
    if left < least_share * of:
        raise BadInputError(
            f"only {left} of the {of} items that serve are among those of the lake; if that is meant, say so "
            "(twinloop refresh SYSTEM --least-share 0.1) or learn anew (twinloop learn SYSTEM)"
        )


def put_in_place(
    registry: Registry,
    champion: str,
    components: Mapping[str, Files],
    check: Callable[[Mapping[str, Files]], None],
    *,
    words: str,
    by: str,
) -> str:
    """Register a release of a champion's models, make it the champion, and return its version.

    `previous` stays where it is: it is there for a champion whose models are bad, and these have the same.

    Args:
        registry: Of the system.
        champion: The version that it was built of.
        components: All of them, component -> file -> bytes.
        check: Is given them, and raises where they cannot be served.
        words: What is new, for the registry's history.
        by: Who does it.

    Raises:
        ConflictError: Somebody else moved the champion meanwhile; their release stays.
        IntegrityError: As `check` says, or a component is not whole.
    """
    manifest = registry.release(champion)
    check(components)
    versions = {name: registry.register_component(name, files) for name, files in components.items()}
    manifests = (ComponentManifest.model_validate_json(files["manifest.json"]) for files in components.values())
    draft = registry.draft_release(
        rung=manifest.rung,
        snapshot_id=manifest.snapshot_id,
        schema_hash=release_schema(manifests),
        components=versions,
    )
    why = f"{words}; models of {champion}"
    registry.register_release(draft.model_copy(update={"verdict": why}), {})
    registry.promote(draft.version, why=why, by=by, expected=champion, keep_previous=True)
    return draft.version
