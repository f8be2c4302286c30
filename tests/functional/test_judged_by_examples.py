"""A system that learns from labelled examples, from raw rows to what it answers; everything but AWS is real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import notes
import pytest
from deployed_in_memory import MemoryDeployment
from job_files import on_disk, packed

from twinloop.commands.design_card import design_card
from twinloop.commands.evaluate import score
from twinloop.errors import BadInputError
from twinloop.evaluation.messages import JudgeRequest, PromoteRequest
from twinloop.evaluation.run import judge_results, promote
from twinloop.features.materialise import materialise
from twinloop.features.rungs import snapshot_answer
from twinloop.features.snapshot import make_snapshot
from twinloop.features.stores import MemoryOnlineStore
from twinloop.ports import MemoryObjectStore, ObjectStore
from twinloop.registry.registry import Registry
from twinloop.serving.http import Request
from twinloop.serving.loading import load_models
from twinloop.serving.service import make_app


def job(objects: ObjectStore, snapshot_key: str, rung: str, work: Path) -> str:
    """Fetch the snapshot as a training job is given it, train, and leave what a job leaves; returns its key."""
    folder = on_disk(objects, snapshot_key, work / rung / "snapshot", without="test")  # which a job never opens
    notes.write(rung, folder, work / rung / "model")
    key = f"jobs/notes-{rung}/output/model.tar.gz"
    objects.write(key, packed(work / rung / "model"))
    return key


def learn(objects: ObjectStore, work: Path) -> Any:
    """Snapshot, ladder, gate and promotion; returns the gate's answer."""
    answer = snapshot_answer(notes.SYSTEM, make_snapshot(notes.SYSTEM, objects, now=notes.NOW), notes.SYSTEM.spec.rungs)
    results = [
        {
            "rung": rung["name"],
            "status": "Completed",
            "model_key": job(objects, answer["snapshot_key"], rung["name"], work),
        }
        for rung in answer["rungs"]
    ]
    request = JudgeRequest(system="notes", snapshot_key=answer["snapshot_key"], results=results)
    verdict = judge_results(request, objects, notes.SYSTEM, load_models, clock=lambda: notes.NOW)
    if verdict.promote:
        promote(
            PromoteRequest(
                action="promote", system="notes", version=verdict.version, why="w", champion=verdict.champion
            ),
            objects,
        )
    return verdict


def test_it_is_trained_judged_promoted_and_answers(tmp_path: Path) -> None:
    objects = MemoryObjectStore()
    receipts = notes.deliver(objects, notes.world())
    assert sum(sum(receipt.quarantined.values()) for receipt in receipts) == 0
    verdict = learn(objects, tmp_path)
    assert (verdict.promote, verdict.rung) == (True, "words"), verdict.verdict
    record = json.loads(objects.read(verdict.report_key.replace(".html", ".json")).body)
    words = next(entry for entry in record["candidates"] if entry["rung"] == "words")
    assert words["metrics"]["quality"]["mean"] > 0.9
    assert learn(objects, tmp_path / "again").promote is False  # the same again earns nothing

    histories = MemoryOnlineStore()
    assert materialise(notes.SYSTEM, objects, histories) == {"system": "notes", "users": 0}
    app = make_app(notes.SYSTEM, objects, histories, None, look_every_s=3600, now=lambda: notes.NOW)
    body = {"texts": ["offer offer lunch", "lunch report"]}
    response = app(
        Request("POST", "/v1/notes/chances", {"content-type": "application/json"}, json.dumps(body).encode())
    )
    told = json.loads(response.body)
    assert (response.status, told["model_version"], told["degraded"]) == (200, verdict.version, False)
    predictor = notes.Predictor(load_models(Registry(objects, "notes").read_release(verdict.version)))
    assert told["chances"] == pytest.approx(predictor.chances(body["texts"]).tolist())
    assert told["chances"][0] > told["chances"][1] + 0.5


def test_a_file_of_labels_is_evaluated_in_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, register: Any
) -> None:
    place = MemoryDeployment()
    notes.deliver(place.store, notes.world())
    verdict = learn(place.store, tmp_path)
    register(notes.SYSTEM)
    place.enter(monkeypatch, make_app(notes.SYSTEM, place.store, None, None, look_every_s=3600))
    rows = [
        {"item_id": f"x{n}", "aside": bool(n % 2), "time": "2025-06-20T10:00:00Z"}
        | {"text": "offer offer" if n % 2 else "lunch"}
        for n in range(20)
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"item_id": "bad"}]), encoding="utf-8")
    for api in (False, True):
        found = score(place, "notes", path, api=api)
        assert (found["release"], found["cases"], found["rows"]) == (verdict.version, 20, 20)
        assert found["metrics"]["quality"]["mean"] > 0.95
        assert sum(found["rejected_rows"].values()) == 1
    path.write_text(json.dumps({"item_id": "x", "aside": True, "time": "2025-06-20T10:00:00Z"}), encoding="utf-8")
    with pytest.raises(BadInputError, match=r"labels\.jsonl has no case"):
        score(place, "notes", path)


def test_its_card_tells_what_it_learns_from() -> None:
    page = design_card(notes.SYSTEM, {})
    assert "Labelled examples, made of items, users, events, labels. At most 40 groups of them are judged." in page
    assert "| labels | item_id, reviewer, time |" in page
    assert "| strategy | by_group |  |" in page
    assert "minimum events" not in page
