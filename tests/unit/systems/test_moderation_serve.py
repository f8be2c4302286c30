"""From a request to decisions, through the app that serves; whatever of the house is standing."""

import json
from datetime import timedelta

import numpy as np
import pytest
import tiny_moderation
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoder import VOCABULARY

from twinloop.contracts.artefacts import Case
from twinloop.contracts.events import ModerationEventRow
from twinloop.contracts.tally import Happening, key_of
from twinloop.contracts.text import NORMALISATION, TextInputs
from twinloop.errors import BadInputError, IntegrityError, UnavailableError
from twinloop.evaluation.bundles import LOG_GAIN
from twinloop.evaluation.subgroups import FALSE_POSITIVES, NEGATIVES
from twinloop.features.knowledge import NoItems, UserKnowledge
from twinloop.features.stores import Known, MemoryFeatureStore, counted
from twinloop.ports import MemoryObjectStore
from twinloop.serving.http import Request
from twinloop.serving.loading import load_models
from twinloop.serving.problems import InvalidRequestError
from twinloop.serving.service import make_app
from twinloop.systems.moderation import policy, review
from twinloop.systems.moderation.features import COUNTING, amounts, case, slices_of
from twinloop.systems.moderation.policy import Decision, read_hashes
from twinloop.systems.moderation.review_queue import waiting
from twinloop.systems.moderation.serve import ModerationPredictor, _record, judge, most_encoded, worst_windows
from twinloop.systems.moderation.system import SYSTEM
from twinloop.text.disguises import normalise

NOW_MS = int(tiny_moderation.NOW.timestamp() * 1000)


class Log:
    def __init__(self):
        self.lines = []

    def send(self, system, lines):
        self.lines += [json.loads(line) for line in lines]
        return set()


def app(store=None, features=None, log=None):
    if store is None:
        store = MemoryObjectStore()
        tiny_moderation.registered(store)
    features = features or MemoryFeatureStore()
    return make_app(SYSTEM, store, features, log, features=features, now=lambda: tiny_moderation.NOW)


def ask(made, **body):
    path = "/v1/moderation/decisions"
    return json.loads(made(Request("POST", path, {}, json.dumps(body).encode())).body)


def test_one_text_is_one_decision_with_its_policy() -> None:
    told = ask(app(), text="a jackpot for you", item_id="t1")
    [one] = told["decisions"]
    assert (one["item_id"], one["action"], one["because"]) == ("t1", "remove", ["spam"])
    assert one["labels"] == pytest.approx({"spam": 0.95, "scam": 0.02})
    assert told["policy_version"].startswith("default-")
    assert (told["arm"], told["degraded"]) == ("champion", False)


def test_a_batch_is_answered_in_its_order() -> None:
    texts = ["rain", "jackpot", "", "megadeal", "j a c k p o t", "\u200bj\u0430ckp\u043et"]
    told = ask(app(), items=[{"text": text} for text in texts])["decisions"]
    assert [one["action"] for one in told] == ["allow", "remove", "allow", "review", "remove", "remove"]
    assert told[2]["labels"] == {}
    alone = [ask(app(), text=text)["decisions"][0]["labels"] for text in texts]
    assert [one["labels"] for one in told] == alone


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": "a", "items": [{"text": "b"}]},
        {"items": []},
        {"items": [{"text": "a"}] * 101},
        {"items": [{"text": "a"}], "author_id": "x"},
        {"items": [{"text": "a", "item_id": "x"}, {"text": "b", "item_id": "x"}]},
        {"text": "x" * 100_001},
        {"text": 5},
        {"text": "a", "media_hashes": ["xyz"]},
        {"text": "a", "media_hashes": ["00000000000000ff"] * 21},
        {"items": [{"text": "a", "media_hashes": [f"{n:016x}" for n in range(m, m + 20)]} for m in range(0, 220, 20)]},
        {"text": "a", "colour": "red"},
    ],
)
def test_a_bad_request_is_refused_with_its_fault(body) -> None:
    with pytest.raises(InvalidRequestError):
        ask(app(), **body)


def test_a_long_text_is_as_bad_as_its_worst_part() -> None:
    text = "garden path " * 8_000
    [one] = ask(app(), text=text[:50_000] + " jackpot " + text[:49_000])["decisions"]
    assert one["action"] == "remove"
    assert ask(app(), text=text)["decisions"][0]["action"] == "allow"


