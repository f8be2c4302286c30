"""A system as the rails see it: its design card and the few functions that carry its meaning."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from twinloop.contracts.artefacts import Case, ComponentManifest
from twinloop.contracts.endpoint import Endpoint
from twinloop.contracts.examples import Examples
from twinloop.contracts.features import Counting, Feature
from twinloop.contracts.history import History
from twinloop.contracts.live import LiveSettings
from twinloop.contracts.model import Contract, identity
from twinloop.contracts.outcomes import Outcomes
from twinloop.contracts.spec import SystemSpec

if TYPE_CHECKING:  # functions that only know of rows carry no numpy
    import numpy as np
    from numpy.typing import NDArray


class Model(Protocol):
    """One loaded component of a release."""

    @property
    def manifest(self) -> ComponentManifest:
        """What the component says of itself."""
        ...

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Feed named tensors, return named tensors. Raises BadInputError where names or ranks do not fit."""
        ...

    def asset(self, name: str) -> bytes:
        """Bytes of a file beside the model (a vocabulary, say). Raises NotFoundError."""
        ...


class Knowledge(Protocol):
    """What is known of one user and of items at a moment, for models that are asked with it."""

    @property
    def degraded(self) -> bool:
        """Whether some of what was given were defaults because the store did not answer."""
        ...

    def tensor(self, names: Sequence[str], item_ids: Sequence[str], at_ms: int) -> NDArray[np.float32]:
        """Return features of the user, of each item, and of the two together: float32[items, names].

        A feature that is not known, or has expired, is its default. Raises IntegrityError for a name that is no
        feature's.
        """
        ...

    def texts(self, names: Sequence[str], item_ids: Sequence[str]) -> list[tuple[str | None, ...]]:
        """Return text attributes, one tuple an item in the order of the names; None for what is not known.

        Names are those of `Outcomes.texts`: `items.<name>` of each item, `users.<name>` of the user, which are the same
        in every tuple. Raises IntegrityError for a name that is no attribute's.
        """
        ...


@dataclass(frozen=True)
class Asked:
    """What a request asks of policy, beside history, exclusions and length. The default tries nothing out.

    Attributes:
        preset: Named settings of the policy; None for the system's first.
        seed: Of everything that is drawn at random: equal seeds draw equally. Empty: nothing is drawn.
        context: Facts of the moment.
        reasons: Whether to say why each item is in the list.
    """

    preset: str | None = None
    seed: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    reasons: bool = False


class Reason(NamedTuple):
    """Why an item is in a list: a code for programs, words for people.

    `item_id` is the item that the words speak of. `weight` is comparable among the reasons of one code in one answer.
    """

    code: str
    text: str
    item_id: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Ranked:
    """A predictor's ranking, best first: ids, scores (float32, same length), and why it may be worse than usual.

    Attributes:
        ids: The items.
        scores: Not increasing.
        degraded: It is worse than usual.
        cold: Nothing is known of the user that the model could use, so everybody in their context gets this list.
        propensities: With which probability each item was put at its place, drawn independently place by place and
            given the preset; None where nothing was left to chance.
        tried: Which of them are in the list to be tried out; empty, or one flag an item.
        reasons: Of each item, where they were asked for; otherwise empty.
        p_click: How likely a click on each item is, where the release predicts that; otherwise empty. None for an item
            that it says nothing of.
        watch_s: Expected seconds of watching each item, likewise.
    """

    ids: tuple[str, ...]
    scores: NDArray[np.float32]
    degraded: bool = False
    cold: bool = False
    propensities: tuple[float, ...] | None = None
    tried: tuple[bool, ...] = ()
    reasons: tuple[tuple[Reason, ...], ...] = ()
    p_click: tuple[float | None, ...] = ()
    watch_s: tuple[float | None, ...] = ()


