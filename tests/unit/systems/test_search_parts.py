"""The parts of search that need no model: its policy, its examples, its card, its endpoint's contract."""

import duckdb
import numpy as np
import pytest
from pydantic import ValidationError

from twinloop import systems
from twinloop.contracts.system import System
from twinloop.errors import BadInputError
from twinloop.systems.search import policy
from twinloop.systems.search.endpoint import RESULTS, SearchRequest
from twinloop.systems.search.evaluate import Remote, cases
from twinloop.systems.search.features import EXAMPLES, SQL
from twinloop.text.documents import Documents, pack_documents
from twinloop.text.fusion import Fusion
from twinloop.text.packing import pack, unpack
from twinloop.training.corpus import Named, corpus_of_rows
from twinloop.training.judged_queries import ndcg


def test_the_system_is_whole():
    system = systems.load("search")
    assert isinstance(system, System)
    assert [rung.name for rung in system.spec.rungs] == ["bm25", "hybrid", "learned_ranking"]
    assert system.endpoint is RESULTS


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10])
def test_propensities_are_how_often_items_are_at_their_places(count):
    drawn = [policy.swapped(count, 0.5, f"seed {number}") for number in range(20_000)]
    often = np.zeros((count, count))
    for order in drawn:
        often[np.arange(count), order.places] += 1 / len(drawn)
    for order in drawn[:50]:
        told = np.array(order.propensities)
        np.testing.assert_allclose(told, often[np.arange(count), order.places], atol=0.02)


def test_without_a_seed_nothing_is_drawn():
    assert policy.swapped(5, 0.5, "").propensities is None
    assert policy.swapped(1, 0.5, "s").places.tolist() == [0]
    assert policy.swapped(5, 0.0, "s").places.tolist() == [0, 1, 2, 3, 4]


def examples(events=(), judgments=()):
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE events(event_id VARCHAR, type VARCHAR, time_ms BIGINT, query VARCHAR, request_id VARCHAR,"
        ' item_id VARCHAR, shown VARCHAR[], "offset" BIGINT)'
    )
    connection.execute("CREATE TABLE judgments(query VARCHAR, item_id VARCHAR, grade DOUBLE, judged_ms BIGINT)")
    for row in events:
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, None)[:8])
    for row in judgments:
        connection.execute("INSERT INTO judgments VALUES (?, ?, ?, ?)", row)
    found = connection.execute(f"SELECT * FROM ({SQL}) ORDER BY group_id, item_id, position")  # noqa: S608
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def test_lists_and_clicks_become_looks_by_place():
    rows = examples(
        events=[
            ("1", "query", 10, "Red  Shoes", "r1", None, ["a", "b"]),
            ("2", "click", 11, "Red  Shoes", "r1", "b", []),
            ("3", "click", 12, "Red  Shoes", "r1", "b", []),  # twice is once
            ("4", "query", 20, "red shoes", "r2", None, ["a", "b"]),
            ("5", "query", 30, "red shoes", None, None, ["a"]),  # of which no click could be known
            ("6", "click", 31, "red shoes", "r9", "a", []),  # of a list that nobody sent
        ]
    )
    told = [(r["group_id"], r["item_id"], r["position"], r["shown"], r["clicked"], r["grade"]) for r in rows]
    assert told == [("red shoes", "a", 0, 2, 0, None), ("red shoes", "b", 1, 2, 1, None)]
    assert len({row["example_id"] for row in rows}) == 2


def test_a_later_page_begins_where_the_one_before_ended():
    rows = examples(
        events=[
            ("1", "query", 10, "red", "r1", None, ["a", "b"], 0),
            ("2", "query", 20, "red", "r2", None, ["c", "d"], 2),
            ("3", "click", 21, "red", "r2", "c", [], None),
        ]
    )
    assert [(r["item_id"], r["position"], r["clicked"]) for r in rows] == [
        ("a", 0, 0),
        ("b", 1, 0),
        ("c", 2, 1),
        ("d", 3, 0),
    ]


def test_judgments_are_examples_and_their_queries_cases():
    rows = examples(judgments=[("Red Shoes", "a", 2.0, None), ("red shoes ", "b", 0.0, 5), ("blue", "a", 0.0, 1)])
    assert [(row["group_id"], row["item_id"], row["grade"], row["time_ms"]) for row in rows] == [
        ("blue", "a", 0.0, 1),
        ("red shoes", "a", 2.0, 0),
        ("red shoes", "b", 0.0, 5),
    ]
    assert EXAMPLES.case(rows[:1]) is None
    case = EXAMPLES.case(rows[1:])
    assert (case.case_id, case.truth, case.slices) == (
        "red shoes",
        {"grades": {"a": 2.0}},
        {"words": "2", "answers": "1"},
    )


def test_a_labelled_file_is_asked_through_the_api():
    rows = [{"query": "Red  Shoes", "item_id": "a", "grade": 1}, {"query": "blue", "item_id": "a", "grade": 0}]
    (case,) = cases(rows, lambda users: [])
    asked = []
    remote = Remote(lambda body: asked.append(body) or {"items": [{"item_id": "b"}, {"item_id": "a"}]}, case)
    found = systems.load("search").judge(remote, case)
    assert found == {"ndcg@10": pytest.approx(0.6309, abs=1e-4), "recall@10": 1.0}
    assert asked == [{"query": "Red  Shoes", "limit": 10, "explore": False, "include": []}]
    SearchRequest.model_validate_json('{"query": "Red  Shoes", "limit": 10, "explore": false, "include": []}')


