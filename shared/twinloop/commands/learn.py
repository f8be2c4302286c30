"""`twinloop learn`: run the offline loop and follow it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from twinloop.aws import executions
from twinloop.commands.models import System
from twinloop.commands.screen import console, plainly
from twinloop.commands.target import Deployment, deployment
from twinloop.errors import BadInputError, NotFoundError, TwinloopError, UnavailableError

_STEPS = {
    "Snapshot": "snapshot: lake to a point-in-time training set",
    "Ladder": "train every rung of the ladder",
    "Judge": "gate: candidate v champion v the rung below v baseline",
    "Promote": "promote",
    "Keep": "keep the champion",
    "Materialise": "users' histories to the online store",
    "Tell": "tell",
}

_MARKS = {"Completed": Text("✓", "green"), "InProgress": Text("…", "yellow")}
_FAILED = Text("✗", "red")
# Looks begin quick, for what ends at once, and become seldom: the services allow a few calls a second to everybody.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _SLOWER = 0.5, 2.0, 1.05
_PATIENCE_S = 120.0  # of looks in vain; the run goes on without being looked at


@dataclass
class Progress:
    """When each step began, as far as it was seen from here, and the jobs as they are now."""

    began: dict[str, float] = field(default_factory=dict)
    jobs: list[executions.Job] = field(default_factory=list)
    ended: float | None = None

    def seconds(self) -> dict[str, float]:
        """Return how long each step took, or has taken until now."""
        times = [*self.began.values(), self.ended or time.monotonic()]
        return {step: round(times[i + 1] - times[i], 1) for i, step in enumerate(self.began)}


@plainly
def learn(
    system: System,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run, or only print its ARN.")] = True,
    rung: Annotated[
        list[str] | None, typer.Option(help="Train only this rung and the trivial baseline; give it several times.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="`last`: go on from the champion with what came since, where its rung can; nothing else."),
    ] = None,
) -> None:
    """Snapshot, train the ladder, judge, and promote what earned it."""
    if since not in (None, "last"):
        raise BadInputError(f"--since takes `last`, not {since!r}: a rung goes on from where its champion stopped")
    place = deployment()
    if not wait:
        console.print(start(place, system, rung, since=since), soft_wrap=True)
        return
    result, _ = run(place, system, rung, since=since)
    console.print(result["verdict"], soft_wrap=True)
    if result.get("report_key"):
        console.print(f"report: s3://{place.store.bucket}/{result['report_key']}", soft_wrap=True)


def start(place: Deployment, system: str, rungs: Sequence[str] | None = None, *, since: str | None = None) -> str:
    """Start the learning loop, with the whole ladder or only these rungs; returns the execution's ARN.

    `since` "last": only what can go on from the champion.
    """
    chosen: dict[str, object] = {"rungs": list(rungs)} if rungs else {}
    chosen |= {"since": since} if since else {}
    return executions.start(place.outputs["LearnStateMachine"], {"system": system, **chosen})


def run(
    place: Deployment, system: str, rungs: Sequence[str] | None = None, *, since: str | None = None
) -> tuple[dict[str, object], Progress]:
    """Start the loop and follow it to its end; returns the gate's answer and what was seen on the way.

    Raises:
        TwinloopError: The execution failed; says at which step and why.
    """
    began, arn = time.time(), start(place, system, rungs, since=since)
    progress, prefix = Progress(), f"{place.name}-{system}-"
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            follow(arn, progress, job_prefix=prefix, since=began, show=lambda: live.update(_table(system, progress)))
    else:
        follow(arn, progress, job_prefix=prefix, since=began, show=_Lines(progress))
    ended = executions.describe(arn)
    if ended.output is None:
        step = next(reversed(progress.began), "the start")
        raise TwinloopError(f"the run ended as {ended.status} at {step}: {_innermost(ended.cause)}")
    return ended.output, progress


class _Lines:
    """Progress for a log: a line when a step begins and when a job ends."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told: set[str] = set()

    def __call__(self) -> None:
        for step in self._progress.began:
            self._tell(f"{_STEPS[step]} ...")
        for job in self._progress.jobs:
            if job.status != "InProgress":
                self._tell(f"  {job.name}: {job.status} {job.reason}".rstrip())

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            console.print(line, soft_wrap=True)


def follow(arn: str, progress: Progress, *, job_prefix: str, since: float, show: Callable[[], None]) -> None:
    """Update `progress` and show it until the execution has ended; jobs count from `since` (epoch seconds).

    Raises:
        UnavailableError: For two minutes no look succeeded; the run itself goes on.
    """
    pause, seen = _FIRST_PAUSE_S, time.monotonic()
    while True:
        try:
            ended = _look(arn, progress, job_prefix, since)
            seen = time.monotonic()
        except (UnavailableError, NotFoundError) as error:  # throttled; or not to be found yet, just started
            if time.monotonic() - seen > _PATIENCE_S:
                raise UnavailableError(f"{arn} could not be followed any longer, and goes on: {error}") from error
            ended = False
        if ended:
            progress.ended = time.monotonic()
        show()
        if ended:
            return
        time.sleep(pause)
        pause = min(pause * _SLOWER, _LONGEST_PAUSE_S)


def _look(arn: str, progress: Progress, job_prefix: str, since: float) -> bool:
    """Update `progress`; returns whether the execution has ended."""
    ended = executions.describe(arn).ended
    for name in executions.states_entered(arn):
        if name in _STEPS:
            progress.began.setdefault(name, time.monotonic())
    # Once more when judging has begun: the last job ended between two looks.
    unsettled = not progress.jobs or any(job.status == "InProgress" for job in progress.jobs)
    if "Ladder" in progress.began and ("Judge" not in progress.began or unsettled):
        progress.jobs = executions.jobs(job_prefix, since)
    return ended


def _table(system: str, progress: Progress) -> Table:
    table = Table(title=f"learning {system}", title_justify="left", show_header=False, box=None)
    seconds = progress.seconds()
    for step, took in seconds.items():
        running = progress.ended is None and step == next(reversed(seconds))
        table.add_row(_MARKS["InProgress" if running else "Completed"], _STEPS[step], f"{took:.0f} s")
        if step == "Ladder":
            for job in progress.jobs:
                named = Text.assemble("  ", _MARKS.get(job.status, _FAILED), f" {job.name}")
                table.add_row("", named, job.reason or job.doing)
    return table


def _innermost(cause: str | None) -> str:
    """A Lambda's failure arrives as JSON; its message is what a person can act on."""
    if not cause:
        return "no cause was given"
    try:
        return str(json.loads(cause).get("errorMessage", cause))
    except (ValueError, AttributeError):
        return cause
