"""The command: see the package."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks import ads
from benchmarks.ads.choose_live import choose_live
from benchmarks.ads.models import RUNGS
from benchmarks.ads.parts import PARTS, SIMULATED, measure
from benchmarks.clicks import RESULT


def main() -> None:
    """Measure, print and add to the result."""
    parser = argparse.ArgumentParser(description=ads.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rungs", nargs="+", choices=RUNGS, default=list(RUNGS))
    parser.add_argument("--simulated", type=int, default=SIMULATED, help="showings")
    parser.add_argument("--work", type=Path, help="a folder that keeps what is made on the way")
    parser.add_argument("--choose-live", action="store_true", help="print what live calibration would be set to")
    options = parser.parse_args()
    if options.choose_live:
        with tempfile.TemporaryDirectory(prefix="ads-") as work:
            choose_live(Path(work))
        return
    result = json.loads(options.output.read_text()) if options.output.exists() else {}
    found = measure(options.only, tuple(options.rungs), simulated=options.simulated, work=options.work)
    result["ads"] = result.get("ads", {}) | found
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
