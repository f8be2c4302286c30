"""Cases of impressions: all of them weigh the same, and a slice holds only what is in it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.artefacts import Case
from twinloop.errors import BadInputError
from twinloop.evaluation.bundles import MOST_LABELS, OTHER, bundled, log_gain, rare_as_other
from twinloop.evaluation.probability import log_loss


def shown(labels, users=7):
    return [
        Case(
            case_id=f"c{n}",
            request={"user_id": f"u{n % users}", "n": n, "label": label},
            truth={"tap": float(n % 3 == 0)},
            slices={"device": label} if label else {},
        )
        for n, label in enumerate(labels)
    ]


@given(st.lists(st.sampled_from(["tv", "phone", ""]), min_size=1, max_size=120), st.integers(2, 7))
def test_bundles_are_whole_of_one_label_and_lose_no_more_than_one_of_them(labels, size):
    bundles = bundled(shown(labels), size)
    sizes = [len(bundle.request["shown"]) for bundle in bundles]
    held = [request["n"] for bundle in bundles for request in bundle.request["shown"]]
    assert len(held) == len(set(held))
    assert sizes == [size] * (len(labels) // size) or (len(labels) < size and sizes == [len(labels)])
    ids = [bundle.case_id for bundle in bundles]
    assert len(set(ids)) == len(ids)
    for bundle in bundles:
        inside = {request["label"] for request in bundle.request["shown"]}
        assert bundle.slices == ({"device": next(iter(inside))} if len(inside) == 1 and inside != {""} else {})
        assert bundle.truth == {"tap": [float(request["n"] % 3 == 0) for request in bundle.request["shown"]]}
    whole = Counter(bundle.slices.get("device") for bundle in bundles)
    for label, count in Counter(labels).items():
        assert not label or whole[label] >= count // size - (len(labels) < size)


def test_they_are_the_same_in_any_order_and_keep_a_users_impressions_together():
    cases = shown(["tv"] * 200, users=10)
    assert bundled(cases) == bundled(cases[::-1])
    users = [{request["user_id"] for request in bundle.request["shown"]} for bundle in bundled(cases)]
    assert [len(of) for of in users] == [1] * 10


def test_the_gain_is_the_negative_log_loss():
    (case,) = bundled(shown(["tv"] * 5))
    judge = log_gain(lambda predictor, one: {"tap": predictor[one.request["n"]]}, "tap")
    chances = [0.9, 0.2, 0.1, 0.6, 0.5]
    places = [request["n"] for request in case.request["shown"]]
    assert judge(chances, case) == {
        "log_gain": pytest.approx(-log_loss(case.truth["tap"], [chances[place] for place in places]))
    }
    with pytest.raises(BadInputError, match="does not predict other"):
        log_gain(lambda predictor, one: {"tap": 0.5}, "other")(chances, case)


@pytest.mark.parametrize("kinds", [3, 500, 3000])
def test_whatever_applications_send_a_slice_is_carried_and_has_few_labels(kinds):
    cases = rare_as_other(shown([f"model {n % kinds}" for n in range(6000)]), 200)
    labels = {case.slices["device"] for case in cases}
    assert labels == ({"model 0", "model 1", "model 2"} if kinds == 3 else {OTHER})
    assert all("device" in bundle.slices for bundle in bundled(cases))


def test_a_rare_label_is_other_in_its_slice_alone_and_who_is_in_none_stays_out():
    cases = shown(["tv"] * 30 + ["phone"] * 20 + ["watch"] * 19 + [""] * 5)
    cases = [case.model_copy(update={"slices": case.slices | {"of": "all"}}) for case in cases]
    found = rare_as_other(cases, 20)
    assert Counter(case.slices.get("device") for case in found) == {"tv": 30, "phone": 20, OTHER: 19, None: 5}
    assert {case.slices["of"] for case in found} == {"all"}
    assert [case.case_id for case in found] == [case.case_id for case in cases]
    assert rare_as_other([], 20) == []


def test_a_report_never_has_more_labels_than_anybody_reads():
    labels = [f"{n:03}" for n in range(200) for _ in range(2 + (n >= 190))]
    kept = {case.slices["device"] for case in rare_as_other(shown(labels), 1)}
    assert len(kept) == MOST_LABELS + 1
    assert {OTHER, "190", "199", "000"} < kept
