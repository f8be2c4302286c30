"""`twinloop evaluate`: what serves now, against events or labels that it has never seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from twinloop import systems
from twinloop.aws.feature_store import DynamoFeatureStore
from twinloop.aws.online_store import DynamoOnlineStore
from twinloop.commands import api as deployed_api
from twinloop.commands.models import System as SystemName
from twinloop.commands.screen import plainly
from twinloop.commands.target import Deployment, deployment
from twinloop.contracts.artefacts import Case
from twinloop.contracts.history import POSITIVE, History
from twinloop.contracts.system import Evaluation, System
from twinloop.errors import BadInputError, ConflictError, NotFoundError, UnavailableError
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.gate import summarise
from twinloop.evaluation.logged import off_policy, read_log
from twinloop.evaluation.replay import replay
from twinloop.features.stores import Known
from twinloop.serving.releases import ReleaseLoader

_READERS = 16


@plainly
def evaluate(
    system: SystemName,
    events: Annotated[
        Path,
        typer.Option(
            "--events",
            "--labelled",
            help="What the system is judged by (events, labels, judgments) and no job has seen, in any raw format.",
        ),
    ],
    *,
    api: Annotated[bool, typer.Option("--api/--in-process", help="Ask the deployed API, or its code here.")] = False,
    alias: Annotated[
        str | None, typer.Option(help="Which release to judge in process; the champion by default.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="Predictions as they were logged, a file or a folder: estimate what a preset would earn. "
            "For systems whose events say what was liked."
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="With --log: which; the default one if none is named.")] = None,
    explore: Annotated[
        bool, typer.Option("--explore/--no-explore", help="With --log: whether it would try new items out.")
    ] = True,
) -> None:
    """Score the served release on a labelled file; prints one JSON object of metrics with intervals.

    With --log: estimates from what was served and what users then did (inverse propensity, self-normalised, doubly
    robust). The events are those that came of it, with the prediction's id as their request_id. Asks nobody.
    """
    if log is not None:
        if api or alias is not None:
            raise BadInputError("--log asks neither the API nor a release: it reads what they answered")
        typer.echo(json.dumps(from_log(system, log, events, preset=preset, explore=explore), indent=1))
        return
    if preset is not None or not explore:
        raise BadInputError("--preset and --no-explore go with --log")
    typer.echo(json.dumps(score(deployment(), system, events, api=api, alias=alias), indent=1))


def score(place: Deployment, name: str, events: Path, *, api: bool = False, alias: str | None = None) -> dict[str, Any]:
    """Return metrics with intervals, of the deployed API or of its code in this process.

    A user's history is what the online store knows of them; what is right, the system reads out of the file.

    Raises:
        BadInputError: The file cannot be read, or holds nothing to judge by; or an alias is named for the API.
        NotFoundError: Nothing serves yet, or the system has no labelled files.
        ConflictError: The API answered from other releases than the champion.
    """
    if api and alias is not None:
        raise BadInputError("--alias is for --in-process: the API itself decides which release answers")
    alias = alias or "champion"
    system, registry = systems.load(name), place.registry(name)
    state = registry.alias(alias)
    if state is None:
        raise NotFoundError(f"{name} has no {alias} yet; `twinloop learn {name}` makes one")
    if system.evaluation is None:
        raise NotFoundError(f"{name} does not say how labelled events become requests; it cannot be evaluated so")
    # Reading files takes pyarrow, which asking does not.
    from twinloop.commands.labelled import read_labelled  # noqa: PLC0415

    rows, made = read_labelled(system, system.evaluation.table, events)
    cases = list(system.evaluation.cases(rows, _histories(place, name)))
    if not cases:
        what = "positive event on an item that is new to its user" if system.examples is None else "case"
        raise BadInputError(f"{events} has no {what}; nothing to judge by")
    if api:
        scores, asked = _through_the_api(place, system, system.evaluation, cases, expected=state.version)
    else:
        predictor = ReleaseLoader(registry, system.predictor).load(state.version).predictor
        if getattr(predictor, "asks_known", False):
            cases = _with_known(place, system, cases)
        scores, asked = replay(predictor, cases, system.judge), {"asked": "in process"}
    return {
        "system": name,
        "release": state.version,
        "rung": registry.release(state.version).rung,
        **asked,
        "cases": len(cases),
        "confidence": system.spec.gate.confidence,
        "metrics": {metric: asdict(found) for metric, found in summarise(system.spec.gate, scores).items()},
        "latency_ms": {"p50": round(scores.latency(50), 3), "p99": round(scores.latency(99), 3)},
        "rows": sum(made.rows.values()),
        "rejected_rows": made.quarantined,
    }


def from_log(name: str, log: Path, events: Path, *, preset: str | None = None, explore: bool = True) -> dict[str, Any]:
    """Return what a preset would have earned, estimated from logged predictions and the events that came of them.

    Raises:
        BadInputError: A file cannot be read, the system has no such preset, or the log says nothing of it.
        NotFoundError: The system has no presets or no labelled files, or does not say what was liked.
    """
    system = systems.load(name)
    if system.evaluation is None or not system.presets:
        raise NotFoundError(f"{name} has no presets to compare")
    if not system.knows_likes:
        raise NotFoundError(
            f"--log rewards a list by what was liked, and none of {name}'s events says that (the system has no "
            "`strength`); let a challenger serve, and compare what came of the arms"
        )
    wanted = preset or next(iter(system.presets))
    if wanted not in system.presets:
        raise BadInputError(f"there is no preset {wanted!r}; {name} has {', '.join(system.presets)}")
    from twinloop.commands.labelled import read_labelled  # noqa: PLC0415 - as above

    rows, made = read_labelled(system, system.evaluation.table, events)
    liked = {
        (row["request_id"], row["item_id"]): 1.0
        for row in rows
        if row.get("request_id") is not None and (system.strength(row) or 0.0) >= POSITIVE
    }
    lines = (line for line in read_log(log) if line.get("system") == name)
    found = off_policy(lines, liked, wanted, explore=explore, confidence=system.spec.gate.confidence)
    return {"system": name, **found, "events": sum(made.rows.values()), "rejected_events": made.quarantined}


@dataclass
class Answers:
    """The deployed API, asked for cases, and who answered each: case id -> (release, arm, whether degraded)."""

    place: Deployment
    path: str
    who: dict[str, tuple[str, str, bool]] = field(default_factory=dict)

    def ask(self, case: Case, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the API's answer to a request; raises UnavailableError."""
        answer = deployed_api.ask(self.place, self.path, body)
        try:
            self.who[case.case_id] = (answer["model_version"], answer["arm"], answer["degraded"])
        except KeyError as error:
            raise UnavailableError(f"{self.path} answered without {error}; is it a twinloop API?") from error
        return answer

    def facts(self, expected: str) -> dict[str, Any]:
        """Return who answered, as counts and shares; raises ConflictError where it was not all the one expected."""
        releases = Counter(release for release, _, _ in self.who.values())
        if set(releases) != {expected}:
            told = ", ".join(f"{release} ({count:,})" for release, count in releases.most_common())
            raise ConflictError(
                f"the champion is {expected}, but the API answered {len(self.who):,} cases from {told}. Running "
                "functions take a new champion up within 30 seconds: try again then, and without a challenger"
            )
        degraded = sum(worse for _, _, worse in self.who.values())
        return {
            "asked": "api",
            "answered_by": dict(releases.most_common()),
            "arms": dict(Counter(arm for _, arm, _ in self.who.values()).most_common()),
            "degraded": round(degraded / len(self.who), 4),
        }


