"""What the gate is given and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twinloop.contracts.spec import GatePolicy, Rung
from twinloop.evaluation.cases import CaseScores
from twinloop.evaluation.foretold import Bin, Foretold, SliceMetrics
from twinloop.evaluation.intervals import Interval
from twinloop.evaluation.slices import SliceGain
from twinloop.evaluation.subgroups import SubgroupRate


@dataclass(frozen=True)
class Candidate:
    """A trained model of one rung and what was measured of it.

    Attributes:
        rung: Its place on the ladder.
        version: Of its release.
        scores: Case by case.
        size_mb: Of everything that serving would read.
        train_seconds: What its training took.
        parity: Largest difference between the ONNX output and the framework's.
        foretold: What it said of held-out impressions; None where it predicts nothing, or nothing was shown.
    """

    rung: Rung
    version: str
    scores: CaseScores
    size_mb: float
    train_seconds: float
    parity: float
    foretold: Foretold | None = None


@dataclass(frozen=True)
class Champion:
    """The release that serves now, judged on the same cases."""

    rung: str
    version: str
    scores: CaseScores
    size_mb: float
    foretold: Foretold | None = None


@dataclass(frozen=True)
class FailedRung:
    """A rung without a model to judge, and why."""

    rung: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """The gain over one rival on the primary metric; won where even the interval's lower bound is above the margin."""

    rival: str
    gain: Interval
    margin: float

    @property
    def won(self) -> bool:
        """Whether the gain is sure enough."""
        return self.gain.low > self.margin


@dataclass(frozen=True)
class Veto:
    """A guardrail that does not hold: which one, and by how much."""

    guard: str
    reason: str
    of_slice: bool = False


@dataclass(frozen=True)
class Measurements:
    """What the report shows of any model, champion or candidate.

    `metrics` are those of the cases, and of the `impressions` whose outcomes it foretold; `foretold` names the latter.
    `within` are those of the slices that impressions are in; `reliable` has the bins of each chance, by label.
    """

    metrics: Mapping[str, Interval]
    latency_p50_ms: float
    latency_p99_ms: float
    size_mb: float
    foretold: tuple[str, ...] = ()
    impressions: int = 0
    within: tuple[SliceMetrics, ...] = ()
    reliable: Mapping[str, tuple[Bin, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """One candidate after judgement.

    `over_simpler` is the comparison with the best simpler rung that held its place; `over_champion` decides. `earned`:
    it can be served and pays for its complexity. `standing` says in words what became of it. `subgroups` are the
    rates of false positives inside the guarded slices; `unguarded` are those with too few cases for a veto, in words.
    """

    rung: Rung
    version: str
    measured: Measurements
    train_seconds: float
    parity: float
    over_baseline: Comparison | None
    over_simpler: Comparison | None
    over_champion: Comparison | None
    slices: tuple[SliceGain, ...]
    vetoes: tuple[Veto, ...]
    earned: bool
    standing: str = ""
    subgroups: tuple[SubgroupRate, ...] = ()
    unguarded: tuple[str, ...] = ()


@dataclass(frozen=True)
class JudgedChampion:
    """The champion on the same cases."""

    rung: str
    version: str
    measured: Measurements


@dataclass(frozen=True)
class Verdict:
    """The gate's answer.

    Attributes:
        promote: Whether the champion changes.
        rung: Of the release that serves from now on; None where there is none.
        version: Of that release.
        lead: What is done and why, in words.
        words: The same, and what became of everybody else.
        judged: The candidates, from simple to complex.
        champion: The release that served until now, or None.
        failed: Rungs that could not be judged.
        notes: What a reader must know beside it.
        cases: How many cases everything was measured on.
        policy: By which it was judged.
    """

    promote: bool
    rung: str | None
    version: str | None
    lead: str
    words: str
    judged: tuple[Judged, ...]
    champion: JudgedChampion | None
    failed: tuple[FailedRung, ...]
    notes: tuple[str, ...]
    cases: int
    policy: GatePolicy
