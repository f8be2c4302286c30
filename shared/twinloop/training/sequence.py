"""A causal transformer over what a user liked: after every event of a history it says what is liked next.

After SASRec (Kang and McAuley, 2018). Attention knows how many events and how many seconds lie between two events, as
learned biases (Li et al., 2020; Zhai et al., 2024), so that no position has to be learned by itself. A history begins
with a token of its own: somebody who liked nothing yet is a question too. The loss is two_tower's: a softmax over all
items that are not known yet, with the next few events as right answers. What serves is the moving average of the
weights, whose quality depends less on the epoch that was the last.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from twinloop.errors import BadInputError
from twinloop.training import two_tower
from twinloop.training.events import Events, Floats32, Ints
from twinloop.training.two_tower import Batch, drawn_loss, full_loss, make_batch, mean_loss, ragged

GAPS = 32  # classes of seconds between two events: 0, 1-2, 3-6, 7-14 and so on; the last is "to the beginning"
_WARM_UP = 50  # steps in which the learning rate grows; the average of the weights begins after them
_LOGITS = 8_000_000  # scores in a step: 32 MB, and as much for their gradient
_TOGETHER = 64  # histories scored at once
_SHUT = -1e4


@dataclass(frozen=True)
class Shape:
    """What the transformer looks like and how it is fitted."""

    dim: int = 64
    heads: int = 2
    blocks: int = 2
    length: int = 100
    dropout: float = 0.3
    history_dropout: float = 0.2
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    averaging: float = 0.99
    batch: int = 64
    cells: int = 2_000
    users: int = 4_000
    window: int = 4
    window_decay: float = 0.9


@dataclass(frozen=True)
class Histories:
    """Histories side by side, each after the token of the beginning, and the cells that are asked about.

    Attributes:
        items: int64[B, T]; the number of items stands for the beginning, and for what fills a row up on the right.
        gaps: int64[B, T, T]: class of the seconds between two events.
        rows, places: Cells of `items` that are asked about, int64[p].
    """

    items: torch.Tensor
    gaps: torch.Tensor
    rows: torch.Tensor
    places: torch.Tensor


def gap_classes(seconds: Ints) -> Ints:
    """Return int64[B, T, T]: the class of the seconds between each two of int64[B, T]; column 0 is the beginning."""
    between = np.abs(seconds[:, :, None] - seconds[:, None, :])
    # Seconds are whole, so half a second more changes no class, and keeps logarithms away from the borders.
    classes: Ints = np.minimum(np.log2(between + 1.5), GAPS - 2).astype(np.int64)
    classes[:, :, 0] = GAPS - 1
    return classes


def side_by_side(rows: Ints, items: Ints, seconds: Ints, *, size: int, beginning: int) -> tuple[Histories, Ints]:
    """Lay out events (ascending rows, oldest first) of `size` histories; every cell is asked about.

    Returns:
        The histories, and which event each cell is: -1 for the beginning. Cells are the beginnings, then the events.
    """
    lengths = np.bincount(rows, minlength=size)
    place = 1 + np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]
    table = np.full((size, 1 + int(lengths.max(initial=0))), beginning, dtype=np.int64)
    table[rows, place] = items
    clock = np.zeros_like(table)
    clock[rows, place] = seconds
    cells = Histories(
        items=torch.from_numpy(table),
        gaps=torch.from_numpy(gap_classes(clock)),
        rows=torch.from_numpy(np.concatenate([np.arange(size), rows])),
        places=torch.from_numpy(np.concatenate([np.zeros(size, np.int64), place])),
    )
    return cells, np.concatenate([np.full(size, -1), np.arange(len(rows))])


class Block(nn.Module):
    """Attention to the past, then a small MLP; both normalise what they take and add to what there is."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.before_attention, self.before_mlp = nn.LayerNorm(shape.dim), nn.LayerNorm(shape.dim)
        self.attend, self.mix = nn.Linear(shape.dim, 3 * shape.dim), nn.Linear(shape.dim, shape.dim)
        self.steps = nn.Parameter(torch.zeros(shape.length + 1, shape.heads))
        self.inner, self.outer = nn.Linear(shape.dim, 2 * shape.dim), nn.Linear(2 * shape.dim, shape.dim)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: torch.Tensor, by_gap: torch.Tensor) -> torch.Tensor:
        """Take float32[B, T, d] and float32[B, T, T, heads], what the seconds between say; return float32[B, T, d]."""
        size, length, dim = x.shape
        width = dim // self.heads
        parts = self.attend(self.before_attention(x)).view(size, length, 3, self.heads, width)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [B, heads, T, width]
        ages = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        bias = (self.steps[ages.clamp(min=0)] + by_gap).permute(0, 3, 1, 2)
        logits = query @ key.transpose(2, 3) / math.sqrt(width) + bias
        weights = torch.softmax(logits.masked_fill(ages < 0, _SHUT), dim=3)
        seen = (weights @ value).transpose(1, 2).reshape(size, length, dim)
        x = x + self.dropout(self.mix(seen))
        result: torch.Tensor = x + self.dropout(self.outer(torch.relu(self.inner(self.before_mlp(x)))))
        return result


