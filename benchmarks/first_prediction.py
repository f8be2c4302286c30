"""From `make up` to the first prediction of a model trained on MovieLens-100K: seconds by step of `twinloop demo`.

    python -m benchmarks.first_prediction [--out benchmarks/first_prediction.json]

It runs the demo on a local cloud of its own and ends that again. Installs are aside: the environments are there before.
Packaging the functions and their layers counts where the build is not up to date; `packaged` tells whether it was done.
TWINLOOP_STACK, TWINLOOP_PORT and TWINLOOP_SAGEMAKER_PORT move the cloud from 4596 and 4600.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from twinloop_local import LocalSettings
from twinloop_local.deploy import build_folder

ROOT = Path(__file__).resolve().parents[1]
CLOUD = {"TWINLOOP_STACK": "twinloop-first", "TWINLOOP_PORT": "4596", "TWINLOOP_SAGEMAKER_PORT": "4600"}
STEPS = ("cloud", "data", "load", "learn", "ask")
BUDGET_S = 300


def main() -> None:
    """Run the demo, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    twinloop("down")  # what is up, or was learned before, would make it quicker than it is
    load, built = os.getloadavg()[0], packaged_at()
    try:
        twinloop("demo", "video")
        facts = json.loads((ROOT / "build" / "demo.json").read_text(encoding="utf-8"))
    finally:
        twinloop("down")
    report = {"command": "python -m benchmarks.first_prediction", **measured(facts["seconds"])}
    report["packaged"] = packaged_at() != built
    report["champion"] = facts["champion"]["rung"]
    report["machine"] = {"cpus": os.cpu_count(), "system": platform.platform(), "load_before": round(load, 1)}
    report["versions"] = {"python": platform.python_version()}
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


def measured(seconds: dict[str, float]) -> dict[str, object]:
    """Return the sum over the demo's steps; a demo that did not start from nothing is none."""
    missing = [step for step in STEPS if step not in seconds]
    if missing:
        sys.exit(f"the demo did not do: {', '.join(missing)}; it must start from nothing")
    total = round(sum(seconds[step] for step in STEPS), 1)
    return {"seconds": total, "budget_seconds": BUDGET_S, "within": total <= BUDGET_S, "steps": seconds}


def packaged_at() -> float | None:
    """Return when the build that is there was made."""
    made = build_folder(LocalSettings.from_environment(ROOT)).parent / "fingerprint"
    return made.stat().st_mtime if made.exists() else None


def twinloop(*arguments: str) -> None:
    """Run a command as in a fresh shell, on the cloud of this benchmark."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [str(Path(sys.executable).with_name("twinloop")), *arguments]
    subprocess.run(command, check=True, env=CLOUD | own, cwd=ROOT)  # noqa: S603 - our own command


if __name__ == "__main__":
    main()
