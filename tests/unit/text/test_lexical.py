"""An inverted index: what it finds is what BM25's formula says, and what is packed is what was built."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.errors import IntegrityError
from twinloop.text.lexical import LexicalIndex, Scoring, bm25_reference, build, settings_of
from twinloop.text.packing import pack, unpack

WORDS = st.sampled_from(["a", "b", "c", "dd", "ee"])
DOCUMENTS = st.lists(st.tuples(st.lists(WORDS, max_size=6), st.lists(WORDS, max_size=12)), min_size=1, max_size=8)
SCORING = Scoring((3.0, 0.5), (0.75, 0.3), 1.2)


def scores(index, query):
    found = index.postings([index.ids[term] for term, _ in query if term in index.ids])
    known = [pair for pair in query if pair[0] in index.ids]
    factors = np.array([weight * index.rarity[index.ids[term]] for term, weight in known] or [0.0], np.float32)
    return np.bincount(found.documents, found.impacts * factors[found.terms], index.size)


@settings(max_examples=60)
@given(DOCUMENTS, st.dictionaries(st.sampled_from(["a", "b", "c", "dd", "ee", "never"]), st.floats(0.1, 2), max_size=4))
def test_scores_are_those_of_the_formula_word_by_word(documents, query):
    index = build(("title", "text"), documents, SCORING)
    expected = bm25_reference(documents, list(query.items()), SCORING)
    np.testing.assert_allclose(scores(index, list(query.items())), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=30)
@given(DOCUMENTS)
def test_what_is_packed_is_what_was_built(documents):
    index = build(("title", "text"), documents, SCORING)
    again = LexicalIndex.unpacked(index.packed())
    assert (again.fields, again.terms, again.scoring) == (index.fields, index.terms, index.scoring)
    assert again.packed() == index.packed()
    assert [again.title_of(place).tolist() for place in range(again.size)] == [
        [index.ids[word] for word in title] for title, _ in documents
    ]


def test_a_rare_word_counts_more_than_a_frequent_one_and_a_title_more_than_a_text():
    documents = [(["x"], ["y"]), (["y"], ["z"]), (["q"], ["y", "y"]), (["r"], ["x"])]
    index = build(("title", "text"), documents, SCORING)
    assert index.rarity[index.ids["x"]] > index.rarity[index.ids["y"]]
    found = scores(index, [("x", 1.0)])
    assert found[0] > found[3] > found[1] == 0


@pytest.mark.parametrize("cut", [0, 7, 40, 300])
def test_a_file_cut_short_is_refused(cut):
    body = build(("title", "text"), [(["x"], ["y"])], SCORING).packed()
    with pytest.raises(IntegrityError, match="build it anew"):
        LexicalIndex.unpacked(body[:cut])


@pytest.mark.parametrize("built_by", [{}, {"analysis": 1}, {"analysis": 3}, {"analysis": None}])
def test_an_index_of_another_analysis_is_not_asked(built_by):
    arrays, facts = unpack(build(("title", "text"), [(["x"], ["y"])], SCORING).packed(), "it")
    del facts["analysis"]
    body = pack(arrays, facts | built_by)
    with pytest.raises(IntegrityError, match="twinloop refresh search"):
        LexicalIndex.unpacked(body)
    assert settings_of(body) == (("title", "text"), SCORING)  # all that a new one is built with


def test_arrays_that_do_not_fit_together_are_refused():
    arrays, facts = unpack(build(("title", "text"), [(["x"], ["y"])], SCORING).packed(), "it")
    with pytest.raises(IntegrityError, match="do not fit"):
        LexicalIndex.unpacked(pack(arrays | {"documents": np.array([0, 7], np.int32)}, facts))
    with pytest.raises(IntegrityError, match="of type"):
        unpack(pack({"x": np.zeros(2, np.uint64)}, {}), "it")