def test_attributes_become_fields_categories_and_numbers():
    rows = [
        {
            "item_id": f"{n}",
            "title": f"Title {n}",
            "text": None,
            "tags": ["t"],
            "attributes": {
                "cast": ["A B", "C"],
                "year": 1990 + n,
                "site": f"https://x/{n}",
                "sold": n % 2 == 0,
                "odd": {},
            },
        }
        for n in range(5)
    ]
    corpus = corpus_of_rows([*rows, {"item_id": "none", "title": "", "attributes": "broken {"}])
    assert corpus.fields == ("title", "text", "tags", "cast", "sold")
    assert list(corpus.numbers) == ["year"]
    assert corpus.categories["cast"][0] == ("A B", "C")
    assert len(corpus.ids) == 5
    again = corpus_of_rows(rows, Named(("cast", "gone"), ("year", "price")))
    assert again.fields == ("title", "text", "tags", "cast", "gone")
    assert np.isnan(again.numbers["price"]).all()
    assert again.digest() != corpus.digest() == corpus_of_rows(rows).digest()


def test_filters_know_neither_case_nor_accents_and_a_missing_number_is_in_no_range():
    body = pack_documents(
        ["a", "b", "c"],
        ["A", "B", "C"],
        ["", "", ""],
        {"kind": [["Café"], ["cafe", "bar"], []]},
        {"year": np.array([1990, np.nan, 2000])},
        version="v",
    )
    documents = Documents(body)
    assert documents.allowed({"kind": ["CAFE"]}, {}).tolist() == [True, True, False]
    assert documents.allowed({}, {"year": (1990, None)}).tolist() == [True, False, True]
    assert documents.allowed({"kind": ["bar"]}, {"year": (None, 3000)}).tolist() == [False, False, False]
    assert documents.categories["kind"].counts(np.array([True, True, True]), most=5) == [
        ("Café", 1),
        ("cafe", 1),
        ("bar", 1),
    ]


def test_neighbouring_days_written_as_numbers_are_told_apart():
    rows = [
        {"item_id": f"{day}", "title": "t", "attributes": {"day": day, "price": 0.1}} for day in (20240115, 20240116)
    ]
    corpus = corpus_of_rows(rows)
    body = pack_documents(corpus.ids, corpus.titles, corpus.texts, {}, corpus.numbers, version=corpus.digest())
    documents = Documents(body)
    assert documents.allowed({}, {"day": (20240116, 20240116)}).tolist() == [False, True]
    assert documents.allowed({}, {"day": (None, 20240115)}).tolist() == [True, False]
    assert documents.allowed({}, {"price": (0.1, 0.1)}).tolist() == [True, True]


def test_files_of_documents_with_short_numbers_stay_readable():
    arrays, facts = unpack(pack_documents(["a"], ["A"], [""], {}, {"price": np.array([0.1])}, version="v"), "a file")
    arrays["price:number"] = arrays["price:number"].astype(np.float32)
    assert Documents(pack(arrays, facts)).allowed({}, {"price": (0.1, 0.1)}).tolist() == [True]


def test_a_deleted_item_is_no_document():
    rows = [{"item_id": "a", "title": "A", "deleted": True}, {"item_id": "b", "title": "B", "deleted": False}]
    rows.append({"item_id": "c", "title": "C", "deleted": None})
    assert corpus_of_rows(rows).ids == ("b", "c")
    with pytest.raises(BadInputError, match="or all are deleted"):
        corpus_of_rows(rows[:1])


@pytest.mark.parametrize(
    ("bounds", "why"),
    [({}, "needs least, greatest or both"), ({"least": 2, "greatest": 1}, "least is greater than greatest")],
)
def test_bounds_that_are_no_range_are_refused(bounds, why):
    with pytest.raises(ValidationError, match=why):
        SearchRequest.model_validate({"query": "x", "between": {"year": bounds}})
    SearchRequest.model_validate({"query": "x", "between": {"year": {"least": 1, "greatest": 1}}})


@pytest.mark.parametrize("method", ["linear", "rrf"])
def test_what_is_only_near_is_found_behind_what_has_the_words(method):
    lexical = np.array([2.0, 0.0, 0.0, 1.0], np.float32)
    similar = np.array([0.1, 0.9, 0.1, 0.1], np.float32)
    scores = Fusion(method, 0.2, 0.5).scores(lexical, similar, None)
    assert scores[0] > scores[3] > scores[1] > scores[2] == 0
    allowed = np.array([False, True, True, True])
    assert Fusion(method, 0.2, 0.5).scores(lexical, similar, allowed)[0] == 0


def test_ndcg_is_its_formula():
    assert ndcg(["a", "b"], {"a": 1.0, "b": 1.0}) == 1.0
    assert ndcg(["x", "a"], {"a": 1.0}) == pytest.approx(1 / np.log2(3))
    assert ndcg(["a"], {}) == 0.0
