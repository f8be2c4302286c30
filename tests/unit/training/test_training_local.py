"""The local runner: the job's own train.py on a throw-away base folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinloop.training.local import main

JOB = """
import json, os, pathlib, sys
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
told = json.loads((base / "input/config/hyperparameters.json").read_text())
(base / "model/part").mkdir(parents=True)
(base / "model/part/told.json").write_text(json.dumps([told, (base / "input/data/snapshot/x").read_text()]))
sys.exit(int(told.get("code", 0)))
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str, str]:
    for name in ("job", "snapshot"):
        (tmp_path / name).mkdir()
    (tmp_path / "job" / "train.py").write_text(JOB)
    (tmp_path / "snapshot" / "x").write_text("data")
    return str(tmp_path / "job"), str(tmp_path / "snapshot"), str(tmp_path / "out")


def test_the_model_is_left_in_the_output_folder(folders: tuple[str, str, str]) -> None:
    job, snapshot, out = folders
    assert main([job, "--snapshot", snapshot, "--output", out, "--set", "a=1=2", "--set", "b"]) == 0
    assert (Path(out) / "part" / "told.json").read_text() == '[{"a": "1=2", "b": ""}, "data"]'


def test_a_failed_job_leaves_nothing_and_gives_its_code(folders: tuple[str, str, str]) -> None:
    job, snapshot, out = folders
    assert main([job, "--snapshot", snapshot, "--output", out, "--set", "code=3"]) == 3
    assert not Path(out).exists()


@pytest.mark.parametrize(("missing", "said"), [(0, "has no train.py"), (1, "is no folder")])
def test_what_is_not_there_is_said(
    missing: int, said: str, folders: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    places = [*folders]
    places[missing] += "-not"
    with pytest.raises(SystemExit):
        main([places[0], "--snapshot", places[1], "--output", places[2]])
    assert said in capsys.readouterr().err
