"""The labelled cases of a snapshot, and what a model scored on each."""

from __future__ import annotations

import gzip
import hashlib
import heapq
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from twinloop.contracts.artefacts import Case
from twinloop.errors import BadInputError
from twinloop.features.judged import MOST_JUDGED


@dataclass(frozen=True)
class CaseScores:
    """What one model scored, case by case, always in the order of `case_ids`.

    Attributes:
        case_ids: Which cases.
        metrics: Name -> float64 [cases].
        slices: Slice (`activity`) -> label of each case (`light`), '' where the case has none.
        latency_ms: Milliseconds of each case through the serving code, on one thread.
    """

    case_ids: tuple[str, ...]
    metrics: Mapping[str, NDArray[np.float64]]
    slices: Mapping[str, NDArray[np.str_]]
    latency_ms: NDArray[np.float64]

    def latency(self, percentile: float) -> float:
        """Return a percentile of the latency in ms."""
        return float(np.percentile(self.latency_ms, percentile))


def read_cases(body: bytes, most: int = MOST_JUDGED) -> list[Case]:
    """Read a `cases/*.jsonl.gz`, in its order.

    Of more than `most` cases those with the smallest SHA-256 of their id are kept: a sample that is the same for
    every model and every run on the snapshot, and independent of the file's order.

    Raises:
        BadInputError: The file is no gzipped JSON lines of cases, has none, or names one twice.
    """
    kept: list[tuple[int, int, bytes]] = []  # a heap by -hash, so the largest hash leaves first
    seen: set[str] = set()
    for number, line in _lines(body):
        case_id = _case_id(line, number)
        if case_id in seen:
            raise BadInputError(f"line {number} of the cases names {case_id[:80]!r} a second time")
        seen.add(case_id)
        rank = -int.from_bytes(hashlib.sha256(case_id.encode()).digest())
        if len(kept) < most:
            heapq.heappush(kept, (rank, number, line))
        else:
            heapq.heappushpop(kept, (rank, number, line))
    if not kept:
        raise BadInputError("the snapshot has no test cases; it needs more events, or a lower `minimum_events`")
    return [_case(line, number) for _, number, line in sorted(kept, key=lambda entry: entry[1])]


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise BadInputError(f"the cases are no whole gzip file: {error}") from error


def _case_id(line: bytes, number: int) -> str:
    try:
        case_id = json.loads(line)["case_id"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInputError(f"line {number} of the cases is no JSON object with a case_id") from error
    if not isinstance(case_id, str):
        raise BadInputError(f"line {number} of the cases has a case_id that is no string")
    return case_id


def _case(line: bytes, number: int) -> Case:
    try:
        return Case.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"line {number} of the cases: {where}: {first['msg']}") from error