class Transformer(nn.Module):
    """Histories -> a vector for each cell asked about; its product with an item's vector, plus a bias, is the score."""

    def __init__(self, counts: Ints, shape: Shape) -> None:
        super().__init__()
        self.n_items = len(counts)
        self.heads = shape.heads
        self.embedding = nn.Embedding(self.n_items + 1, shape.dim)  # the last is the beginning
        nn.init.normal_(self.embedding.weight, 0, 0.05)
        self.gaps = nn.Parameter(torch.zeros(GAPS, shape.blocks * shape.heads))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.dim)
        self.dropout = nn.Dropout(shape.dropout)
        popular = np.log(counts + 1)
        self.bias = nn.Parameter(torch.from_numpy((popular - popular.max()).astype(np.float32)))

    def forward(self, histories: Histories) -> torch.Tensor:
        """Return float32[p, d]."""
        embedded = self.embedding(histories.items)
        x = self.dropout(embedded * math.sqrt(embedded.shape[2]))
        by_gap = torch.split(nn.functional.embedding(histories.gaps, self.gaps), self.heads, dim=3)
        for block, biases in zip(self.blocks, by_gap, strict=True):
            x = block(x, biases)
        asked: torch.Tensor = self.norm(x[histories.rows, histories.places])
        return asked

    def items(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return items' vectors float32[items, d] and a bias each."""
        return self.embedding(items), self.bias[items]

    def scores(self, histories: Histories) -> torch.Tensor:
        """Return float32[p, n] of every item."""
        result: torch.Tensor = self(histories) @ self.embedding.weight[: self.n_items].T + self.bias
        return result


class Ensemble:
    """Transformers from different starts, whose scores are averaged; everything random follows from the seed."""

    def __init__(self, events: Events, shape: Shape, *, longest: int, members: int = 1, seed: int = 0) -> None:
        if shape.dim % shape.heads:
            raise BadInputError(f"dim={shape.dim} is not a multiple of heads={shape.heads}")
        self._events, self._shape, self._longest = events, shape, longest
        self._begins, self._lengths = events.offsets, np.diff(events.offsets)
        self._users = np.flatnonzero(self._lengths > 1)
        self._draw = np.random.default_rng(seed)
        self._steps = 0
        counts = events.counts()
        self._chances = (counts + 1) / (counts + 1).sum()
        torch.manual_seed(seed)
        self._fitted = [Transformer(counts, shape) for _ in range(members)]
        self._optimisers = [self._optimiser(member) for member in self._fitted]
        self.members = [copy.deepcopy(member).eval() for member in self._fitted]  # the averages, which serve
        self.n_items, self.length = events.n_items, shape.length

    def _optimiser(self, member: Transformer) -> torch.optim.Optimizer:
        # Pulling biases or norms to zero would say that nothing is popular and everything looks alike.
        free = ("bias", "steps", "gaps", "norm.weight", "before_attention.weight", "before_mlp.weight")
        named = dict(member.named_parameters())
        kept = [value for name, value in named.items() if name.endswith(free)]
        pulled = [value for name, value in named.items() if not name.endswith(free)]
        groups = [
            {"params": pulled, "weight_decay": self._shape.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self._shape.learning_rate, betas=(0.9, 0.98))

    def epoch(self) -> float:
        """Ask about every event of every user's history, of at most `users` users; returns the mean loss.

        Raises:
            BadInputError: No user liked one item and later another: there is no next item to learn.
        """
        losses = []
        for users in self._batches():
            cells, asked = self._ask(users)
            if not len(asked.next_rows):
                continue
            self._steps += 1
            for fitted, average, optimiser in zip(self._fitted, self.members, self._optimisers, strict=True):
                loss = self._loss(fitted.train(), cells, asked)
                self._step(fitted, optimiser, loss)
                self._average(fitted, average)
                losses.append(loss.item())
        return mean_loss(losses)

    def _batches(self) -> Iterator[Ints]:
        """Yield users whose histories have about the same length, so that little is filled up."""
        users = self._draw.permutation(self._users)[: self._shape.users]
        about = np.log(self._lengths[users]) + self._draw.normal(0, 0.3, len(users))
        users = users[np.argsort(about, kind="stable")]
        size = self._shape.batch
        for place in self._draw.permutation(-(-len(users) // size)):
            yield users[place * size : (place + 1) * size]

    def _ask(self, users: Ints) -> tuple[Histories, Batch]:
        """Return cells of these users' histories, and what is known and what comes next at each of them."""
        events, longest = self._events, self._shape.length
        first, last = self._begins[users], self._begins[users + 1]
        # Of what is too long, any stretch will do.
        last = last - self._draw.integers(0, np.maximum(self._lengths[users] - longest, 0) + 1)
        start = np.maximum(first, last - longest)
        rows, place = ragged(last - start)
        # Some histories lose little and some much: serving knows short ones too.
        share = self._draw.random(len(users)) * 2 * self._shape.history_dropout
        kept = self._draw.random(len(rows)) >= share[rows]
        rows, chosen = rows[kept], (start[rows] + place)[kept]
        cells, event = side_by_side(
            rows, events.items[chosen], events.times[chosen] // 1000, size=len(users), beginning=self.n_items
        )
        row = cells.rows.numpy()
        moment = np.where(event < 0, start[row], np.append(chosen, 0)[event] + 1)
        able = np.flatnonzero(moment < self._begins[users + 1][row])
        able = np.sort(self._draw.permutation(able)[: self._most_cells()])
        asked = make_batch(
            events,
            users[row[able]],
            moment[able] - first[row[able]],
            longest=self._longest,
            window=self._shape.window,
            window_decay=self._shape.window_decay,
        )
        return Histories(cells.items, cells.gaps, cells.rows[able], cells.places[able]), asked

    def _most_cells(self) -> int:
        """Return how many cells a step may ask about, so that its memory does not grow with the catalogue."""
        across = self.n_items
        if across > two_tower.FULL_SOFTMAX_ITEMS:
            across = two_tower.SAMPLED_ITEMS * self._shape.window
        return min(max(_LOGITS // across, 1), self._shape.cells)

    def _loss(self, member: Transformer, cells: Histories, asked: Batch) -> torch.Tensor:
        if self.n_items <= two_tower.FULL_SOFTMAX_ITEMS:
            return full_loss(member.scores(cells), asked)
        users = member(cells)[asked.next_rows]
        return drawn_loss(users, member.items, asked, self._chances, self._draw)

    def _step(self, member: Transformer, optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        for group in optimiser.param_groups:
            group["lr"] = self._shape.learning_rate * min(1.0, self._steps / _WARM_UP)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(member.parameters(), 5.0)
        optimiser.step()

    def _average(self, fitted: Transformer, average: Transformer) -> None:
        share = 1 - self._shape.averaging if self._steps > _WARM_UP else 1.0
        with torch.no_grad():
            for mean, value in zip(average.parameters(), fitted.parameters(), strict=True):
                mean.lerp_(value, share)

    def scores(self, histories: Sequence[Ints], times_s: Sequence[Ints]) -> Floats32:
        """Return every item's score for histories of known items, oldest first: float32[histories, n]."""
        found = np.zeros((len(histories), self.n_items), dtype=np.float32)
        for begin in range(0, len(histories), _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            found[part] = self._scores(
                [history[-self.length :] for history in histories[part]],
                [times[-self.length :] for times in times_s[part]],
            )
        return found

    def _scores(self, histories: Sequence[Ints], times_s: Sequence[Ints]) -> Floats32:
        none, lengths = np.zeros(0, np.int64), np.array([len(history) for history in histories])
        cells, _ = side_by_side(
            ragged(lengths)[0],
            np.concatenate([none, *histories]),
            np.concatenate([none, *times_s]),
            size=len(histories),
            beginning=self.n_items,
        )
        rows = torch.arange(len(histories))
        last = Histories(cells.items, cells.gaps, rows, torch.from_numpy(lengths))
        with torch.no_grad():
            mean = torch.stack([member.scores(last) for member in self.members]).mean(dim=0)
        return mean.numpy()
