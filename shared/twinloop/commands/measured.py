"""What was measured (benchmarks/*.json) as Markdown, whatever was measured.

A file is one JSON object. `command`, `budget`, `machine`, `versions` and `load` say how it came about (without a
command, the script of the same name did it). `systems`, at the top or in a section, says which systems it is about;
without it all are. Of the rest, objects with the same members become the rows of a table, and `x`, `x low` and `x high`
one cell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinloop.errors import BadInputError

_ABOUT = ("command", "budget", "machine", "versions", "load", "systems")
_LOW, _HIGH = " low", " high"


def measured(folder: Path, system: str) -> dict[str, str]:
    """Return Markdown by the name of each file that is about a system; raises BadInputError for one that is no JSON."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadInputError(f"{path}: is no JSON ({error}); write it anew with its benchmark") from error
        if isinstance(report, Mapping) and _is_about(report, system):
            if path.with_suffix(".py").exists():
                report = {"command": f"python {folder.name}/{path.stem}.py", **report}
            found[path.stem] = "\n".join([*_caption(report), *_section(report, system)]).rstrip() + "\n"
    return found


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a Markdown table, and an empty one."""
    lines = [_row(headings), "|" + "---|" * len(headings), *(_row(row) for row in rows)]
    return [*lines, ""]


def cell(value: Any) -> str:
    """Return a value as one reads it; nothing for None."""
    match value:
        case None:
            return ""
        case bool() | int() | float():
            return _number(value)
        case Mapping():
            return ", ".join(f"{_words(name)} {cell(member)}" for name, member in value.items())
        case list() | tuple():
            return ", ".join(map(cell, value))
        case _:
            return str(value)


def _number(value: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    # 30 for 30.0, 0.00002 for 2e-05
    return f"{value:,.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"


def _row(values: Sequence[Any]) -> str:
    return "| " + " | ".join(cell(value).replace("|", "\\|").replace("\n", " ") for value in values) + " |"


def _is_about(section: Mapping[str, Any], system: str) -> bool:
    return system in section.get("systems", (system,))


def _caption(report: Mapping[str, Any]) -> list[str]:
    about = {name: report[name] for name in _ABOUT if name in report and name != "systems"}
    command = about.pop("command", None)
    told = [f"`{command}`"] if command else []
    told += [f"{_words(name)}: {cell(value)}" for name, value in about.items()]
    return ["; ".join(told) + ".", ""] if told else []


def _section(section: Mapping[str, Any], system: str) -> list[str]:
    """Return a section's figures: single ones, then tables, then what has sections of its own."""
    members = {name: value for name, value in section.items() if name not in _ABOUT}
    single = {name: value for name, value in members.items() if not isinstance(value, Mapping)}
    objects = {
        name: value for name, value in members.items() if isinstance(value, Mapping) and _is_about(value, system)
    }
    flat = {name: _merged(value) for name, value in objects.items() if _is_flat(value)}
    lines = [f"- {_words(name)}: {cell(value)}" for name, value in _merged(single).items()]
    tables: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for name, value in flat.items():
        tables.setdefault(tuple(value), {})[name] = value
    alone = {name: value for rows in tables.values() if len(rows) == 1 for name, value in rows.items()}
    lines += [f"- {_words(name)}: {cell(value)}" for name, value in alone.items()]
    lines += [""] if lines else []
    for columns, rows in tables.items():
        if len(rows) > 1:
            headings = ["", *map(_words, columns)]
            lines += table(headings, [[_words(name), *row.values()] for name, row in rows.items()])
    for name, inner in objects.items():
        if name not in flat:
            lines += [f"**{_words(name)}**", "", *_section(inner, system)]
    return lines


def _is_flat(value: Mapping[str, Any]) -> bool:
    return not any(isinstance(member, Mapping) for member in value.values())


def _merged(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put intervals into the cells of what they are of."""
    merged: dict[str, Any] = {}
    for name, value in values.items():
        if name == "systems":
            continue
        low, high = values.get(name + _LOW), values.get(name + _HIGH)
        of = name.removesuffix(_LOW).removesuffix(_HIGH)
        if of != name and of in values:
            continue
        merged[name] = value if low is None or high is None else f"{cell(value)} ({cell(low)} to {cell(high)})"
    return merged


def _words(name: str) -> str:
    return name.replace("_", " ")
