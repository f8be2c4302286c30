"""Reading labelled cases, and replaying them."""

import gzip
import json

import numpy as np
import pytest

from twinloop.contracts.artefacts import Case
from twinloop.errors import BadInputError, UnavailableError
from twinloop.evaluation.cases import read_cases
from twinloop.evaluation.replay import replay


def line(case_id, **slices):
    return json.dumps({"case_id": case_id, "request": {"user_id": case_id}, "truth": {}, "slices": slices}).encode()


def packed(*lines):
    return gzip.compress(b"\n".join(lines), mtime=0)


def test_cases_come_in_the_order_of_the_file():
    assert [c.case_id for c in read_cases(packed(line("b"), b"", line("a"), line("c")))] == ["b", "a", "c"]


def test_of_too_many_the_same_ones_are_kept_whatever_the_order():
    lines = [line(f"user-{n}") for n in range(200)]
    kept = [c.case_id for c in read_cases(packed(*lines), most=20)]
    again = [c.case_id for c in read_cases(packed(*reversed(lines)), most=20)]
    assert len(kept) == 20
    assert kept == again[::-1]
    assert set(kept) < {c.case_id for c in read_cases(packed(*lines), most=40)}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no test cases"),
        (gzip.compress(b"\n\n", mtime=0), "no test cases"),
        (b"plain", "gzip"),
        (packed(line("a"))[:-6], "gzip"),
        (packed(line("a"), b"{"), "line 2"),
        (packed(b"[1]"), "line 1"),
        (packed(b'{"case_id": 5}'), "no string"),
        (packed(b"\xff\xfe"), "line 1"),
        (packed(line("a"), line("b"), line("a")), "second time"),
        (packed(b'{"case_id": "a", "request": {}, "truth": {}, "extra": 1}'), "line 1 of the cases: extra"),
    ],
)
def test_what_is_wrong_with_the_file_is_told(body, told):
    with pytest.raises(BadInputError, match=told):
        read_cases(body)


def cases(count=3):
    return [
        Case(case_id=str(n), request={}, truth={}, slices={"parity": "even"} if n % 2 == 0 else {})
        for n in range(count)
    ]


class Timer:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_scores_slices_and_latency_are_noted_case_by_case():
    timer = Timer()
    asked = []

    def judge(predictor, case):
        asked.append(case.case_id)
        timer.now += 5.0 if len(asked) == 1 else 0.002
        return {"hit": float(predictor == case.case_id), "n": 1.0}

    scores = replay("1", cases(), judge, timer=timer)
    assert scores.case_ids == ("0", "1", "2")
    assert scores.metrics["hit"].tolist() == [0.0, 1.0, 0.0]
    assert scores.slices["parity"].tolist() == ["even", "", "even"]
    np.testing.assert_allclose(scores.latency_ms, 2.0)
    assert scores.latency(99) == pytest.approx(2.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value):
    with pytest.raises(BadInputError, match="not finite"):
        replay(None, cases(), lambda _, case: {"hit": value})


def test_other_names_in_a_later_case_are_refused():
    with pytest.raises(BadInputError, match="was judged by"):
        replay(None, cases(), lambda _, case: {f"hit{case.case_id == '2'}": 1.0})


def test_nothing_to_judge_is_refused():
    with pytest.raises(BadInputError):
        replay(None, [], lambda _, case: {"hit": 1.0})
    with pytest.raises(BadInputError, match="no metric"):
        replay(None, cases(), lambda _, case: {})


def test_what_the_predictor_raises_is_not_hidden():
    def judge(predictor, case):
        raise UnavailableError("broken")

    with pytest.raises(UnavailableError):
        replay(None, cases(), judge)
