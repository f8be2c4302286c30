"""Run every budget's benchmark: `python -m benchmarks`. Each script writes its result beside itself.

`python -m benchmarks.quality` (models on public data) is apart: it deploys a local cloud of its own.
"""

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("etl", "asof", "snapshot", "serving", "first_prediction")


def main() -> None:
    """Run the scripts one after the other; the machine belongs to one at a time."""
    folder = Path(__file__).parent
    for name in SCRIPTS:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, str(folder / f"{name}.py")], check=True)  # noqa: S603 - our own scripts


if __name__ == "__main__":
    main()
