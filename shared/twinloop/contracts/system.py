"""A system as the rails see it: its design card and the few functions that carry its meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twinloop.contracts.artefacts import Case, ComponentManifest
from twinloop.contracts.features import Feature
from twinloop.contracts.history import History
from twinloop.contracts.model import Contract
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


@dataclass(frozen=True)
class Ranked:
    """A predictor's ranking, best first: ids, scores (float32, same length), and why it may be worse than usual.

    `cold`: nothing is known of the user that the model could use, so everybody gets this list.
    """

    ids: tuple[str, ...]
    scores: NDArray[np.float32]
    degraded: bool = False
    cold: bool = False


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
class System:
    """One product problem on the rails. The rails are handed this; they never import a system.

    Attributes:
        spec: The design card.
        tables: Row contract of each raw table.
        features: The feature definitions.
        strength_sql: DuckDB expression over an event row: 1 positive, 0 seen without liking, NULL no evidence.
        predictor: Loaded components of one release by name -> an object with the system's own methods.
        judge: (predictor, case) -> metrics of that case by name; higher is better for the gate's primary one.
        strength: The rules of `strength_sql` over one event as a mapping; None means no evidence. Online histories
            are made with it; the default keeps none.
        evaluation: How labelled files become cases; None where the system cannot be asked about them.
    """

    spec: SystemSpec
    tables: Mapping[str, type[Contract]]
    features: tuple[Feature, ...]
    strength_sql: str
    predictor: Callable[[Mapping[str, Model]], Any]
    judge: Callable[[Any, Case], Mapping[str, float]]
    strength: Callable[[Mapping[str, Any]], float | None] = _no_evidence
    evaluation: Evaluation | None = None
