"""Cold start: users of whom only context is known, and items of which only content is.

    python -m benchmarks.cold_start --kuairand FOLDER [--out benchmarks/cold_start.json]

`users`: a fifth of the users is held out whole; they are asked for with their attributes as context and nothing else.
NDCG@10 of what is popular by the context against what is popular with everybody, with the paired interval. For every
data set once with all keys and once with each alone; a key that the other users' likes do not bear out is dropped by
training, and then both are the same list.
`items`: a tenth of the items is held out with all their likes, and comes back as new ones with their tags. Of those
that a user liked, how many are among the ten that exploration would choose from, against chance and the newest; over
several draws of the tenth.

MovieLens-100K is fetched as `twinloop data` does; KuaiRand-Pure is read from a folder.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from twinloop.contracts.segments import segment_value
from twinloop.contracts.system import Asked
from twinloop.datasets.movielens import write_movielens_100k
from twinloop.evaluation.intervals import mean_interval, paired_gain
from twinloop.evaluation.ranking import ndcg_at_k
from twinloop.serving.loading import load_assets
from twinloop.systems.video import policy
from twinloop.systems.video.serve import VideoPredictor
from twinloop.training.events import Events
from twinloop.training.item_vectors import item_vectors
from twinloop.training.linear import popularity
from twinloop.training.segments import fit_segments, packed

ROOT = Path(__file__).resolve().parents[1]
FOLDS = 5
DRAWS = 5
LEAST_LIKES = 10  # of an item, for it to be held out


@dataclass(frozen=True)
class Data:
    """Likes of users of whom something is known, of items of which something is."""

    events: Events
    attributes: Mapping[str, Sequence[str | None]]
    tags: Sequence[Sequence[str]]
    published: Sequence[float]


def main() -> None:
    """Measure both on both data sets and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kuairand", type=Path, help="folder of KuaiRand-Pure's interactions, users and videos")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "cold_start.json")
    options = parser.parse_args()
    sets = {"movielens-100k": movielens()} | ({"kuairand": kuairand(options.kuairand)} if options.kuairand else {})
    result: dict[str, Any] = {"command": "python -m benchmarks.cold_start --kuairand FOLDER", "systems": ["video"]}
    for name, data in sets.items():
        keys = [tuple(data.attributes), *((key,) for key in data.attributes)]
        result[name] = {
            "users": {"+".join(chosen): users(data, chosen) for chosen in keys},
            "items": items(data),
        }
    text = json.dumps(result, indent=1)
    print(text)
    options.out.write_text(text + "\n")


