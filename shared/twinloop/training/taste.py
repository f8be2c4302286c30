"""What a user's latest likes say of an item: vectors of items, and attention from the item asked about to the history.

Deep Interest Network's idea (Zhou et al., KDD 2018) with heads of scaled products, so that a request computes its
history once and each candidate costs one product with it. An item's vector is the sum of its own, its author's and its
first tag's, so that one rarely seen leans on what it is. Attention may also turn to nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from twinloop.training.averaging import Averaged
from twinloop.training.events import Events, Floats32, Ints
from twinloop.training.impressions import Lessons

AGE_EDGES = np.array([60 * (2**power - 1) for power in range(1, 16)], dtype=np.int64)
"""Seconds: classes of a like's age are up to a minute, three, seven and so on, and more than three weeks."""
_SHUT = -1e4
_UNKNOWN_SHARE = 0.05  # of items asked about in training whose number is hidden: serving meets new ones
_RARE = 2  # authors of fewer items say nothing that the item does not


@dataclass(frozen=True)
class TasteShape:
    """What the attention looks like and how it is fitted."""

    dim: int = 16
    heads: int = 4
    length: int = 50
    own: int = 200_000
    dropout: float = 0.2
    learning_rate: float = 3e-3
    batch: int = 2_048
    decay: float = 1e-2
    rows: int = 1_000_000


@dataclass(frozen=True)
class Content:
    """Which vectors an item is the sum of, int64[n_items + 1] each; the last is an item that nobody knows.

    Row 0 of authors and tags is one that says nothing. Row 0 of `own` is shared by the items with the fewest likes,
    where there are more than have vectors of their own, so that the model's size has a limit.
    """

    own: Ints
    authors: Ints
    tags: Ints

    @classmethod
    def describe(
        cls, counts: Ints, tags: Sequence[Sequence[str]], authors: Sequence[str | None], *, most: int
    ) -> Content:
        """Return the content of items.

        Args:
            counts: Likes of each item.
            tags: Of each item.
            authors: Of each item, None where the catalogue names none.
            most: Items with a vector of their own.
        """
        own = np.zeros(len(counts) + 1, np.int64)
        liked = np.argsort(-counts, kind="stable")[:most]
        own[liked] = 1 + np.arange(len(liked))
        return cls(own, _places(authors, _RARE), _places([names[0] if names else None for names in tags], 1))

    @property
    def n_items(self) -> int:
        return len(self.own) - 1


def _places(names: Sequence[str | None], fewest: int) -> Ints:
    """Return a number above 0 for each name that is there often enough, 0 for the others, and a 0 at the end."""
    often = Counter(name for name in names if name)
    place = {name: 1 + n for n, name in enumerate(sorted(name for name, count in often.items() if count >= fewest))}
    return np.array([*(place.get(name, 0) if name else 0 for name in names), 0], dtype=np.int64)


@dataclass(frozen=True)
class Past:
    """Histories side by side: items int64[B, H], -1 where there is nothing; classes of age int64[B, H]."""

    items: torch.Tensor
    ages: torch.Tensor

    @classmethod
    def of(cls, items: Ints, ages_s: Ints) -> Past:
        """Return histories from items and how many seconds ago each like was."""
        return cls(torch.from_numpy(items), torch.from_numpy(np.searchsorted(AGE_EDGES, ages_s, side="right")))


