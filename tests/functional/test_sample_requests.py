"""Each sample request is answered by the handler `serve` of its system, by a release of it."""

import json
from pathlib import Path

import pytest
import tiny_releases
from played_aws import function

ROOT = Path(__file__).resolve().parents[2]
FILES = {"ads": "predictions", "search": "results", "moderation": "decisions", "suggestions": "suggestions"}
TOLD = {"ads": "ads", "search": "items", "moderation": "decisions", "suggestions": "events"}


@pytest.mark.parametrize("system", FILES)
def test_the_request_is_answered(system, bucket, monkeypatch):
    monkeypatch.setenv("TWINLOOP_SYSTEM", system)
    made = tiny_releases.serving(system)
    for key in made.keys(""):
        bucket.write(key, made.read(key).body)
    sample = json.loads((ROOT / "events" / "serve" / f"{FILES[system]}.json").read_text())
    assert sample["path"].startswith(f"/v1/{system}/")
    response = function("serve")(sample)
    answer = json.loads(response["body"])
    assert response["statusCode"] == 200, answer
    assert (answer["arm"], answer["degraded"]) == ("champion", False)
    assert answer[TOLD[system]]
