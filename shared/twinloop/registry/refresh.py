"""A release with what was learnt as it was, and other items: built of one that serves, and put in its place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from twinloop.contracts.artefacts import ComponentManifest, release_schema
from twinloop.contracts.system import Refresh, Refreshed, System
from twinloop.errors import BadInputError, TwinloopError
from twinloop.ports import ObjectStore
from twinloop.registry.discards import discard
from twinloop.registry.registry import Registry

_LOGGER = logging.getLogger(__name__)
Files = Mapping[str, bytes]
LEAST_SHARE = 0.5
"""Where fewer of a release's items than this are left, something must have gone wrong."""


def refresh(system: System, objects: ObjectStore, asked: Refresh) -> Refreshed:
    """Let the champion serve the items that the lake holds now; repeating it is harmless.

    Then the challenger and the shadow, where there are any: a release that had older items would lose to the champion
    for that alone. Then `previous`, which answers where the champion cannot: with the items of then, it would bring
    back what was deleted. What goes wrong with one of them is logged and said, and so is a release of an earlier
    refresh that could not be discarded: the champion's place in the matter is settled by then.

    Args:
        system: One with `refresh`.
        objects: Where `lake/` and `registry/` are.
        asked: By whom, and how; `alias` is not looked at.

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
    registry = Registry(objects, name)
    champion = registry.alias("champion")
    if champion is None:
        return Refreshed(None, 0, 0, f"nothing was learnt yet, so nothing serves: twinloop learn {name}")
    made = system.refresh(objects, replace(asked, alias="champion"))
    others, failed = _others(system, objects, asked, registry, {champion.version: made.version})
    said = [made.said, *others, *_discarded(name, objects, asked)]
    return made._replace(said="; ".join(said), failed=failed)


def _others(
    system: System, objects: ObjectStore, asked: Refresh, registry: Registry, following: dict[str, str | None]
) -> tuple[list[str], tuple[str, ...]]:
    """Refresh challenger, shadow and previous; returns what came of it, in words, and of which nothing did.

    `following`: what was refreshed already -> the release in its place, None where nothing has changed.
    """
    said, failed = [], []
    for alias in ("challenger", "shadow", "previous"):
        try:
            state = registry.alias(alias)
            if state is None or (alias == "previous" and _same_models(registry, "champion", state.version)):
                continue
            if state.version not in following and system.refresh is not None:
                made = system.refresh(objects, replace(asked, alias=alias))
                following[state.version] = made.version
                said.append(f"{alias}: {made.said}")
            elif (version := following[state.version]) is not None:
                why = f"the release that {state.version} was refreshed to"
                _move(registry, alias, version, of=state.version, why=why, by=asked.by)
                said.append(f"{alias}: {version} serves, too")
        except Exception as error:
            _LOGGER.exception("the %s of %s was not refreshed", alias, system.spec.name)
            said.append(f"{alias}: not refreshed, {_told(error)}")
            failed.append(alias)
    return said, tuple(failed)


def _same_models(registry: Registry, alias: str, version: str) -> bool:
    """Return whether a release has the models of the one that an alias names, whatever their items."""
    state = registry.alias(alias)
    return state is not None and registry.release(state.version).learnt_as == registry.release(version).learnt_as


def _move(registry: Registry, alias: str, to: str, *, of: str, why: str, by: str) -> None:
    """Let an alias name what the release `of`, which it names, was refreshed to; raises as `Registry.move_alias`."""
    if alias == "previous":
        registry.move_previous(to, why=why, by=by, expected=of)
    else:
        keep = alias == "champion" and not _is_previous(registry, of)
        registry.move_alias(alias, to, why=why, by=by, expected=of, keep_previous=keep)


def _is_previous(registry: Registry, champion: str) -> bool:
    """Return whether `previous` has the champion's models; where it cannot be read, it is taken for others."""
    try:
        return _same_models(registry, "previous", champion)
    except TwinloopError:
        return False


def _discarded(name: str, objects: ObjectStore, asked: Refresh) -> list[str]:
    """Discard what earlier refreshes made and nobody needs any more; returns what came of it, in words."""
    try:
        gone = discard(objects, name, before=asked.now() - asked.keep)
    except Exception as error:
        _LOGGER.exception("earlier releases of %s were not discarded; the next refresh goes on", name)
        return [f"earlier releases were not discarded, {_told(error)}"]
    return [f"{len(gone)} releases of earlier refreshes were discarded"] if gone else []


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, TwinloopError) else repr(error)


def check_left(left: int, of: int, least_share: float) -> None:
    """Raise BadInputError where so few of a release's items are left that it must be an accident."""
    if left < least_share * of:
        raise BadInputError(
            f"only {left} of the {of} items that serve are among those of the lake; if that is meant, say so "
            "(twinloop refresh SYSTEM --least-share 0.1) or learn anew (twinloop learn SYSTEM)"
        )


def put_in_place(
    registry: Registry,
    alias: str,
    of: str,
    components: Mapping[str, Files],
    check: Callable[[Mapping[str, Files]], None],
    *,
    words: str,
    by: str,
) -> str:
    """Register a release of another one's models, let the alias name it instead, and return its version.

    As the champion moves `previous` stays where it is: it is there for a champion whose models are bad, and these have
    the same. Where `previous` has the same as well, such as after the first learning, it is the release before.

    Args:
        registry: Of the system.
        alias: Any.
        of: The version that it was built of, which the alias names.
        components: All of them, component -> file -> bytes.
        check: Is given them, and raises where they cannot be served.
        words: What is new, for the registry's history.
        by: Who does it.

    Raises:
        ConflictError: Somebody else moved the alias meanwhile; their release stays.
        IntegrityError: As `check` says, or a component is not whole.
    """
    manifest = registry.release(of)
    check(components)
    versions = {name: registry.register_component(name, files) for name, files in components.items()}
    manifests = (ComponentManifest.model_validate_json(files["manifest.json"]) for files in components.values())
    draft = registry.draft_release(
        rung=manifest.rung,
        snapshot_id=manifest.snapshot_id,
        schema_hash=release_schema(manifests),
        components=versions,
        refreshed_from=manifest.learnt_as,
    )
    why = f"{words}; models of {of}"
    registry.register_release(draft.model_copy(update={"verdict": why}), {})
    _move(registry, alias, draft.version, of=of, why=why, by=by)
    return draft.version
