"""One network for what becomes of an item that is shown: a click, a long watch, seconds of watching.

Shared experts, mixed anew for each task (MMoE; Ma et al., KDD 2018), over the counted features and what the user's
history says of the item (`taste.py`). Seconds are learnt as classes within a group of durations (`watch_bins.py`). The
place at which an item was shown has a part of its own that is added to the logits (PAL; Guo et al., RecSys 2019; the
shallow tower of Zhao et al., RecSys 2019): what it explains the rest need not. Served is the rest, at one usual place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from twinloop.evaluation.probability import auc, calibration_ratio, normalised_entropy
from twinloop.evaluation.regression import mae, xauc
from twinloop.training.averaging import Averaged
from twinloop.training.events import Floats32, Ints
from twinloop.training.impressions import Impressions, Shown
from twinloop.training.standard import EDGE, LARGEST
from twinloop.training.taste import Content, Histories, Past, Taste, TasteShape, hidden, learn_taste
from twinloop.training.watch_bins import BINS, WatchBins, fit_bins

PLACES = 64  # the last one is for all further down
FACT = 4  # numbers that a fact of the moment is told by
_TASKS, _LOGITS = 3, 2 + BINS
_TOGETHER = 4_096
_MOST_STANDARD = 200_000  # rows that means and spreads are taken of
_ENOUGH_LESSONS = 1_000
_PLACES_FIRST = 10.0  # how fast places learn, against the rest: what both can explain is theirs
_FARTHEST = 40.0  # a logit beyond is as good as certain
_TUNING = 0.1  # how fast a taste that had lessons goes on learning, against the rest


@dataclass(frozen=True)
class Shape:
    """What the network looks like and how it is fitted."""

    taste: TasteShape
    experts: int = 3
    hidden: int = 64
    dropout: float = 0.3
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    decay: float = 1e-2
    watch_weight: float = 0.3
    batch: int = 512
    rows: int = 200_000
    averaging: float = 0.995
    patience: int = 3


@dataclass(frozen=True)
class Batch:
    """Items asked about, each with its own user's history; `groups` are of durations, `places` 1-based, 0 unknown.

    `situation` int64[B, facts] are rows of the table of facts; see `situation_offsets`.
    """

    known: torch.Tensor
    items: torch.Tensor
    past: Past
    groups: torch.Tensor
    places: torch.Tensor
    situation: torch.Tensor


@dataclass(frozen=True)
class Outlook:
    """What is expected of each item; float32[K] each."""

    click: Floats32
    long_watch: Floats32
    watch_s: Floats32


class Standard(nn.Module):
    """Features as they are and by their logarithms, standardised; what is not a number says nothing."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, known: Floats32) -> None:
        super().__init__()
        some = known[:: max(len(known) // _MOST_STANDARD, 1)]
        both = self._both(torch.from_numpy(np.ascontiguousarray(some))).double()
        there = torch.isfinite(both)
        count = there.sum(dim=0).clamp(min=1)
        zeroed = torch.where(there, both, 0.0)
        mean = zeroed.sum(dim=0) / count
        spread = torch.sqrt((torch.where(there, both - mean, 0.0) ** 2).sum(dim=0) / count)
        # What never differed has taught nothing, so a new value of it says nothing either.
        differs = spread > 1e-6 * (1 + mean.abs())
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", torch.where(differs, 1 / spread.clamp(min=1e-12), 0.0).float())

    @staticmethod
    def _both(known: torch.Tensor) -> torch.Tensor:
        plain = known.clamp(-LARGEST, LARGEST)
        return torch.cat([plain, torch.sign(plain) * torch.log(1 + plain.abs())], dim=1)

    def forward(self, known: torch.Tensor) -> torch.Tensor:
        both = ((self._both(known) - self.mean) * self.scale).clamp(-EDGE, EDGE)
        return torch.where(torch.isnan(both), 0.0, both)


class Engagement(nn.Module):
    """The network; `forward` knows places, `serve` does not."""

    usual_place: torch.Tensor

    def __init__(self, taste: Taste, known: Floats32, shape: Shape, situation: Sequence[int] = ()) -> None:
        super().__init__()
        self.taste, self.standard = taste, Standard(known)
        self.norm = nn.LayerNorm(taste.width)
        self.facts = nn.Embedding(max(sum(situation), 1), FACT)
        nn.init.normal_(self.facts.weight, std=0.1)
        width = 2 * known.shape[1] + taste.width + 1 + FACT * len(situation)
        self.experts = nn.ModuleList(nn.Linear(width, shape.hidden) for _ in range(shape.experts))
        self.gates = nn.ModuleList(nn.Linear(width, shape.experts) for _ in range(_TASKS))
        self.inner = nn.ModuleList(nn.Linear(shape.hidden, 32) for _ in range(_TASKS))
        self.outer = nn.ModuleList(nn.Linear(32, outputs) for outputs in (1, 1, BINS))
        self.plain = nn.Linear(width, _LOGITS)
        self.bias = nn.Embedding(taste.own.num_embeddings, 2)
        nn.init.zeros_(self.bias.weight)
        self.place = nn.Embedding(PLACES + 1, _LOGITS)
        nn.init.zeros_(self.place.weight)
        self.register_buffer("usual_place", torch.zeros(_LOGITS))
        self.dropout, self.less = nn.Dropout(shape.dropout), nn.Dropout(shape.dropout / 2)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return float32[B, 2 + BINS] without anything of the place: click, long watch, classes of seconds."""
        said = self.taste(batch.items, batch.past)
        liking = self.taste.liking(batch.items, said)[:, None]
        facts = self.facts(batch.situation).flatten(start_dim=1)
        x = torch.cat([self.standard(batch.known), self.dropout(self.norm(said)), liking, facts], dim=1)
        experts = torch.stack([self.dropout(torch.relu(expert(x))) for expert in self.experts], dim=1)
        parts = []
        for gate, inner, outer in zip(self.gates, self.inner, self.outer, strict=True):
            mixed = (torch.softmax(gate(x), dim=1)[:, :, None] * experts).sum(dim=1)
            parts.append(outer(self.less(torch.relu(inner(mixed)))))
        place = torch.where(batch.items >= 0, batch.items, self.taste.n_items)
        of_item = nn.functional.pad(self.bias(self.taste.own_of[place]), (0, BINS))
        result: torch.Tensor = torch.cat(parts, dim=1) + self.plain(x) + of_item
        return result

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the logits with what the places explain; an unknown one explains nothing."""
        result: torch.Tensor = self.logits(batch) + self.place(batch.places) * (batch.places > 0)[:, None]
        return result

    def serve(self, batch: Batch, bins: WatchBins) -> Outlook:
        """Return what is expected at a usual place."""
        with torch.no_grad():
            logits = self.logits(batch) + self.usual_place
            chances = torch.softmax(logits[:, 2:], dim=1)
            seconds = (chances * torch.from_numpy(bins.seconds)[batch.groups]).sum(dim=1)
            click, long_watch = torch.sigmoid(logits[:, :2]).numpy().T
            return Outlook(click, long_watch, seconds.numpy())

    def begin_at(self, click: Floats32, long_watch: Floats32, classes: Ints) -> None:
        """Begin with how often things happen."""
        rates = [(float(label.sum()) + 1) / (len(label) + 2) for label in (click, long_watch)]
        shares = (np.bincount(classes, minlength=BINS) + 1) / (len(classes) + BINS)
        begun = [*(np.log(rate / (1 - rate)) for rate in rates), *np.log(shares)]
        with torch.no_grad():
            self.plain.bias.copy_(torch.tensor(begun, dtype=torch.float32))


class Learner:
    """Fits one network on impressions; `model` is the average of its weights."""

    def __init__(self, shown: Shown, rows: Impressions, taste: Taste, shape: Shape, *, tuned: bool, seed: int) -> None:
        torch.manual_seed(seed)
        self._rows, self._shape, self._draw = rows, shape, np.random.default_rng(seed)
        self._asker = Asker(shown, shape.taste.length)
        self.bins = fit_bins(self._asker.durations(rows.known), rows.watch_s)
        self._classes = self.bins.classes(self._asker.durations(rows.known), rows.watch_s)
        network = Engagement(copy.deepcopy(taste), rows.known, shape, situation_sizes(shown))
        network.begin_at(rows.click, rows.long_watch, self._classes)
        self._network = network
        self._fitted = Averaged(network, share=1 - shape.averaging)
        self._batch = int(np.clip(len(rows) // 20, 16, shape.batch))
        free, places = [network.bias.weight], [network.place.weight]
        of_taste = list(network.taste.parameters())
        apart = {id(parameter) for parameter in (*free, *places, *of_taste)}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in apart]
        slower = shape.learning_rate * (_TUNING if tuned else 1.0)
        groups = [
            {"params": rest, "weight_decay": shape.weight_decay},
            {"params": free, "weight_decay": 0.0},
            {"params": places, "weight_decay": 0.0, "lr": shape.learning_rate * _PLACES_FIRST},
            {"params": of_taste, "weight_decay": 0.0, "lr": slower},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=shape.learning_rate)

    @property
    def model(self) -> Engagement:
        """Return what serves. At its usual place it expects as many clicks and long watches as impressions had.

        That is not the places' mean: a chance at a mean logit is not the mean of chances.
        """
        model, rows = self._fitted.average, self._rows
        places = torch.from_numpy(places_of(rows.positions))
        some = np.arange(0, len(rows), -(-len(rows) // _MOST_STANDARD))
        parts = [some[begin : begin + _TOGETHER] for begin in range(0, len(some), _TOGETHER)]
        with torch.no_grad():
            explained = model.place.weight * (torch.arange(PLACES + 1) > 0)[:, None]
            shares = torch.bincount(places, minlength=PLACES + 1).float() / len(places)
            usual = shares @ explained
            logits = torch.cat([model.logits(self._asker.batch(rows, part, self.bins)) for part in parts])
            for task, label in enumerate((rows.click, rows.long_watch)):
                usual[task] = constant_for(logits[:, task].double().numpy(), (label[some].sum() + 1) / (len(some) + 2))
            model.usual_place.copy_(usual)
        return model

    def epoch(self) -> float:
        """Fit on every impression, or as many as an epoch may have; returns the mean loss."""
        network, rows, losses = self._network.train(), self._rows, []
        order = self._draw.permutation(len(rows))[: self._shape.rows]
        for chosen in np.array_split(order, -(-len(order) // self._batch)):
            batch = self._asker.batch(rows, chosen, self.bins)
            batch = replace(batch, items=hidden(rows.items[chosen], self._draw))
            loss = self._loss(network(batch), chosen)
            place = torch.where(batch.items >= 0, batch.items, network.taste.n_items)
            cost = self._shape.decay * (network.bias(network.taste.own_of[place]) ** 2).sum(dim=1).mean()
            cost = cost + 1e-4 * (network.place.weight**2).sum() + network.taste.penalty(batch.items)
            self._optimiser.zero_grad()
            (loss + cost).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            self._optimiser.step()
            self._fitted.step()
            losses.append(loss.item() * len(chosen))
        return float(np.sum(losses) / len(order))

    def _loss(self, logits: torch.Tensor, chosen: Ints) -> torch.Tensor:
        of_clicks = torch.from_numpy(np.stack([self._rows.click[chosen], self._rows.long_watch[chosen]], axis=1))
        happened = nn.functional.binary_cross_entropy_with_logits(logits[:, :2], of_clicks, reduction="none")
        classes = torch.from_numpy(self._classes[chosen])
        return happened.mean(dim=0).sum() + self._shape.watch_weight * nn.functional.cross_entropy(
            logits[:, 2:], classes
        )

    def loss(self, rows: Impressions) -> float:
        """Return the loss on other impressions, places known as in training: what was clicked depended on them."""
        classes = self.bins.classes(self._asker.durations(rows.known), rows.watch_s)
        model, total = self._fitted.average, 0.0
        for chosen in np.array_split(np.arange(len(rows)), -(-len(rows) // _TOGETHER)):
            with torch.no_grad():
                logits = model(self._asker.batch(rows, chosen, self.bins))
                right = torch.from_numpy(np.stack([rows.click[chosen], rows.long_watch[chosen]], axis=1))
                happened = nn.functional.binary_cross_entropy_with_logits(logits[:, :2], right, reduction="none")
                seconds = nn.functional.cross_entropy(logits[:, 2:], torch.from_numpy(classes[chosen]))
                total += len(chosen) * float(happened.mean(dim=0).sum() + self._shape.watch_weight * seconds)
        return total / len(rows)

    def outlook(self, rows: Impressions) -> Outlook:
        """Return what would be served of other impressions."""
        model = self.model
        parts = [
            model.serve(self._asker.batch(rows, chosen, self.bins), self.bins)
            for chosen in np.array_split(np.arange(len(rows)), -(-len(rows) // _TOGETHER))
        ]
        return Outlook(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("click", "long_watch", "watch_s"))
        )


class Asker:
    """Impressions -> batches, with the histories of their moments."""

    def __init__(self, shown: Shown, length: int) -> None:
        self._histories = Histories(shown.likes, length)
        self._duration = duration_column(shown)
        self._facts = situation_offsets(shown)

    def durations(self, known: Floats32) -> Floats32:
        """Return the videos' durations, 0 where they are not known."""
        if self._duration < 0:
            return np.zeros(len(known), np.float32)
        return np.asarray(known[:, self._duration])

    def batch(self, rows: Impressions, chosen: Ints, bins: WatchBins) -> Batch:
        known = rows.known[chosen]
        return Batch(
            torch.from_numpy(known),
            torch.from_numpy(rows.items[chosen]),
            self._histories.before(rows.users[chosen], rows.times[chosen]),
            torch.from_numpy(bins.groups(self.durations(known))),
            torch.from_numpy(places_of(rows.positions[chosen])),
            torch.from_numpy(rows.situation[chosen] + self._facts),
        )


def constant_for(logits: NDArray[np.float64], rate: float) -> float:
    """Return what to add to logits, for their chances to be `rate` on average."""
    low, high = -_FARTHEST - logits.max(), _FARTHEST - logits.min()
    for _ in range(60):  # halving finds it to the last digit
        middle = (low + high) / 2
        chances = 1 / (1 + np.exp(-np.clip(logits + middle, -_FARTHEST, _FARTHEST)))
        low, high = (middle, high) if chances.mean() < rate else (low, middle)
    return float((low + high) / 2)


def duration_column(shown: Shown) -> int:
    """Return which column of `known` is the item's duration; -1 where none is."""
    for place, feature in enumerate(shown.features):
        if (feature.entity, feature.kind, feature.attribute) == ("item", "attribute", "duration_s"):
            return place
    return -1


def situation_sizes(shown: Shown) -> tuple[int, ...]:
    """Return how many rows of the table of facts each fact has: one for other values or none, then one a value."""
    return tuple(1 + len(values) for values in shown.situation.values())


def situation_offsets(shown: Shown) -> Ints:
    """Return where the rows of each fact begin, int64[facts]."""
    sizes = np.array([0, *situation_sizes(shown)], dtype=np.int64)
    return np.cumsum(sizes)[:-1]


def places_of(positions: Ints) -> Ints:
    """Return rows of the part that knows places: 0 unknown, then the first and so on."""
    return np.where(positions < 0, 0, np.minimum(positions + 1, PLACES)).astype(np.int64)


def fit(
    shown: Shown,
    content: Content,
    shape: Shape,
    *,
    epochs: int,
    lesson_epochs: int,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Learner, dict[str, float]]:
    """Return a network fitted on train and validation, and the metrics on validation of the one that chose the epochs.

    Tastes are learnt first from what users thought of items before the first impression, where enough is known of that;
    then all is fitted together.

    Args:
        shown: What to learn from.
        content: What items are made of.
        shape: Of the network.
        epochs: At most; half as many where there is no validation to tell.
        lesson_epochs: Over what came before the impressions.
        seed: Of everything random.
        say: Is told how far it is.
    """
    torch.manual_seed(seed)
    taste, lessons = Taste(content, shape.taste), shown.lessons
    tuned = len(lessons) >= _ENOUGH_LESSONS and lessons.liked.min() < lessons.liked.max()
    if tuned:
        histories = Histories(shown.likes, shape.taste.length)
        taste = learn_taste(taste, lessons, histories, epochs=lesson_epochs, seed=seed, say=say)
    best, metrics = max(epochs // 2, 1), {"validation_impressions": 0.0}
    if len(shown.validation):
        trial = Learner(shown, shown.train, taste, shape, tuned=tuned, seed=seed)
        best, metrics = _best_epochs(trial, shown, epochs=epochs, patience=shape.patience, say=say)
    learner = Learner(shown, Impressions.join(shown.train, shown.validation), taste, shape, tuned=tuned, seed=seed)
    for _ in range(best):
        learner.epoch()
    say(f"engagement: fitted on train and validation for {best} epochs")
    return learner, {**metrics, "epochs": float(best)}


def _best_epochs(
    trial: Learner, shown: Shown, *, epochs: int, patience: int, say: Callable[[str], None]
) -> tuple[int, dict[str, float]]:
    """Return after how many epochs the trial, fitted on train, did best on validation, and its metrics there."""
    best, least = 1, np.inf
    metrics: dict[str, float] = {}
    for epoch in range(1, epochs + 1):
        fitted, held_out = trial.epoch(), trial.loss(shown.validation)
        say(f"engagement, epoch {epoch}: loss {fitted:.4f}, on validation {held_out:.4f}")
        if held_out < least:
            best, least = epoch, held_out
            metrics = measured(shown.validation, trial.outlook(shown.validation))
        elif epoch - best >= patience:
            break
    return best, metrics


def measured(rows: Impressions, said: Outlook) -> dict[str, float]:
    """Return the metrics of what was said of impressions; one that these do not allow to be measured is left out."""
    found = {"validation_impressions": float(len(rows))}
    if rows.click.min() < rows.click.max():
        found["click_auc"] = auc(rows.click, said.click)
        found["click_ne"] = normalised_entropy(rows.click, said.click)
    if rows.click.any():
        found["click_calibration"] = calibration_ratio(rows.click, said.click)
    if rows.long_watch.min() < rows.long_watch.max():
        found["long_watch_auc"] = auc(rows.long_watch, said.long_watch)
    found["watch_mae_s"] = mae(rows.watch_s, said.watch_s)
    if rows.watch_s.min() < rows.watch_s.max():
        found["watch_xauc"] = xauc(rows.watch_s, said.watch_s)
    return found