def test_known_media_are_removed_before_any_model() -> None:
    store = MemoryObjectStore()
    tiny_moderation.registered(store, **{"media_hashes.bin": read_hashes(["00000000000000ff"])})
    [one] = ask(app(store), text="a garden", media_hashes=["00000000000000fe"])["decisions"]
    assert (one["action"], one["because"], one["labels"]) == ("remove", ["media"], {})
    [other] = ask(app(store), text="a garden", media_hashes=["ff00000000000000"])["decisions"]
    assert other["action"] == "allow"


def test_media_of_a_request_are_bounded_and_each_is_looked_up_once(monkeypatch) -> None:
    many = [{"text": "a", "media_hashes": [f"{n:016x}" for n in range(m, m + 20)]} for m in range(0, 201, 20)]
    with pytest.raises(InvalidRequestError) as refused:
        ask(app(), items=many)
    [fault] = refused.value.faults
    assert fault.field == "items"
    assert fault.reason.startswith("media_hashes of all items are 220 different ones; at most 200")
    store, looked_up = MemoryObjectStore(), []
    tiny_moderation.registered(store, **{"media_hashes.bin": read_hashes(["f" * 16])})
    known_bad = policy.known_bad

    def counting(hashes, asked, distance):
        looked_up.extend(asked)
        return known_bad(hashes, asked, distance)

    monkeypatch.setattr(policy, "known_bad", counting)
    same = [{"text": "a", "media_hashes": [f"{n:016x}", "00AB", "F" * 16][: 3 if n == 5 else 2]} for n in range(100)]
    same = [one | {"media_hashes": [f"{text:0>16}" for text in one["media_hashes"]]} for one in same]
    told = ask(app(store), items=same)["decisions"]
    assert sorted(looked_up) == sorted({*range(100), 0xAB, 2**64 - 1})
    assert [n for n, one in enumerate(told) if one["action"] == "remove"] == [5]


@pytest.mark.parametrize(
    "text",
    [
        "www.jackpot",
        "www.you.win.the.jackpot",
        "@jackpot now",
        "http://t.co/\u597djackpot",
        "\u597djackpot\u597d",
        "j@ckpot.x",
        "\ufdfa" * 6_000 + " jackpot",
        "jackp\u3164ot",
        "j  a  c  k  p  o  t",
        "&amp;#106;ackpot",
    ],
)
def test_a_bad_word_is_found_wherever_it_is_put(text) -> None:
    assert PREDICTOR.look(text).decision == Decision("remove", ("spam",))


def test_a_text_whose_end_is_not_read_is_a_persons_to_decide() -> None:
    hidden = "\u247d" * 60_000 + " jackpot"  # each becomes four characters
    for text in (hidden, "garden " * 20_000):
        assert PREDICTOR.look(text).decision == Decision("review", ("too_long",))
    assert PREDICTOR.look("jackpot " + hidden).decision == Decision("remove", ("spam",))
    body = json.dumps({"text": hidden}, ensure_ascii=False).encode()
    [one] = json.loads(app()(Request("POST", "/v1/moderation/decisions", {}, body)).body)["decisions"]
    assert (one["action"], one["because"]) == ("review", ["too_long"])


def record(author, **kinds):
    store = MemoryFeatureStore()
    happenings = [
        Happening(NOW_MS - 60_000 * (n + 1), n, amounts({"type": kind}), ())
        for n, kind in enumerate(kind for kind, count in kinds.items() for _ in range(count))
    ]
    store._known["moderation", "user", author] = counted(Known(b"", {}), happenings, COUNTING.layout("user"))
    return store