def _through_the_api(
    place: Deployment, system: System, evaluation: Evaluation, cases: Sequence[Case], *, expected: str
) -> tuple[CaseScores, dict[str, Any]]:
    remote, judge = evaluation.remote, system.judge
    answers = Answers(place, f"/v1/{system.spec.name}/{system.spec.verb}")
    scores = replay(answers, cases, lambda them, case: judge(remote(lambda body: them.ask(case, body), case), case))
    return scores, answers.facts(expected)


def _with_known(place: Deployment, system: System, cases: Sequence[Case]) -> list[Case]:
    """Give cases what the online store knows of their users and of items, as serving reads it."""
    from twinloop.features.knowledge import ItemCache, UserKnowledge  # noqa: PLC0415 - numpy, as above

    store, name, counting = DynamoFeatureStore(place.outputs["Table"]), system.spec.name, system.counting
    if counting is None:
        raise NotFoundError(f"{name} counts nothing, and its release asks what is known")

    def known_users(ids: Sequence[str]) -> list[Known]:
        return store.known(name, [("user", user_id) for user_id in ids])

    items = ItemCache(counting, lambda ids: store.known(name, [("item", item_id) for item_id in ids]))
    users = known_users([str(case.request["user_id"]) for case in cases])
    return [
        case.model_copy(
            update={"request": {**case.request, "known": UserKnowledge(counting, user, items, users=known_users)}}
        )
        for case, user in zip(cases, users, strict=True)
    ]


def _histories(place: Deployment, name: str) -> Any:
    """Return the hook's reader of histories: many at once, in the order asked for."""
    store = DynamoOnlineStore(place.outputs["Table"])

    def read(users: Sequence[str]) -> Iterator[History]:
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(lambda user: store.history(name, user), users)

    return read
