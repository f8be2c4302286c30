"""One judgement from end to end: read, replay, judge, register, report. And the promotion that may follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from twinloop.contracts.artefacts import ReleaseManifest
from twinloop.contracts.system import System
from twinloop.evaluation.candidates import Load, carried_files, judge_champion, judge_result, open_bench
from twinloop.evaluation.gate import judge
from twinloop.evaluation.messages import JudgeAnswer, JudgeRequest, PromoteAnswer, PromoteRequest
from twinloop.evaluation.record import release_metrics, verdict_record
from twinloop.evaluation.report import Occasion, render
from twinloop.evaluation.verdict import FailedRung, Verdict
from twinloop.ports import ObjectStore
from twinloop.registry.aliases import UNSET
from twinloop.registry.registry import Registry, utc_now


def judge_results(
    request: JudgeRequest,
    store: ObjectStore,
    system: System,
    load: Load,
    *,
    clock: Callable[[], datetime] = utc_now,
) -> JudgeAnswer:
    """Judge what the ladder's jobs left, register every judged candidate, and write the report.

    Moves no alias. Repeating it is harmless: components and releases keep their versions, a report is added.

    Args:
        request: Which snapshot, how each rung's training ended, and which were not trained.
        store: The data bucket.
        system: Whose spec, predictor and judge are used.
        load: Opens models as serving does.
        clock: Now, with a time zone.

    Raises:
        NotFoundError, IntegrityError, BadInputError: The snapshot cannot be used, or nobody can read what people wrote
            beside the champion.
        UnavailableError: The store did not answer; try again.
    """
    registry = Registry(store, system.spec.name, clock=clock)
    serving = registry.alias("champion")
    carried = carried_files(system, registry, serving.version if serving else None)
    bench = replace(open_bench(store, system, load, request.snapshot_key), carried=carried)
    outcomes = [judge_result(result, bench, store, registry) for result in request.results]
    champion, notes = judge_champion(bench, registry, serving.version) if serving else (None, [])
    failed = [outcome for outcome in outcomes if isinstance(outcome, FailedRung)]
    failed += [FailedRung(entry.rung, entry.reason) for entry in request.left_out]
    verdict = judge(
        system.spec.gate,
        system.spec.rungs,
        [outcome[0] for outcome in outcomes if not isinstance(outcome, FailedRung)],
        champion=champion,
        failed=failed,
        data_age_days=(clock() - _aware(bench.snapshot.last_event)).total_seconds() / 86400,
        notes=notes,
    )
    occasion = Occasion(system.spec.name, bench.snapshot, clock())
    page = render(verdict, occasion).encode()
    drafts = [outcome[1] for outcome in outcomes if not isinstance(outcome, FailedRung)]
    _register(registry, verdict, drafts, page)
    return JudgeAnswer(
        promote=verdict.promote,
        version=verdict.version,
        rung=verdict.rung,
        verdict=verdict.words,
        report_key=_write_report(store, verdict, occasion, page),
        champion=serving.version if serving else None,
    )


def promote(request: PromoteRequest, store: ObjectStore, *, clock: Callable[[], datetime] = utc_now) -> PromoteAnswer:
    """Make the judged release the champion.

    Raises:
        NotFoundError, IntegrityError: The release is not whole.
        ConflictError: Somebody else moved the champion since the judgement, or at this moment.
    """
    registry = Registry(store, request.system, clock=clock)
    expected = request.champion if "champion" in request.model_fields_set else UNSET
    current = registry.alias("champion")
    if current and current.version == request.version:
        expected = UNSET  # an earlier try of this request has done it
    move = registry.promote(request.version, why=request.why, by=request.by, expected=expected)
    return PromoteAnswer(version=request.version, previous=move.came_from)


def _register(registry: Registry, verdict: Verdict, drafts: Sequence[ReleaseManifest], page: bytes) -> None:
    by_version = {draft.version: draft for draft in drafts}
    for entry in verdict.judged:
        won = verdict.promote and entry.version == verdict.version
        manifest = by_version[entry.version].model_copy(
            update={
                "metrics": {name: interval.mean for name, interval in entry.measured.metrics.items()},
                "verdict": verdict.words if won else f"{entry.rung.name} {entry.standing}",
            }
        )
        registry.register_release(manifest, {"metrics.json": release_metrics(verdict, entry), "card.html": page})


def _write_report(store: ObjectStore, verdict: Verdict, occasion: Occasion, page: bytes) -> str:
    """Keep the report of every judgement, also of one that left no release to put it beside."""
    when = f"{occasion.judged_at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"
    base = f"registry/{occasion.system}/release/judgements/{when}-{occasion.snapshot.snapshot_id[:16]}"
    about = {
        "system": occasion.system,
        "snapshot_id": occasion.snapshot.snapshot_id,
        "judged_at": occasion.judged_at.isoformat(),
    }
    store.write(f"{base}.json", verdict_record(verdict, about), content_type="application/json")
    store.write(f"{base}.html", page, content_type="text/html; charset=utf-8")
    return f"{base}.html"


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
