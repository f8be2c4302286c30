"""Two towers: what a user liked lately -> a vector, an item -> a vector; their product says what is liked next.

The history tower pools item embeddings at several learned paces of forgetting, then adds an MLP to a linear map. The
item tower adds tag embeddings to the item's own. Several towers from different starts are averaged: the sum of their
products is the product of their concatenated vectors, so that an ensemble is itself a two-tower model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from twinloop.errors import BadInputError
from twinloop.training.events import Events, Floats32, Ints

FULL_SOFTMAX_ITEMS = 20_000  # above, the softmax is over a sample: 256 questions x 20,000 items are 20 MB a step
SAMPLED_ITEMS = 4_096
FIRST_DECAYS = (0.99, 0.9, 0.6)
_SHUT = -1e4  # finite: a question about a user who knows every item must not turn into NaN


@dataclass(frozen=True)
class Shape:
    """What the towers look like and how they are fitted."""

    dim: int = 64
    hidden: int = 128
    dropout: float = 0.5
    history_dropout: float = 0.2
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    batch: int = 256
    cuts: int = 4
    questions: int = 16_000
    window: int = 4
    window_decay: float = 0.9


def ragged(lengths: Ints) -> tuple[Ints, Ints]:
    """Return (row, place within the row) of every cell of rows of these lengths."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True)
class Batch:
    """Questions: the histories' cells (row, item, age; 0 is the latest), and what came next (row, item, weight)."""

    size: int
    rows: torch.Tensor
    items: torch.Tensor
    ages: torch.Tensor
    next_rows: torch.Tensor
    next_items: torch.Tensor
    next_weights: torch.Tensor


def make_batch(
    events: Events, users: Ints, cuts: Ints, *, longest: int, window: int = 0, window_decay: float = 1.0
) -> Batch:
    """Ask about users after their first `cuts` events; right are those of the next `window` that were not known.

    Of longer histories the latest `longest` events count, as in serving.
    """
    begins = events.offsets
    moment = begins[users] + cuts
    start = np.maximum(begins[users], moment - longest)
    rows, place = ragged(moment - start)
    items = events.items[start[rows] + place]
    ages = (moment - start)[rows] - 1 - place
    next_rows, ahead = ragged(np.minimum(window, begins[users + 1] - moment))
    next_items = events.items[moment[next_rows] + ahead]
    new = ~np.isin(next_rows * events.n_items + next_items, rows * events.n_items + items)
    weights = np.power(window_decay, ahead[new])
    return Batch(
        size=len(users),
        rows=torch.from_numpy(rows),
        items=torch.from_numpy(items),
        ages=torch.from_numpy(ages.astype(np.float32)),
        next_rows=torch.from_numpy(next_rows[new]),
        next_items=torch.from_numpy(next_items[new]),
        next_weights=torch.from_numpy(weights.astype(np.float32)),
    )