class Histories:
    """The latest likes strictly before any moment of any user."""

    def __init__(self, likes: Events, length: int) -> None:
        self._likes, self._length = likes, length
        self._first = int(likes.times.min()) if len(likes) else 0
        self._span = (int(likes.times.max()) - self._first + 2) if len(likes) else 1
        self._keys = likes.users * self._span + (likes.times - self._first)
        self._begins = likes.offsets

    def before(self, users: Ints, times: Ints) -> Past:
        """Return the history of each user (-1: nobody known) at their moment, epoch milliseconds; the newest last."""
        moment = np.clip(times - self._first, 0, self._span - 1)
        ends = np.searchsorted(self._keys, np.maximum(users, 0) * self._span + moment)
        begins = np.maximum(self._begins[np.maximum(users, 0)], ends - self._length)
        lengths = np.where(users >= 0, ends - begins, 0)
        width = max(int(lengths.max(initial=0)), 1)
        place = ends[:, None] - np.arange(width, 0, -1)[None, :]
        there = np.arange(width, 0, -1)[None, :] <= lengths[:, None]
        place = np.where(there, place, 0)
        if not len(self._likes):
            return Past.of(np.full((len(users), 1), -1, np.int64), np.zeros((len(users), 1), np.int64))
        ages = np.where(there, times[:, None] // 1000 - self._likes.times[place] // 1000, 0)
        return Past.of(np.where(there, self._likes.items[place], -1), ages)


class Taste(nn.Module):
    """Items and histories -> what the history says of each item, and the chance (a logit) that it is liked."""

    own: nn.Embedding
    authors: nn.Embedding
    tags: nn.Embedding
    own_of: torch.Tensor
    authors_of: torch.Tensor
    tags_of: torch.Tensor

    def __init__(self, content: Content, shape: TasteShape) -> None:
        super().__init__()
        self.shape, self.n_items = shape, content.n_items
        for name in ("own", "authors", "tags"):
            numbers = getattr(content, name)
            self.register_buffer(f"{name}_of", torch.from_numpy(numbers), persistent=False)
            table = nn.Embedding(int(numbers.max()) + 1, shape.dim)
            nn.init.normal_(table.weight, 0, 0.02)
            setattr(self, name, table)
        self.bias = nn.Embedding(self.own.num_embeddings, 1)
        nn.init.zeros_(self.bias.weight)
        self.query, self.key = nn.Linear(shape.dim, shape.dim), nn.Linear(shape.dim, shape.dim)
        self.scale = nn.Parameter(torch.ones(shape.heads))
        self.age = nn.Parameter(torch.zeros(len(AGE_EDGES) + 1, shape.heads))
        self.inner, self.outer = nn.Linear(self.width, 64), nn.Linear(64, 1)
        self.dropout = nn.Dropout(shape.dropout)

    @property
    def width(self) -> int:
        """How many numbers `forward` says of an item."""
        return self.shape.dim * (self.shape.heads + 2) + self.shape.heads + 1

    def vectors(self, items: torch.Tensor) -> torch.Tensor:
        """Return float32[..., dim] of items; -1 is one that nobody knows."""
        place = torch.where(items >= 0, items, self.n_items)
        own, author, tag = self.own, self.authors, self.tags
        parts: list[torch.Tensor] = [own(self.own_of[place]), author(self.authors_of[place]), tag(self.tags_of[place])]
        return parts[0] + parts[1] + parts[2]

    def forward(self, items: torch.Tensor, past: Past) -> torch.Tensor:
        """Return float32[B, width] of an item each, int64[B]."""
        size, length = past.items.shape
        heads = self.shape.heads
        asked, seen = self.vectors(items), self.vectors(past.items)
        there = past.items >= 0
        query = self.query(asked).view(size, heads, -1)
        key = self.key(seen).view(size, length, heads, -1)
        logits = torch.einsum("bhd,bthd->bht", query, key) * self.scale[None, :, None]
        logits = logits + nn.functional.embedding(past.ages, self.age).transpose(1, 2)
        logits = logits.masked_fill(~there[:, None], _SHUT)
        nothing = torch.zeros(size, heads, 1)
        weights = torch.softmax(torch.cat([logits, nothing], dim=2), dim=2)[:, :, :-1] * there[:, None]
        pooled = torch.einsum("bht,btd->bhd", weights, seen)
        alike = (pooled * asked[:, None]).sum(dim=2)
        count = torch.log1p(there.sum(dim=1, keepdim=True).float())
        return torch.cat([asked, pooled.reshape(size, -1), asked * pooled.mean(dim=1), alike, count], dim=1)

    def liking(self, items: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Return the logit of a like, float32[B], from what `forward` said of the items."""
        place = torch.where(items >= 0, items, self.n_items)
        of_item = self.bias(self.own_of[place])
        result: torch.Tensor = self.outer(self.dropout(torch.relu(self.inner(said)))) + of_item
        return result[:, 0]

    def penalty(self, items: torch.Tensor) -> torch.Tensor:
        """Return what the vectors of a batch's items cost, so that few events move them little."""
        place = torch.where(items >= 0, items, self.n_items)
        own, author = self.own(self.own_of[place]), self.authors(self.authors_of[place])
        of_item = self.bias(self.own_of[place])
        result: torch.Tensor = (own**2 + author**2).sum(dim=1).mean() + 0.3 * (of_item**2).mean()
        return result * self.shape.decay


def learn_taste(
    taste: Taste,
    lessons: Lessons,
    histories: Histories,
    *,
    epochs: int,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Taste:
    """Return the taste fitted to say of every lesson, from the history before it, whether it was liked."""
    draw, shape = np.random.default_rng(seed), taste.shape
    fitted = Averaged(taste.train(), share=0.002)
    optimiser = torch.optim.AdamW(taste.parameters(), lr=shape.learning_rate, weight_decay=0)
    for epoch in range(epochs):
        rows, losses = draw.permutation(len(lessons))[: shape.rows], []
        for chosen in np.array_split(rows, -(-len(rows) // shape.batch)):
            items = hidden(lessons.items[chosen], draw)
            said = taste(items, histories.before(lessons.users[chosen], lessons.times[chosen]))
            right = torch.from_numpy(lessons.liked[chosen])
            loss = nn.functional.binary_cross_entropy_with_logits(taste.liking(items, said), right)
            optimiser.zero_grad()
            (loss + taste.penalty(items)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            fitted.step()
            losses.append(loss.item())
        say(f"tastes, epoch {epoch + 1} of {epochs}: {len(rows)} events, loss {np.mean(losses):.4f}")
    return fitted.average


def hidden(items: Ints, draw: np.random.Generator) -> torch.Tensor:
    """Return items of which some are not told apart from new ones."""
    return torch.from_numpy(np.where(draw.random(len(items)) < _UNKNOWN_SHARE, -1, items))


def table(taste: Taste) -> tuple[Floats32, Floats32]:
    """Return every item's vector, float32[n_items + 1, dim], and bias, float32[n_items + 1]; the last of no item."""
    every = torch.arange(taste.n_items + 1)
    with torch.no_grad():
        return taste.vectors(every).numpy(), taste.bias(taste.own_of[every])[:, 0].numpy()
