"""Run every budget's benchmark: `python -m benchmarks [NAME ...]`. Each script writes its result beside itself.

Only where they are named run `scale` (the whole loop on 100,000 users, 100,000 items and ten million events), which
takes over ten minutes, and `cold_start`, whose own command also takes `--kuairand FOLDER`, a data set that has to be
there. `python -m benchmarks.quality` (models on public data) is apart: it deploys a local cloud of its own.
"""

import argparse
import subprocess
import sys

SCRIPTS = ("etl", "asof", "snapshot", "serving", "first_prediction", "simulator", "features", "gap")
NAMED = ("cold_start", "scale")


def main() -> None:
    """Run the scripts one after the other; the machine belongs to one at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", choices=[*SCRIPTS, *NAMED, []], help="By default all but cold_start and scale."
    )
    for name in parser.parse_args().names or SCRIPTS:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)  # noqa: S603 - our own scripts


if __name__ == "__main__":
    main()
