"""Versions, aliases, lineage, rollback: what was trained, what serves, and who decided so."""

from twinloop.registry.aliases import UNSET, AliasState, Move, Unset
from twinloop.registry.artefacts import Artefact, Limits, check_components, read_artefact
from twinloop.registry.overview import Measured, ReleaseRow, release_rows
from twinloop.registry.registry import Registry, utc_now

__all__ = [
    "UNSET",
    "AliasState",
    "Artefact",
    "Limits",
    "Measured",
    "Move",
    "Registry",
    "ReleaseRow",
    "Unset",
    "check_components",
    "read_artefact",
    "release_rows",
    "utc_now",
]