def test_each_author_of_a_batch_has_their_own_record() -> None:
    made = app(features=record("bad", violation=3))
    items = [{"text": "megadeal", "author_id": author} for author in ("bad", "good")] + [{"text": "megadeal"}]
    other = {"labels": {"scam": {"review": 0.65}, "spam": {}}}
    store = MemoryObjectStore()
    tiny_moderation.registered(store, **{"policy.json": json.dumps(other).encode()})
    told = ask(app(store, features=record("bad", violation=3)), items=items)
    assert [one["action"] for one in told["decisions"]] == ["review", "allow", "allow"]
    assert told["degraded"] is False
    restored = ask(app(store, features=record("bad", violation=3, restoration=1)), items=items)
    assert [one["action"] for one in restored["decisions"]] == ["allow", "allow", "allow"]
    later = ask(app(store, features=record("bad", violation=3)), items=items, time_ms=NOW_MS + 200 * 86_400_000)
    assert [one["action"] for one in later["decisions"]] == ["allow"] * 3  # a record is forgotten
    assert ask(made, text="garden", author_id="bad")["decisions"][0]["action"] == "allow"


def test_what_was_taken_back_long_ago_makes_up_for_nothing_new() -> None:
    """Two violations of 95 and 96 days ago, restored 10 days ago, and three of this week."""
    objects, events = MemoryObjectStore(), []
    days = {"old1": 96, "old2": 95, "new1": 3, "new2": 2, "new3": 1}
    for item_id, ago in days.items():
        then = tiny_moderation.NOW - timedelta(days=ago)
        decision = {
            "item_id": item_id,
            "author_id": "bad",
            "action": "review",
            "labels": {"spam": 0.6},
            "text": item_id,
        }
        line = {"prediction_id": item_id, "time": then.isoformat(), "policy_version": "p", "decisions": [decision]}
        objects.write(f"predictions/moderation/{then:%Y/%m/%d}/{item_id}", json.dumps(line).encode())
        events += review.decide(objects, item_id, {"spam": 1}, who="ann", now=then)
    review.mark_told(objects, events)
    for item_id in ("old1", "old2"):
        then = tiny_moderation.NOW - timedelta(days=10)
        review.appeal(objects, item_id, who="bad", now=then, days=100)
        events += review.decide(objects, item_id, {"spam": 0}, who="ben", now=then, source="appeal", days=100)
    assert [event["type"] for event in events] == ["violation"] * 5 + ["restoration"] * 2
    ModerationEventRow.model_validate(events[-1])
    happened = [Happening(event["time"], key_of(event["event_id"]), amounts(event), ()) for event in events]
    store = MemoryFeatureStore()
    for happening in happened:  # in the order in which they came
        store.count("moderation", ("user", "bad"), [happening], COUNTING.layout("user"))
    known = UserKnowledge(COUNTING, store.known("moderation", [("user", "bad")])[0], NoItems(COUNTING))
    assert _record(known, NOW_MS) == (3, 0)


def test_without_the_store_nobody_has_a_record_and_the_answer_says_so() -> None:
    class Away:
        def history(self, system, user_id):
            raise UnavailableError("away")

        recall = known = history

    told = ask(app(features=Away()), text="megadeal", author_id="a")
    assert told["degraded"] is True
    assert told["decisions"][0]["action"] == "review"


def test_without_a_model_a_person_decides() -> None:
    store = MemoryObjectStore()
    registry = tiny_moderation.registered(store, **{"media_hashes.bin": read_hashes(["00000000000000ff"])})
    version = registry.release(registry.alias("champion").version).components["text"]
    key = f"registry/moderation/text/versions/{version}/model.onnx"
    store.write(key, b"broken")
    items = [{"text": "garden"}, {"text": ""}, {"text": "x", "media_hashes": ["00000000000000ff"]}]
    told = ask(app(store), items=items)
    assert [one["action"] for one in told["decisions"]] == ["review", "allow", "remove"]
    assert (told["arm"], told["degraded"]) == ("control", True)


def test_of_a_release_of_other_rules_known_media_and_people_are_left(monkeypatch) -> None:
    store = MemoryObjectStore()
    older = tiny_moderation.INPUTS.model_copy(update={"normalisation": NORMALISATION - 1})
    made = tiny_moderation.files(inputs=older, **{"media_hashes.bin": read_hashes(["00000000000000ff"])})
    monkeypatch.setattr(tiny_moderation, "files", lambda **_: made)
    tiny_moderation.registered(store)
    told = ask(app(store), items=[{"text": "a"}, {"text": "x", "media_hashes": ["00000000000000ff"]}])
    assert [one["because"] for one in told["decisions"]] == [["no_model"], ["media"]]
    assert (told["arm"], told["degraded"]) == ("control", True)


