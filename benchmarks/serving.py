"""Serving: cold start against a bare script, and what one request costs on one thread.

    python -m benchmarks.serving [--out benchmarks/serving.json] [--starts 15] [--only PART ...]

With --only, the other parts of the result stay as they are.

`cold_start`: from a fresh process to the first prediction. Ours is the real handler with real clients against a server
on this machine that plays S3, DynamoDB and Firehose with next to no work of its own; the bare script imports
onnxruntime, makes boto3's DynamoDB client and opens the same models from disk, and asks nobody for anything. Both are
started in turns.
`ranking`: 500 candidates with 40 features through 300 trees of depth 6, features in memory.
`recommendation`: the whole predictor on 500 candidates: retrieval, those trees, re-ranking with vectors, authors, times
of publication and trials of new items, for lists of 20 and of 100 and with reasons; and the models alone.
`engagement`: the same 500 candidates with an engagement beside them, as the multi-task job exports one: a whole request
through the handler's code, what is known of the items in memory (`warm`), or to be read from a store in memory
(`cold`). Times are the thread's own, so that a busy machine does not tell.
`ads`: 100 ads with bids, and 1,000, through the handler's code, with the cross network as its job exports it and what
is known of user and ads in memory; the thread's own times.
`retrieval`: the best 150 of 100,000 items by the graph that the two-tower job exports, which searches in int8.
`request`: a whole request but the network: validation, routing, history, two models, answer, log line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
from benchmarks.predictions.ads import ads
from benchmarks.predictions.cold_start import cold_start
from benchmarks.predictions.video import engaged, ranking, recommendation, request, retrieval


def main() -> None:
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("serving.json"))
    parser.add_argument("--starts", type=int, default=15)
    parts: dict[str, Callable[[], Any]] = {
        "cold_start": lambda: cold_start(options.starts),
        "ranking_500": ranking,
        "recommendation_500": recommendation,
        "engagement_500": engaged,
        "ads_100": ads,
        "retrieval_100k": retrieval,
        "request": request,
    }
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    options = parser.parse_args()
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    result = {
        "command": "python -m benchmarks.serving",
        **{
            name: {"systems": ["ads" if name == "ads_100" else "video"], **part()}
            if name in options.only
            else before[name]
            for name, part in parts.items()
            if name in (*options.only, *before)
        },
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
        },
    }
    text = json.dumps(result, indent=1)
    print(text)
    options.out.write_text(text + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


if __name__ == "__main__":
    main()
