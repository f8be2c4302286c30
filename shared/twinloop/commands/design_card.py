"""A system's design card in its six steps, written from what the code says and what was measured."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel

from twinloop.commands.measured import table
from twinloop.contracts.features import Feature
from twinloop.contracts.model import Contract, identity
from twinloop.contracts.system import System

_WIDTH = 120
_QUALITY = "quality"  # reports whose names begin so are about models; all others are about running them
_TOLD = {"name", "entity", "kind", "window_days", "default", "time_to_live_days", "owner", "description"}


def design_card(system: System, measured: Mapping[str, str]) -> str:
    """Return a system's card as Markdown; `measured` has Markdown by the name of each benchmark."""
    spec = system.spec
    quality = {name: text for name, text in measured.items() if name.startswith(_QUALITY)}
    running = {name: text for name, text in measured.items() if name not in quality}
    lines = [
        f"# {spec.name}: design card",
        "",
        f"<!-- Written by `twinloop card {spec.name} --write` from the system's code and benchmarks/*.json. "
        "Change those. -->",
        "",
        *_step("1. Requirements", spec.requirements),
        f"Asked by `POST /v1/{spec.name}/{spec.verb}`.",
        "",
        *_step("2. Framing", spec.framing),
        f"What decides between models is {spec.gate.primary}.",
        "",
        *_step("3. Data", spec.data),
        *_tables(system),
        *_examples(system),
        *_settings("How a snapshot is divided", spec.split, but=("minimum_events",) if system.examples else ()),
        *_features(system),
        *_step("4. Architecture", spec.architecture),
        *_ladder(system),
        *_presets(system),
        *_step("5. Evaluation", spec.evaluation),
        *_settings("The gate", spec.gate),
        *_measured(quality),
        *_step("6. Deployment and monitoring", spec.deployment),
        *_measured(running),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _step(title: str, text: str) -> list[str]:
    wrapped = [
        textwrap.fill(part, _WIDTH, break_long_words=False, break_on_hyphens=False) for part in text.split("\n\n")
    ]
    return [f"## {title}", "", *"\n\n".join(wrapped).splitlines(), ""]


def _tables(system: System) -> list[str]:
    def columns(contract: type[Contract]) -> str:
        return ", ".join(f"{name}{'' if field.is_required() else '?'}" for name, field in contract.model_fields.items())

    rows = [[name, f"`{columns(contract)}`"] for name, contract in system.tables.items()]
    return ["### Raw tables", "", *table(["table", "columns (`?`: may be missing)"], rows)]


def _examples(system: System) -> list[str]:
    examples = system.examples
    if examples is None:
        return []
    made_of = ", ".join(table for table in ("items", "users", "events", *examples.tables) if table in system.tables)
    rows = [[name, ", ".join(identity(contract)) or "all columns"] for name, contract in system.tables.items()]
    return [
        "### What is learnt from",
        "",
        f"Labelled examples, made of {made_of}. At most {examples.most_cases:,} groups of them are judged.",
        "",
        *table(["table", "a row is known again by"], rows),
    ]


def _settings(title: str, settings: BaseModel, *, but: Sequence[str] = ()) -> list[str]:
    rows = [
        [name.replace("_", " "), told, type(settings).model_fields[name].description]
        for name, told in _flat(settings)
        if told not in (None, "", ()) and name not in but
    ]
    return [f"### {title}", "", *table(["", "", ""], rows)]


def _flat(settings: BaseModel) -> Iterable[tuple[str, object]]:
    """Yield the settings by name, prices and the like as one value each."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        yield name, value.model_dump() if isinstance(value, BaseModel) else value


def _features(system: System) -> list[str]:
    counted = system.counting.features if system.counting else ()
    asked = {feature.name for feature in system.features}
    features = {feature.name: feature for feature in (*system.features, *counted)}
    if not features:
        return []
    headings = ["feature", "of", "kind", "made of", "window, days", "default", "fresh for, days", "owner", "meaning"]
    rows = [_feature(feature, asked=feature.name in asked) for feature in features.values()]
    note = (
        "Those in bold are known of every event, and what retrieves and ranks is asked with them. The others are known "
        "of every impression, and what predicts outcomes is asked with those of them that are single numbers."
    )
    return ["### Features", "", *([note, ""] if len(asked) < len(features) else []), *table(headings, rows)]


def _feature(feature: Feature, *, asked: bool) -> Sequence[object]:
    others = feature.model_dump(exclude=_TOLD, exclude_defaults=True)
    name = f"**{feature.name}**" if asked else feature.name
    window = "all" if feature.window_days is None else feature.window_days
    about = [name, feature.entity.replace("_", " and "), feature.kind, others, window]
    return [*about, feature.default, feature.time_to_live_days, feature.owner, feature.description]


def _ladder(system: System) -> list[str]:
    headings = ["rung", "complexity", "container", "machine", "asked for besides what it costs", "settings", "needs"]
    rows = [
        [
            rung.name,
            rung.complexity,
            rung.framework,
            rung.instance_type,
            rung.extra_margin or None,
            ", ".join(f"{name} {value}" for name, value in rung.hyperparameters.items()),
            ", ".join(rung.needs),
        ]
        for rung in system.spec.rungs
    ]
    return ["### The ladder", "", *table(headings, rows)]


def _presets(system: System) -> list[str]:
    if not system.presets:
        return []
    rows = list(system.presets.items())
    return ["### Presets of the policy, the default first", "", *table(["preset", "what it is for"], rows)]


def _measured(reports: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for name, text in reports.items():
        lines += [f"### Measured: {name.replace('_', ' ')}", "", *text.splitlines(), ""]
    return lines
