"""The command: see the package."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import moderation
from benchmarks.clicks import RESULT
from benchmarks.moderation.gate import GATE, GATED, add_gate
from benchmarks.moderation.parts import BESIDE, DATA_SETS, RUNGS, SEEDS, add
from benchmarks.moderation.texts import DATA


def main() -> None:
    """Measure, print and add to the result."""
    parser = argparse.ArgumentParser(
        description=moderation.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds davidson/ and mlma/")
    parser.add_argument("--only", nargs="+", choices=[*DATA_SETS, GATE], default=[*DATA_SETS, GATE])
    parser.add_argument("--rungs", nargs="+", choices=[BESIDE, *RUNGS], default=[BESIDE, *RUNGS])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="each is another tenth to test by")
    parser.add_argument("--gated", nargs="+", choices=list(GATED), default=list(GATED), help="parts that are judged")
    parser.add_argument("--work", type=Path, help="a folder that keeps the gate's reports")
    options = parser.parse_args()
    only = [name for name in options.only if name != GATE]
    add(options.output, options.data, only=only, rungs=options.rungs, seeds=options.seeds)
    if GATE in options.only:
        rungs = [name for name in options.rungs if name in RUNGS]
        add_gate(options.output, options.data, options.work, gated=options.gated, rungs=rungs)


if __name__ == "__main__":
    main()
