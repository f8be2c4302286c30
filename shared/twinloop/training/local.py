"""Run a training job on a folder: `python -m twinloop.training.local training_jobs/ease --snapshot DIR --output DIR`.

The job's own train.py runs, by the same contract as in a SageMaker container, on a throw-away base folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the job; returns the job's exit code."""
    parser = argparse.ArgumentParser(prog="python -m twinloop.training.local", description=__doc__)
    parser.add_argument("job", type=Path, help="a folder under training_jobs/")
    parser.add_argument("--snapshot", type=Path, required=True, help="a snapshot's folder")
    parser.add_argument("--output", type=Path, required=True, help="where the model's components go")
    parser.add_argument("--champion", type=Path, help="a component's folder to go on learning from")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter")
    options = parser.parse_args(arguments)
    if not (options.job / "train.py").is_file():
        parser.error(f"{options.job} has no train.py")
    if not options.snapshot.is_dir():
        parser.error(f"{options.snapshot} is no folder")
    if options.champion is not None and not options.champion.is_dir():
        parser.error(f"{options.champion} is no folder")
    values = dict(entry.split("=", 1) if "=" in entry else (entry, "") for entry in options.set)
    return run(options.job, options.snapshot, options.output, values, champion=options.champion)


def run(
    job: Path, snapshot: Path, output: Path, hyperparameters: dict[str, str], *, champion: Path | None = None
) -> int:
    """Run the job's train.py as a process; returns its exit code. The reason of a failure is on standard error."""
    with tempfile.TemporaryDirectory(prefix="twinloop-job-") as place:
        base = Path(place)
        (base / "input" / "config").mkdir(parents=True)
        (base / "input" / "data").mkdir()
        for channel, folder in (("snapshot", snapshot), ("champion", champion)):
            if folder is not None:
                (base / "input" / "data" / channel).symlink_to(folder.resolve(), target_is_directory=True)
        (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))
        environment = {**os.environ, "SAGEMAKER_BASE_DIR": place}
        command = [sys.executable, str(job.resolve() / "train.py")]
        code = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - the caller's own job
        if code == 0:
            output.mkdir(parents=True, exist_ok=True)
            shutil.copytree(base / "model", output, dirs_exist_ok=True)
        return code


if __name__ == "__main__":
    sys.exit(main())