class HistoryTower(nn.Module):
    """Cells of histories -> float32[batch, dim]."""

    def __init__(self, n_items: int, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(n_items, shape.dim, mode="sum")
        nn.init.normal_(self.embedding.weight, 0, 0.05)
        self.decay = nn.Parameter(torch.logit(torch.tensor(FIRST_DECAYS)))
        width = len(FIRST_DECAYS) * shape.dim
        self.direct = nn.Linear(width, shape.dim, bias=False)
        self.inner = nn.Linear(width, shape.hidden)
        self.outer = nn.Linear(shape.hidden, shape.dim)
        self.dropout = nn.Dropout(shape.dropout)
        self._drop_events = shape.history_dropout

    def forward(self, batch: Batch) -> torch.Tensor:
        """Pool, then add what the MLP makes of it to what the linear map does."""
        kept = torch.ones(len(batch.rows))
        if self.training:
            kept = (torch.rand(len(batch.rows)) >= self._drop_events).float()
        starts = torch.searchsorted(batch.rows, torch.arange(batch.size))
        pooled = []
        for pace in torch.sigmoid(self.decay):
            weights = pace**batch.ages * kept
            # One event more than there are: what a short history says counts for less.
            total = 1 + torch.zeros(batch.size).index_add(0, batch.rows, weights)
            pooled.append(self.embedding(batch.items, starts, weights) / total[:, None])
        seen = self.dropout(torch.cat(pooled, dim=1))
        hidden = self.dropout(torch.relu(self.inner(seen)))
        result: torch.Tensor = self.direct(seen) + self.outer(hidden)
        return result


class ItemTower(nn.Module):
    """Item indices -> float32[items, dim] and a bias each, which begins at the log of the item's popularity."""

    def __init__(self, tags: Sequence[Sequence[str]], counts: Ints, shape: Shape) -> None:
        super().__init__()
        names = {tag: place for place, tag in enumerate(sorted({tag for of_item in tags for tag in of_item}))}
        self._tags = np.array([names[tag] for of_item in tags for tag in of_item], dtype=np.int64)
        self._tag_counts = np.array([len(of_item) for of_item in tags], dtype=np.int64)
        self._tag_starts = np.cumsum(self._tag_counts) - self._tag_counts
        self.embedding = nn.Embedding(len(counts), shape.dim)
        nn.init.normal_(self.embedding.weight, 0, 0.05)
        self.tag_embedding = nn.EmbeddingBag(max(len(names), 1), shape.dim, mode="mean")
        nn.init.zeros_(self.tag_embedding.weight)
        popular = np.log(counts + 1)
        self.bias = nn.Parameter(torch.from_numpy((popular - popular.max()).astype(np.float32)))

    def forward(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """An item without tags has its own embedding alone."""
        chosen = items.numpy()
        rows, place = ragged(self._tag_counts[chosen])
        tags = torch.from_numpy(self._tags[self._tag_starts[chosen][rows] + place])
        starts = torch.from_numpy(np.searchsorted(rows, np.arange(len(chosen))))
        return self.embedding(items) + self.tag_embedding(tags, starts), self.bias[items]


class TwoTower(nn.Module):
    """One pair of towers."""

    def __init__(self, tags: Sequence[Sequence[str]], counts: Ints, shape: Shape) -> None:
        super().__init__()
        self.history = HistoryTower(len(counts), shape)
        self.items = ItemTower(tags, counts, shape)
        self.n_items = len(counts)

    def scores(self, batch: Batch) -> torch.Tensor:
        """Return float32[batch, n] of every item."""
        vectors, bias = self.items(torch.arange(self.n_items))
        scores: torch.Tensor = self.history(batch) @ vectors.T + bias
        return scores


def full_loss(scores: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Softmax over all items that the user does not know yet; the mean over what came next, by weight."""
    known = torch.zeros_like(scores, dtype=torch.bool)
    known[batch.rows, batch.items] = True
    chances = torch.log_softmax(scores.masked_fill(known, _SHUT), dim=1)
    right = chances[batch.next_rows, batch.next_items]
    return -(batch.next_weights * right).sum() / batch.next_weights.sum()


def sampled_loss(
    right: torch.Tensor, drawn: torch.Tensor, chances: torch.Tensor, same: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Softmax over the right item and a sample of the others, corrected by how likely each was drawn.

    exp(right) + sum(exp(drawn) / (draws * chance)) is unbiased for the softmax's denominator (Bengio and Senecal,
    2008), where draws that hit the right item itself are left out.

    Args:
        right: Scores of right items, [p].
        drawn: Scores of the drawn items, [p, draws].
        chances: Probability of each draw, [draws].
        same: Which draws are the right item, bool [p, draws].
        weights: Of the right items, [p].
    """
    corrected = (drawn - torch.log(chances * len(chances))).masked_fill(same, _SHUT)
    denominator = torch.logsumexp(torch.cat([right[:, None], corrected], dim=1), dim=1)
    return -(weights * (right - denominator)).sum() / weights.sum()


def drawn_loss(
    users: torch.Tensor,
    items: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    batch: Batch,
    chances: NDArray[np.float64],
    draw: np.random.Generator,
) -> torch.Tensor:
    """Draw the items of `sampled_loss` by their chances, [n], and return it.

    `users` are the vectors that go with `batch.next_items`, [p, d]; `items` gives items' vectors and biases.
    """
    drawn = draw.choice(len(chances), SAMPLED_ITEMS, p=chances)
    others = torch.from_numpy(drawn)
    vectors, bias = items(batch.next_items)
    other_vectors, other_bias = items(others)
    return sampled_loss(
        (users * vectors).sum(dim=1) + bias,
        users @ other_vectors.T + other_bias,
        torch.from_numpy(chances[drawn].astype(np.float32)),
        batch.next_items[:, None] == others[None, :],
        batch.next_weights,
    )


def mean_loss(losses: Sequence[float]) -> float:
    """Return an epoch's mean loss; raises BadInputError where there was no question to ask."""
    if not losses:
        raise BadInputError(
            "no user liked one item and later another, so there is no next item to learn: load more events, "
            "or leave this rung out"
        )
    return float(np.mean(losses))


class Ensemble:
    """Several two-tower models fitted side by side on the same events; everything random follows from the seed."""

    def __init__(
        self,
        events: Events,
        tags: Sequence[Sequence[str]],
        shape: Shape,
        *,
        longest: int,
        members: int = 1,
        seed: int = 0,
    ) -> None:
        begins = np.diff(events.offsets)
        self._users = np.flatnonzero(begins > 1)
        self._lengths = begins
        self._events, self._shape, self._longest = events, shape, longest
        self._draw = np.random.default_rng(seed)
        counts = events.counts()
        self._chances = (counts + 1) / (counts + 1).sum()
        torch.manual_seed(seed)
        self.members = [TwoTower(tags, counts, shape) for _ in range(members)]
        self._optimisers = [self._optimiser(member) for member in self.members]

    def _optimiser(self, member: TwoTower) -> torch.optim.Optimizer:
        free = ("history.decay", "items.bias")  # pulling these to zero would say that nothing lasts or is popular
        named = dict(member.named_parameters())
        groups = [
            {"params": [named[name] for name in named if name not in free], "weight_decay": self._shape.weight_decay},
            {"params": [named[name] for name in free], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self._shape.learning_rate)

    def epoch(self) -> float:
        """Ask about every user at `cuts` random moments of their past; returns the mean loss.

        Of more than `questions` of them a random part is asked, so that an epoch takes bounded time.

        Raises:
            BadInputError: No user liked one item and later another: there is no next item to learn.
        """
        losses = []
        for member, optimiser in zip(self.members, self._optimisers, strict=True):
            member.train()
            for batch in self._batches():
                loss = self._loss(member, batch)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                losses.append(loss.item())
        return mean_loss(losses)

    def _batches(self) -> Iterator[Batch]:
        users = self._draw.permutation(np.repeat(self._users, self._shape.cuts))[: self._shape.questions]
        cuts = self._draw.integers(1, self._lengths[users]) if len(users) else users
        for begin in range(0, len(users), self._shape.batch):
            part = slice(begin, begin + self._shape.batch)
            batch = make_batch(
                self._events,
                users[part],
                cuts[part],
                longest=self._longest,
                window=self._shape.window,
                window_decay=self._shape.window_decay,
            )
            if len(batch.next_rows):
                yield batch

    def _loss(self, member: TwoTower, batch: Batch) -> torch.Tensor:
        if member.n_items <= FULL_SOFTMAX_ITEMS:
            return full_loss(member.scores(batch), batch)
        users = member.history(batch)[batch.next_rows]
        return drawn_loss(users, member.items, batch, self._chances, self._draw)

    def users(self, batch: Batch) -> Floats32:
        """Return the users' vectors, the members' side by side: float32[batch, members * dim]."""
        with torch.no_grad():
            parts = [member.eval().history(batch) for member in self.members]
        return torch.cat(parts, dim=1).numpy()

    def catalogue(self) -> tuple[Floats32, Floats32]:
        """Return the items' vectors float32[n, members * dim] and biases float32[n], so that products are means."""
        with torch.no_grad():
            pairs = [member.eval().items(torch.arange(member.n_items)) for member in self.members]
        count = len(pairs)
        vectors = torch.cat([vectors for vectors, _ in pairs], dim=1) / count
        bias = torch.stack([bias for _, bias in pairs]).mean(dim=0)
        return vectors.numpy(), bias.numpy()

    def scores(self, histories: Sequence[Ints]) -> Floats32:
        """Return every item's score for histories of known items, oldest first: float32[histories, n]."""
        lengths = np.array([len(history) for history in histories], dtype=np.int64)
        rows, place = ragged(lengths)
        none = torch.zeros(0, dtype=torch.int64)
        batch = Batch(
            size=len(histories),
            rows=torch.from_numpy(rows),
            items=torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *histories])),
            ages=torch.from_numpy((lengths[rows] - 1 - place).astype(np.float32)),
            next_rows=none,
            next_items=none,
            next_weights=torch.zeros(0),
        )
        vectors, bias = self.catalogue()
        return np.asarray(self.users(batch) @ vectors.T + bias, dtype=np.float32)