def test_the_log_has_a_text_only_where_it_is_acted_upon() -> None:
    log = Log()
    texts = {"t1": "a garden", "t2": "megadeal", "t3": "jackpot" + " x" * 6_000}
    ask(app(log=log), items=[{"text": text, "item_id": item_id} for item_id, text in texts.items()])
    [line] = log.lines
    assert line["policy_version"].startswith("default-")
    assert [one.get("text") for one in line["decisions"]] == [None, "megadeal", texts["t3"][:10_000]]
    assert [one["action"] for one in line["decisions"]] == ["allow", "review", "remove"]


@pytest.mark.parametrize("begins", ["garden path " * 900, "garden path " * 900 + "http://x.example and @somebody "])
def test_the_log_has_the_worst_part_of_a_long_text(begins) -> None:
    log, store = Log(), MemoryObjectStore()
    text = begins + "a MEGA\u200bDEAL for you" + " river" * 900
    made = app(log=log)
    ask(made, text=text, item_id="t1", author_id="a1")
    [one] = log.lines[0]["decisions"]
    assert (one["action"], one["text"], one["characters"]) == ("review", text[:10_000], len(text))
    [passage] = one["passages"]
    assert "megadeal" in passage
    # Read again, it is what it was: nothing that stands for an address or a name is lost.
    assert PREDICTOR.look(passage).labels == pytest.approx(one["labels"], abs=1e-5)
    assert normalise(passage) in normalise(text)
    now = tiny_moderation.NOW
    store.write(f"predictions/moderation/{now:%Y/%m/%d}/lines", json.dumps(log.lines[0]).encode())
    [waits] = waiting(store, now=now)
    assert "megadeal" in waits.text
    assert waits.text.endswith("[…]")
    review.decide(store, "t1", {"spam": 1}, who="ann", now=now)
    [key] = store.keys("raw/moderation/labels/")
    assert json.loads(store.read(key).body)["text"] == waits.text


def test_of_a_long_text_whose_worst_part_comes_early_the_log_has_the_beginning() -> None:
    log = Log()
    ask(app(log=log), text="a megadeal " + "garden path " * 900)
    [one] = log.lines[0]["decisions"]
    assert one["passages"] == []
    ask(app(log=log), text="a megadeal " + "garden path " * 100)
    assert set(log.lines[1]["decisions"][0]) == {*one} - {"passages", "characters", "text_hash"}


def test_what_people_are_to_decide_is_not_lost_in_silence() -> None:
    class Stumbling(Log):
        refuses = 1

        def send(self, system, lines):
            self.refuses -= 1
            return {0} if self.refuses >= 0 else super().send(system, lines)

    log = Stumbling()
    made = app(log=log)
    assert [ask(made, text="megadeal")["degraded"] for _ in range(5)] == [False] * 5
    assert len(log.lines) == 5
    log.refuses = 100
    told = ask(made, text="megadeal")
    assert (told["degraded"], told["decisions"][0]["action"]) == (True, "review")
    assert ask(made, text="garden")["degraded"] is False
    log.refuses = 0
    assert ask(made, text="megadeal")["degraded"] is False
    assert len(log.lines) == 6


def watched_encoder() -> tuple[ModerationPredictor, list[int]]:
    """A predictor with an encoder, and how many rows of pieces this reads, call by call."""
    predictor = ModerationPredictor(load_models(tiny_moderation.blended_files()))
    read: list[int] = []
    run = predictor.model.run

    def watched(inputs):
        read.append(int((inputs["pieces"] >= 0).any(1).sum()))
        return run(inputs)

    predictor.model.run = watched
    return predictor, read


