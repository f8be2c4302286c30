"""The offline loop on the deployed state machine: what it promoted, how good that is, and what a failed rung does."""

from __future__ import annotations

import json
import time

import pytest
from deployed import Cloud, Learned, Loaded, wait_for

from twinloop.aws import executions
from twinloop.aws.clients import client
from twinloop.commands import learn
from twinloop.datasets.catalogue import shown_with
from twinloop.registry.overview import release_rows

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_every_rung_was_trained_and_registered(cloud: Cloud, learned: Learned) -> None:
    ladder = shown_with("video").rungs
    assert set(learned.jobs.values()) == {"Completed"}, learned.jobs
    assert len(learned.jobs) == len(ladder)
    rows = release_rows(cloud.place.registry("video"))
    assert {row.rung for row in rows} >= set(ladder), learned.verdict["verdict"]
    assert all(row.usable and row.metrics for row in rows)


def test_the_loop_promoted_a_champion_and_its_report_says_why(cloud: Cloud, learned: Learned) -> None:
    verdict, registry = learned.verdict, cloud.place.registry("video")
    assert verdict["promote"] is True
    first = registry.history()[0]
    assert (first.alias, first.version, first.came_from) == ("champion", verdict["version"], None)
    assert first.why == verdict["verdict"]
    report = cloud.place.store.read(verdict["report_key"]).body.decode()
    assert report.lstrip().lower().startswith("<!doctype html")
    for rung in shown_with("video").rungs:
        assert rung in report
    assert verdict["rung"] in cloud.twinloop("models", "video")


def test_what_the_ranker_adds_to_the_closed_form_was_seen_at_the_gate(cloud: Cloud, learned: Learned) -> None:
    """A ranker that puts its candidates in no order, or in the order in which they came, must not pass here."""
    assert learned.jobs
    rows = {row.rung: row.metrics for row in reversed(release_rows(cloud.place.registry("video")))}
    ranked, closed = rows["xgboost_trees"], rows["ease"]
    # On the gate's own cases the difference was .0115 and .0285 when this was written.
    assert ranked["ndcg@10"].mean >= closed["ndcg@10"].mean + 0.005
    assert ranked["recall@20"].mean >= closed["recall@20"].mean + 0.005


@pytest.mark.parametrize("how", ["--in-process", "--api"])
def test_the_served_release_is_good_on_events_no_job_has_seen(
    cloud: Cloud, loaded: Loaded, learned: Learned, how: str
) -> None:
    found = json.loads(cloud.twinloop("evaluate", "video", "--events", loaded.held_out, how))
    assert found["release"] == learned.verdict["version"]
    assert found["asked"] == how.removeprefix("--").replace("-", " ")
    assert found["cases"] > 900
    assert found["rejected_rows"] == {}
    # The benchmark holds what must be reached; below this something is broken. EASE alone reaches .168 and .244.
    for metric, least in {"ndcg@10": 0.175, "recall@20": 0.252}.items():
        interval = found["metrics"][metric]
        assert interval["low"] < interval["mean"] < interval["high"]
        assert interval["mean"] >= least, found["metrics"]


def test_stopped_jobs_do_not_sink_the_rungs_beside_them(cloud: Cloud, learned: Learned) -> None:
    """The loop once more: the two simplest rungs are trained and judged, the champion is kept or replaced by one."""
    since, place = time.time(), cloud.place
    doomed = ("xgboost-trees", "two-tower")
    arn = learn.start(place, "video", shown_with("video").rungs)
    prefix = f"{place.name}-video-"

    def started() -> list[str]:
        names = [job.name for job in executions.jobs(prefix, since)]
        return [name for rung in doomed for name in names if rung in name]

    stopped = wait_for(lambda: names if len(names := started()) == len(doomed) else None, 180, "jobs have started")
    for name in stopped:
        client("sagemaker").stop_training_job(TrainingJobName=name)
    ended = wait_for(lambda: found if (found := executions.describe(arn)).ended else None, 240, "the loop has ended")
    assert ended.status == "SUCCEEDED", ended.cause
    assert ended.output is not None
    verdict = ended.output["verdict"]
    for rung in ("xgboost_trees", "two_tower"):
        assert f"{rung} could not be judged" in verdict
    champion = place.registry("video").alias("champion")
    assert champion is not None
    assert champion.version == (ended.output["version"] if ended.output["promote"] else learned.verdict["version"])
    assert cloud.recommend("196")["items"]