def later(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports a module when it is called, and calls that module's function or class.

    A system is known to functions that only take rows in; these carry none of what it computes with.
    """

    def call(*given: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*given)

    return call


def _no_evidence(event: Mapping[str, Any]) -> float | None:
    """Say of every event that it speaks for nothing: the strength of a system without histories."""
    del event
    return None


@dataclass(frozen=True)
class Evaluation:
    """How `twinloop evaluate` turns a labelled file, which no job has seen, into requests with their truth.

    Attributes:
        cases: (rows of the file, histories) -> cases. Rows are as the lake has them; `histories` gives what the online
            store knows of users, in the order of their ids.
        remote: (ask, case) -> what `judge` takes for a predictor, answered by the deployed API; `ask` posts the body of
            a request and returns the answer.
        table: Which raw table the file is of.
    """

    cases: Callable[[Iterable[Mapping[str, Any]], Callable[[Sequence[str]], Iterable[History]]], Iterable[Case]]
    remote: Callable[[Callable[[Mapping[str, Any]], Mapping[str, Any]], Case], Any]
    table: str = "events"


@dataclass(frozen=True)
class Refresh:
    """How what serves is given the items that the lake holds now.

    Attributes:
        by: Who does it, for the registry's history.
        least_share: Of the items that it has, how many must still be there; less is taken for an accident.
        memory_mb: What DuckDB may use; past that it spills to the disk.
        now: The present, with a time zone.
        alias: Which release is given them: the champion, challenger, shadow or previous.
        keep: How long a release that a refresh made is kept after an alias named it last. A week: a run of the learning
            loop may go on for six days with a champion's files, and people look at what served yesterday; a process
            loads what an alias names within seconds.
    """

    by: str
    least_share: float = 0.5
    memory_mb: int = 2048
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    alias: str = "champion"
    keep: timedelta = timedelta(days=7)


class Refreshed(NamedTuple):
    """What came of it.

    Attributes:
        version: Of the release that the alias names from now on; None where there was nothing to do.
        items: How many it has.
        fresh: How many of these it had not, or not as they are now.
        said: The same in words, or why there was nothing to do; of the champion also what came of the others.
        failed: Of the champion: the other aliases whose releases could not be given the items.
    """

    version: str | None
    items: int
    fresh: int
    said: str
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Predictions:
    """What releases say of an item before it is shown, for the gate to hold against what came of it.

    Labels are those of the system's `Outcomes`.

    Attributes:
        ask: (predictor, case of one impression) -> label -> what the release predicts; empty where it predicts nothing.
            The request has `user_id`, `time_ms`, `item_id`, `history` (likes), `context` and `known`, a Knowledge.
            Where the system has `Outcomes.texts`, `texts` has them by name.
        chances: Labels that are 0 or 1, and predicted as probabilities.
        amounts: Labels that are amounts, and predicted as their mean.
        guarded: Of `chances`: no release serves whose mean is off, as `GatePolicy.calibration_tolerance` has it.
        live: How one of `chances` is kept right while a release serves; None where none is. Judges know nothing of it.
    """

    ask: Callable[[Any, Case], Mapping[str, float]]
    chances: tuple[str, ...] = ()
    amounts: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    live: LiveSettings | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where a label that is guarded, or calibrated live, is no chance: nothing would hold it."""
        if not set(self.guarded) <= set(self.chances):
            raise ValueError(f"guarded labels {self.guarded} are not all among the chances {self.chances}")
        if self.live is not None and self.live.label not in self.chances:
            raise ValueError(f"{self.live.label} is calibrated live and not among the chances {self.chances}")


@dataclass(frozen=True)
class System:
    """One product problem on the rails. The rails are handed this; they never import a system.

    Attributes:
        spec: The design card.
        tables: Row contract of each raw table.
        features: The feature definitions that snapshots hold and models are asked with.
        strength_sql: DuckDB expression over an event row: 1 positive, 0 seen without liking, NULL no evidence.
        predictor: Loaded components of one release by name -> an object with the system's own methods.
        judge: (predictor, case) -> metrics of that case by name; higher is better for the gate's primary one. A
            system with `Outcomes.judged` is given bundles of impressions; see `evaluation/bundles.py`.
        endpoint: How predictions are asked for over HTTP.
        strength: The rules of `strength_sql` over one event as a mapping; None means no evidence. Online histories
            are made with it; the default keeps none.
        evaluation: How labelled files become cases; None where the system cannot be asked about them.
        presets: Named settings of its policy and what each is for, the default first; none where it knows none.
        counting: What it counts of users and items; None where it counts nothing.
        outcomes: How its events become labelled impressions; None where it learns from none. Needs `counting`.
        predictions: How a release is asked what becomes of an impression; None where none predicts that.
        examples: How its tables become labelled examples; None where it learns from what was shown to users. With
            them, snapshots hold no interactions, and no events are needed.
        refresh: (object store, how) -> what came of it: a release with the models of the one that an alias names, and
            the items that the lake holds now, in its place; see `registry/refresh.py`. It is asked of an alias that
            names one. None where releases hold no items.
        carried: By component, files beside the model that people wrote and no job makes: a candidate is judged, and
            serves, with those of the champion.
    """

    spec: SystemSpec
    tables: Mapping[str, type[Contract]]
    features: tuple[Feature, ...]
    strength_sql: str
    predictor: Callable[[Mapping[str, Model]], Any]
    judge: Callable[[Any, Case], Mapping[str, float]]
    endpoint: Endpoint
    strength: Callable[[Mapping[str, Any]], float | None] = _no_evidence
    evaluation: Evaluation | None = None
    counting: Counting | None = None
    presets: Mapping[str, str] = field(default_factory=dict)
    outcomes: Outcomes | None = None
    predictions: Predictions | None = None
    examples: Examples | None = None
    refresh: Callable[[Any, Refresh], Refreshed] | None = None
    carried: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError where `outcomes` or `examples` ask for what the rest of the system does not have.

        Or where rows of a table could be taken for one another.
        """
        self._check_tables()
        self._check_examples()
        outcomes, attributes = self.outcomes, {} if self.counting is None else self.counting.attributes
        live = None if self.predictions is None else self.predictions.live
        if live is not None and (outcomes is None or live.label not in outcomes.labels):
            raise ValueError(f"{self.spec.name}: {live.label} is calibrated live, and no outcome says what came of it")
        if outcomes is None:
            return
        for name in outcomes.texts:
            table, _, attribute = name.partition(".")
            if attribute not in attributes.get(table, {}):
                raise ValueError(f"{self.spec.name}: the text {name!r} is no attribute of what is counted")
        if outcomes.judged and (self.counting is None or self.spec.split.strategy != "global"):
            raise ValueError(
                f"{self.spec.name} is judged by impressions: it needs counting, and one moment for everybody at which "
                "parts begin (`split.strategy` global)"
            )

    def _check_tables(self) -> None:
        for table, row in self.tables.items():
            if row.identity_columns is None and table not in ("users", "items"):
                first = identity(row)
                if first in (("user_id",), ("item_id",)):
                    raise ValueError(
                        f"{self.spec.name}: of the rows of {table!r} with one {first[0]} only one would count; say in "
                        f"{row.__name__}.identity_columns what tells them apart"
                    )

    def _check_examples(self) -> None:
        name, strategy = self.spec.name, self.spec.split.strategy
        if self.examples is None:
            if strategy == "by_group":
                raise ValueError(f"{name} is split by group, and only examples have groups")
            return
        if strategy == "per_user":
            raise ValueError(f"{name} learns from examples: `split.strategy` is by_group or global")
        if self.outcomes is not None:
            raise ValueError(f"{name} learns from examples or from impressions (`outcomes`), not from both")
        missing = [table for table in self.examples.tables if table not in self.tables]
        if missing:
            raise ValueError(f"{name} has no row contract of the table {missing[0]!r} that its examples are made of")

    @property
    def knows_likes(self) -> bool:
        """Whether it says which events speak for an item (`strength`); otherwise no list can be rewarded by them."""
        return self.strength is not _no_evidence

    @property
    def definitions(self) -> tuple[Feature, ...]:
        """All definitions: those that snapshots hold for every event, then those of what is counted."""
        return (*self.features, *(self.counting.features if self.counting is not None else ()))