def test_an_encoder_reads_few_windows_of_a_long_text_and_nothing_can_be_hidden() -> None:
    predictor, read = watched_encoder()
    plain, bad = "garden weather train music bread river " * 2_000, " jackpot "
    clean = predictor.probabilities([plain])[0]["spam"]
    assert 0 < sum(read) <= 12
    for place in (0, 500, len(plain) // 2, len(plain) - 300, len(plain)):
        read.clear()
        assert predictor.probabilities([plain[:place] + bad + plain[place:]])[0]["spam"] > clean + 0.3, place
        assert sum(read) <= 12
    read.clear()
    several = predictor.probabilities(["jackpot", plain, "tea", plain + bad])
    assert sum(read) <= 2 + 2 * 12
    alone = [predictor.probabilities([text])[0]["spam"] for text in ("jackpot", plain, "tea", plain + bad)]
    assert [one["spam"] for one in several] == pytest.approx(alone, abs=1e-5)


@given(st.lists(st.integers(0, 120), min_size=1, max_size=100))
def test_of_a_whole_request_an_encoder_reads_few_windows(counts) -> None:
    most = most_encoded(np.array(counts))
    assert sum(min(count, most) for count in counts) <= 300
    assert most == 12 or sum(min(count, 12) for count in counts) > 300


def test_a_request_of_many_long_texts_is_bounded_and_nothing_can_be_hidden() -> None:
    predictor, read = watched_encoder()
    plain = "garden weather train music bread river " * 40
    found = predictor.probabilities([plain, plain[:700] + " jackpot " + plain[700:]] * 30)
    assert 0 < sum(read) <= 300
    assert all(bad["spam"] > clean["spam"] + 0.3 for clean, bad in zip(found[::2], found[1::2], strict=True))


def rows_read(predictor) -> list[list[int]]:
    """What the encoder is asked to read from now on."""
    found: list[list[int]] = []
    run = predictor.model.run

    def watched(inputs):
        found.extend([piece for piece in row if piece >= 0] for row in inputs["pieces"].tolist() if max(row) >= 0)
        return run(inputs)

    predictor.model.run = watched
    return found


def test_signs_at_the_start_of_a_window_hide_nothing_from_the_encoder() -> None:
    predictor = ModerationPredictor(load_models(tiny_moderation.blended_files()))
    rows = rows_read(predictor)
    a, b, c = (VOCABULARY.decode().split("\n").index(letter) for letter in "abc")
    text = "-." * 20 + " a b c"
    predictor.probabilities([text])
    assert any(row[-4:-1] == [a, b, c] for row in rows)
    assert len(rows) == 2
    # A window is as bad as the worst of its rows, each with the n-grams of all of it.
    alone = [predictor._run([normalise(text)], [row])[0] for row in list(rows)]
    found = [predictor.probabilities([text])[0][label] for label in predictor.labels]
    assert found == pytest.approx(np.max(alone, axis=0).tolist(), abs=1e-6)
    assert not np.allclose(*alone, atol=1e-6)


@pytest.mark.parametrize("texts", [1, 40, 100])
def test_rows_of_pieces_are_bounded_and_nothing_can_be_hidden(texts) -> None:
    predictor = ModerationPredictor(load_models(tiny_moderation.blended_files()))
    rows = rows_read(predictor)
    dense = "\u2605\u2606" * 35  # each is read as the words of its name
    found = predictor.probabilities([dense * 3, dense * 2 + " jackpot " + dense] * texts)
    assert len(rows) <= max(300, 3 * 2 * texts)
    assert texts > 1 or len(rows) == 24
    assert all(bad["spam"] > clean["spam"] + 0.3 for clean, bad in zip(found[::2], found[1::2], strict=True))


def test_the_worst_windows_of_every_label_are_looked_at() -> None:
    said = np.zeros((50, 3), np.float32)
    said[:, 0] = np.linspace(0.9, 0.8, 50)
    said[30, 1], said[31, 2], said[32, 2] = 0.1, 0.02, 0.01
    found = worst_windows(said, 6).tolist()
    assert {0, 49, 30, 31} <= set(found)
    assert len(found) == 6
    assert worst_windows(said[:2], 6).tolist() == [0, 1]


def test_a_release_of_other_rules_is_refused() -> None:
    for rules in (99, NORMALISATION - 1):
        files = tiny_moderation.files(inputs=TextInputs(words=1, buckets=2**12, normalisation=rules))
        told = f"by rules {rules}, this code by {NORMALISATION}; learn anew, or deploy the code that belongs"
        with pytest.raises(IntegrityError, match=told):
            ModerationPredictor(load_models(files))
    with pytest.raises(IntegrityError, match=r"text\.json"):
        ModerationPredictor(load_models(tiny_moderation.files(**{"text.json": b"{"})))
    with pytest.raises(IntegrityError, match="not valid"):
        _ = ModerationPredictor(load_models(tiny_moderation.files(**{"policy.json": b"{"}))).policy


PREDICTOR = ModerationPredictor(load_models(tiny_moderation.files()))


@settings(max_examples=100)
@given(st.lists(st.text(st.characters(), max_size=400), max_size=8))
def test_whatever_is_written_there_is_a_decision(texts) -> None:
    for found in PREDICTOR.probabilities(texts):
        assert all(0 <= p <= 1 for p in found.values())


def test_cases_are_judged_by_what_people_said() -> None:
    row = {"example_id": "t1", "text": "the jackpot", "labels": ["spam", "scam"], "values": [1.0, 0.0], "votes": [3, 1]}
    made = case([row, {**row, "example_id": "t2", "values": [0.0, 0.0], "votes": [1, 1]}])
    assert made.truth == {"labels": {"scam": 0.0, "spam": 0.75}}
    metrics = judge(PREDICTOR, made)
    p = {"spam": 0.95, "scam": 0.02}
    expected = (0.75 * np.log(p["spam"]) + 0.25 * np.log(0.05) + np.log(0.98)) / 2
    assert metrics[LOG_GAIN] == pytest.approx(expected, abs=1e-4)
    assert (metrics[NEGATIVES], metrics[FALSE_POSITIVES]) == (0, 0)
    wrong = Case(case_id="a", request={"text": "jackpot"}, truth={"labels": {"spam": 0.0, "unknown": 0.0}})
    assert [judge(PREDICTOR, wrong)[name] for name in (NEGATIVES, FALSE_POSITIVES)] == [1, 1]
    assert case([{**row, "text": " "}]) is None
    with pytest.raises(BadInputError, match="no labelled text"):
        judge(PREDICTOR, Case(case_id="a", request={}, truth={}))


def test_a_policy_older_than_the_model_switches_no_label_off() -> None:
    for labels, action in (({}, "review"), ({"scam": {}}, "allow"), ({"scam": {"limit": 0.1}}, "limit")):
        beside = {"policy.json": json.dumps({"labels": {"spam": {}} | labels}).encode()}
        predictor = ModerationPredictor(load_models(tiny_moderation.files(**beside)))
        assert predictor.look("megadeal").decision.action == action
        assert predictor.look("jackpot").decision.action == "allow"


def test_only_labels_that_were_asked_about_and_are_known_tell_a_wrong_action() -> None:
    files = tiny_moderation.files(**{"policy.json": b'{"labels": {"spam": {"remove": 0.9}, "scam": {"review": 0.5}}}'})
    predictor = ModerationPredictor(load_models(files))
    for text, labels, expected in (
        ("jackpot", {"scam": 0.0}, (1, 0)),  # acted upon for spam, which nobody was asked about
        ("megadeal", {"scam": 0.0}, (1, 1)),
        ("megadeal", {"scam": 0.0, "other": 1.0}, (0, 0)),
        ("jackpot", {"other": 0.0}, (0, 0)),
        ("garden", {"spam": 0.0}, (1, 0)),
    ):
        told = judge(predictor, Case(case_id="a", request={"text": text}, truth={"labels": labels}))
        assert (told[NEGATIVES], told[FALSE_POSITIVES]) == expected, (text, labels)


def test_a_label_that_a_model_does_not_know_is_worth_a_half() -> None:
    def gain(**labels: float) -> float:
        return judge(PREDICTOR, Case(case_id="a", request={"text": "garden"}, truth={"labels": labels}))[LOG_GAIN]

    assert gain(other=1.0) == pytest.approx(np.log(0.5))
    assert gain(other=0.3) == pytest.approx(np.log(0.5))
    assert gain(spam=0.0, other=1.0) == pytest.approx((np.log(0.98) + np.log(0.5)) / 2, abs=1e-4)


def test_slices_say_who_is_spoken_of_and_how() -> None:
    assert slices_of("Two women and a MAN walked")["identity"] == "named"
    assert slices_of("we ain't going")["dialect"] == "marked"
    assert slices_of("a garden") == {"identity": "not named", "dialect": "unmarked", "length": "short"}
