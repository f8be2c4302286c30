"""How long to fit a network: for as many epochs as were best on validation, then anew on train and validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twinloop.training.artefact import session
from twinloop.training.events import Events
from twinloop.training.snapshot import Snapshot
from twinloop.training.validate import validation_metrics


class Network(Protocol):
    """What is fitted."""

    def epoch(self) -> float:
        """Fit one epoch; returns the mean loss."""
        ...


Fitted = TypeVar("Fitted", bound=Network)


def fit_as_long_as_it_helps(
    snapshot: Snapshot,
    make: Callable[[Events], Fitted],
    to_onnx: Callable[[Fitted], bytes],
    *,
    epochs: int,
    check_every: int,
    say: Callable[[str], None],
) -> tuple[Fitted, dict[str, float]]:
    """Return a network fitted on train and validation, and the metrics on validation of the one that chose the epochs.

    Args:
        snapshot: What to learn from.
        make: Events -> a network to fit on them.
        to_onnx: A network -> its retrieval model.
        epochs: At most; as many where there is no validation to tell.
        check_every: Epochs between looks at validation.
        say: Is told how far it is.
    """
    best, metrics = epochs, {"validation_users": 0.0}
    if len(snapshot.validation):
        trial = make(snapshot.train)
        for epoch in range(1, epochs + 1):
            loss = trial.epoch()
            if epoch % check_every and epoch != epochs:
                continue
            found = validation_metrics(session(to_onnx(trial)), snapshot)
            say(f"epoch {epoch}: loss {loss:.4f}, on validation {found}")
            if found.get("ndcg@10", 0.0) > metrics.get("ndcg@10", 0.0):
                best, metrics = epoch, found
    network = make(snapshot.everything)
    for _ in range(best):
        network.epoch()
    say(f"fitted on train and validation for {best} epochs")
    return network, {**metrics, "epochs": float(best)}
