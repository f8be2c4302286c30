"""`twinloop data`, `load`, `lake`, `replay`: raw data in, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinloop.commands.screen import console, plainly
from twinloop.datasets.movielens import write_movielens_100k
from twinloop.errors import NotFoundError

_DATASETS = {"movielens-100k": write_movielens_100k}


@plainly
def data(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(_DATASETS)}")],
    folder: Annotated[Path, typer.Argument(help="Where the raw tables go.")],
) -> None:
    """Fetch a public data set and write it as raw tables, ready for `twinloop load`."""
    if name not in _DATASETS:
        raise NotFoundError(f"there is no data set {name!r}; known: {', '.join(_DATASETS)}")
    for table, rows in _DATASETS[name](folder).items():
        console.print(f"{folder / table}: {rows:,} rows", highlight=False)
