"""Rows for a ranker that sees deep models' columns beside the linear sources'."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from twinloop.errors import BadInputError
from twinloop.training.artefact import session
from twinloop.training.deep_sources import Deep, Settings, fit_deep, with_deep
from twinloop.training.events import Events
from twinloop.training.ranker import Rows, ask
from twinloop.training.snapshot import Snapshot
from twinloop.training.sources import Sources, fit_sources, retrieval_with_features
from twinloop.training.validate import questions

FOLDS = 5
CUTS = (0.5, 0.65, 0.8, 0.9)  # moments of a user's past that are asked about


def fit_all(
    events: Events, snapshot: Snapshot, settings: Settings, *, seed: int
) -> tuple[bytes, tuple[str, ...], Sources, Deep]:
    """Fit linear and deep sources on the events; returns the retrieval model, its columns, and both."""
    tags, context = snapshot.items.tags, snapshot.moments.names
    sources, deep = fit_sources(events, tags), fit_deep(events, tags, settings, seed=seed)
    linear, names = retrieval_with_features(sources, context)
    model, names = with_deep(linear, names, deep, context=len(context))
    return model, names, sources, deep


def deep_rows(
    snapshot: Snapshot, settings: Settings, *, users: int, seed: int, say: Callable[[str], None] = lambda _: None
) -> Rows:
    """Return rows of the train split to fit a ranker on, at most `users` users' worth.

    Folds by user, as in `ranker.training_rows`: whoever scores a user's candidates, linear or deep, was fitted on the
    other users' whole histories. Within a user time decides.
    """
    events, moments, longest = snapshot.train, snapshot.moments, snapshot.manifest.history_length
    draw = np.random.default_rng(seed)
    fold_of = draw.permutation(events.n_users) % FOLDS
    chosen = np.zeros(events.n_users, dtype=bool)
    chosen[draw.permutation(events.n_users)[:users]] = True
    parts = []
    for fold in range(FOLDS):
        held = fold_of == fold
        others, theirs = events.take(~held[events.users]), events.take((held & chosen)[events.users])
        if not len(others) or not len(theirs):
            continue
        model = session(fit_all(others, snapshot, settings, seed=seed + fold)[0])
        parts += [ask(model, questions(*cut(theirs, share), longest=longest, moments=moments)) for share in CUTS]
        say(f"fold {fold + 1} of {FOLDS}: {sum(len(part.liked) for part in parts)} questions so far")
    if not sum(len(part.liked) for part in parts):
        raise BadInputError(
            "no user has enough positive events to learn a ranking from: load more data, or leave this rung out"
        )
    return Rows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.liked for part in parts]),
    )


def cut(events: Events, share: float) -> tuple[Events, Events]:
    """Divide each user's events in two by time; the first `share`, rounded down, come first."""
    sizes = np.diff(events.offsets)[events.users]
    place = np.arange(len(events)) - events.offsets[events.users]
    early = place < np.floor(sizes * share + 1e-9)
    return events.take(early), events.take(~early)