def movielens() -> Data:
    """Ratings of 4 and more."""
    with tempfile.TemporaryDirectory() as folder:
        write_movielens_100k(Path(folder))
        rows = {
            table: [json.loads(line) for line in (Path(folder) / f"{table}.jsonl").read_text().splitlines()]
            for table in ("users", "items", "events")
        }
    liked = [row for row in rows["events"] if row["rating"] >= 4]
    places = {row["item_id"]: place for place, row in enumerate(rows["items"])}
    people = {row["user_id"]: place for place, row in enumerate(rows["users"])}
    events = Events.sort(
        users=np.array([people[row["user_id"]] for row in liked]),
        items=np.array([places[row["item_id"]] for row in liked]),
        times=np.array([row["time"] for row in liked]),
        n_users=len(people),
        n_items=len(places),
    )
    attributes = {
        "occupation": [segment_value(row["occupation"]) for row in rows["users"]],
        "gender": [segment_value(row["gender"]) for row in rows["users"]],
        "decade": [segment_value(row["age"] // 10) for row in rows["users"]],
    }
    published = [float(row["published_at"][:4]) if "published_at" in row else np.nan for row in rows["items"]]
    return Data(events, attributes, [tuple(row["tags"]) for row in rows["items"]], published)


def kuairand(folder: Path) -> Data:
    """Long views of a week."""
    rows = pq.read_table(folder / "interactions.parquet", columns=["user_id", "video_id", "time_ms", "long_view"])
    people = pq.read_table(folder / "users.parquet")
    videos = pq.read_table(folder / "videos.parquet")
    liked = rows.filter(rows["long_view"].to_numpy() > 0)
    user_ids, video_ids = people["user_id"].to_numpy(), videos["video_id"].to_numpy()
    events = Events.sort(
        users=np.searchsorted(user_ids, liked["user_id"].to_numpy()),
        items=np.searchsorted(video_ids, liked["video_id"].to_numpy()),
        times=liked["time_ms"].to_numpy(),
        n_users=len(user_ids),
        n_items=len(video_ids),
    )
    keys = ("user_active_degree", "register_days_range", "follow_user_num_range", "onehot_feat1", "onehot_feat8")
    attributes = {key: [segment_value(value) for value in people[key].to_pylist()] for key in keys}
    tags = [tuple(part for part in (text or "").split(",") if part) for text in videos["tag"].to_pylist()]
    published = [float(text.replace("-", "")) if text else np.nan for text in videos["upload_dt"].to_pylist()]
    return Data(events, attributes, tags, published)


def users(data: Data, keys: Sequence[str]) -> dict[str, Any]:
    """NDCG@10 of users who were held out, with and without their context; every user is held out once."""
    fold_of = np.random.default_rng(0).permutation(data.events.n_users) % FOLDS
    with_context: list[float] = []
    without: list[float] = []
    kept = []
    for fold in range(FOLDS):
        held = fold_of == fold
        counted = data.events.take(~held[data.events.users])
        segments = fit_segments(counted, {key: data.attributes[key] for key in keys})
        kept.append([entry.key for entry in segments])
        predictor = served(counted, packed(segments))
        offsets = data.events.offsets
        for user in np.flatnonzero(held & (np.diff(offsets) > 0)).tolist():
            relevant = {str(item) for item in data.events.items[offsets[user] : offsets[user + 1]]}
            context = {key: data.attributes[key][user] for key in keys}
            for found, facts in ((with_context, context), (without, {})):
                ranked = predictor.rank((), (), 10, at_ms=0, asked=Asked(context=facts))
                found.append(ndcg_at_k(ranked.ids, relevant, 10))
    return {
        "users": len(without),
        "keys_kept_by_fold": kept,
        "everybody": asdict(mean_interval(without)),
        "by_context": asdict(mean_interval(with_context)),
        "gain": asdict(paired_gain(with_context, without)),
    }


def served(events: Events, segments: Mapping[str, Any]) -> VideoPredictor:
    """The serving code on what training leaves; it runs no model for users of whom nothing is known."""
    ids = [str(item) for item in range(events.n_items)]
    body = {"item_ids": ids, "titles": ids, "popularity": popularity(events).tolist()}
    manifest = {
        "system": "video", "component": "retrieval", "rung": "popularity", "framework": "numpy", "snapshot_id": "b",
        "schema_hash": "", "feature_versions": {}, "seed": 0, "code_version": "", "library_versions": {},
        "hyperparameters": {}, "inputs": [], "outputs": [], "parity": {"max_abs_diff": 0, "rows": 1},
        "trained_seconds": 0,
    }  # fmt: skip
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "items.json.gz": gzip.compress(json.dumps(body).encode()),
        "segments.json.gz": gzip.compress(json.dumps(segments).encode()),
    }
    return VideoPredictor(load_assets({"retrieval": files}))


def items(data: Data) -> dict[str, Any]:
    """Recall@10 of held-out items among the new ones, as exploration orders them for each user."""
    found: dict[str, list[float]] = {"by_likeness": [], "newest": [], "chance": []}
    for draw in range(DRAWS):
        for name, values in _held_out_items(data, draw).items():
            found[name] += values
    gain = paired_gain(found["by_likeness"], found["newest"])
    told = {name: asdict(mean_interval(values)) for name, values in found.items()}
    return {"users": len(found["chance"]), **told, "gain_over_newest": asdict(gain)}


def _held_out_items(data: Data, draw: int) -> dict[str, list[float]]:
    """Return each user's recall, by how the new items are ordered."""
    random, counts = np.random.default_rng(draw), data.events.counts()
    enough = random.permutation(np.flatnonzero(counts >= LEAST_LIKES))
    new = np.sort(enough[: len(enough) // 10])
    known = np.setdiff1d(np.arange(data.events.n_items), new)
    number = np.full(data.events.n_items, -1)
    number[known] = np.arange(len(known))
    before = data.events.take(number[data.events.items] >= 0)
    counted = Events(before.users, number[before.items], before.times, before.n_users, len(known))
    vectors = item_vectors(counted, [data.tags[item] for item in known], [data.tags[item] for item in new])
    newest = np.argsort(-np.nan_to_num(np.array(data.published)[new]), kind="stable")
    found: dict[str, list[float]] = {"by_likeness": [], "newest": [], "chance": []}
    offsets, held = counted.offsets, data.events.take(number[data.events.items] < 0)
    for user in np.unique(held.users):
        liked = counted.items[offsets[user] : offsets[user + 1]]
        relevant = set(np.searchsorted(new, held.items[held.users == user]).tolist())
        if not len(liked):
            continue
        order = policy.suited(vectors[liked], vectors[len(known) :])
        most = min(len(relevant), policy.CHOICES)
        for name, ranked in (("by_likeness", order), ("newest", newest)):
            found[name].append(len(relevant & set(ranked[: policy.CHOICES].tolist())) / most)
        found["chance"].append(policy.CHOICES / len(new) * len(relevant) / most)
    return found


if __name__ == "__main__":
    main()
