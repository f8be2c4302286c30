"""Words, what is mistyped, pieces of them, and passages that hold them."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.errors import IntegrityError
from twinloop.text.analysis import nfc, stem, terms, words
from twinloop.text.highlight import passage
from twinloop.text.lexical import Scoring, build
from twinloop.text.spelling import Spelling, edits, pack_pairs
from twinloop.text.vectors import quantise, similarities
from twinloop.text.wordpiece import WordPiece


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Movies' cities", ["the", "movi", "citi"]),
        ("Amélie’s CAFÉ", ["ameli", "cafe"]),
        ("rock'n'roll U.S.A. x_y", ["rocknroll", "u", "s", "a", "x", "y"]),
        ("東京物語 1953", ["東", "京", "物", "語", "1953"]),
        ("straße ﬁlm", ["strasse", "film"]),
        ("  …!?", []),
    ],
)
def test_text_becomes_words(text, expected):
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("movie", "movies"), ("city", "cities"), ("zombie", "zombies"), ("hero", "heros"), ("day", "days")],
)
def test_a_plural_and_its_singular_are_one_word(one, other):
    assert stem(one) == stem(other)


def test_words_that_only_look_like_plurals_stay():
    assert [stem(word) for word in ("glass", "bus", "as", "alias")] == ["glass", "bus", "as", "alia"]


@given(st.text(max_size=80))
def test_words_stand_where_they_say_in_any_text(text):
    composed = nfc(text)
    for word in words(composed):
        assert 0 <= word.start < word.end <= len(composed)
        assert len(word.term) <= 64


@given(st.text("abcd", max_size=7), st.text("abcd", max_size=7))
def test_edits_are_symmetric_bounded_and_zero_only_for_equals(one, other):
    assert edits(one, other, 2) == edits(other, one, 2) <= 3
    assert (edits(one, other, 2) == 0) == (one == other)


def test_edits_count_a_swap_once():
    assert [edits("godzilla", other, 2) for other in ("gozdilla", "godzila", "godzillas", "gadzella")] == [1, 1, 1, 2]


def speller(*documents):
    index = build(("title",), [(document.split(),) for document in documents], Scoring((1.0,), (0.75,)))
    return index, Spelling(index, pack_pairs(index.terms))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("interstelar", ["interstellar"]),
        ("harrry", ["harry"]),
        ("potter", ["potter"]),
        ("harrypotter", ["harry", "potter"]),
        ("poter", ["potter", "poker"]),
        ("xyzzy", None),
        ("2048", None),
        ("cat", None),
    ],
)
def test_a_mistyped_word_is_taken_for_what_is_near(word, expected):
    index, spelling = speller("harry potter", "interstellar", "potter poker", "2049", "cut")
    meant = spelling.meant(word)
    assert expected is None if meant is None else [index.terms[term] for term in meant.terms] == expected


def test_a_table_of_other_words_is_refused():
    index, _ = speller("harry potter")
    with pytest.raises(IntegrityError, match="other terms"):
        Spelling(index, pack_pairs(["one", "other", "words"]))


VOCABULARY = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##aff\n##able\ncafe\n!\n"


def test_words_are_cut_into_the_longest_pieces():
    cutter = WordPiece(VOCABULARY)
    assert cutter.ids("Unaffable CAFÉ!", most=32) == [2, 4, 5, 6, 7, 8, 3]
    assert cutter.ids("unknowable \ufffd\x00 " + "a" * 200, most=32) == [2, 1, 1, 3]
    assert cutter.ids("un " * 1000, most=8) == [2, 4, 4, 4, 4, 4, 4, 3]
    with pytest.raises(IntegrityError, match="none of BERT's"):
        WordPiece(b"a\nb\n")


def test_pieces_are_those_of_the_library():
    if importlib.util.find_spec("tokenizers") is None:
        pytest.skip("the package tokenizers, which serving does not need, is not installed")
    from tokenizers import BertWordPieceTokenizer

    pieces = VOCABULARY.decode().split()
    library = BertWordPieceTokenizer({piece: number for number, piece in enumerate(pieces)}, lowercase=True)
    for text in ("Unaffable café!", "a\u0301 un\u200baffable", "İ ß ﬁ 日本", "tab\tand\nnew", "", "$un-un"):
        assert WordPiece(VOCABULARY).ids(text, most=64) == library.encode(text).ids


def test_a_passage_holds_the_words_and_says_where():
    text = "Once upon a time. " * 20 + "A knight meets a dragon near the café. " + "And so on. " * 30
    found = passage(text, {"knight", "dragon", "cafe"}, length=80)
    assert len(found.text) <= 82
    assert [found.text[start:end] for start, end in found.marks] == ["knight", "dragon", "café"]
    assert found.text[0] == found.text[-1] == "…"
    assert passage("", {"a"}) == ("", ())


@given(st.text(max_size=400), st.integers(20, 100))
def test_marks_are_inside_a_passage_of_any_text(text, length):
    wanted = {word.term for word in words(nfc(text))[::2]}
    found = passage(text, wanted, length=length)
    assert len(found.text) <= length + 2
    assert all(0 <= start < end <= len(found.text) for start, end in found.marks)


def test_eight_bits_keep_what_is_near():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    levels, scales = quantise(vectors)
    assert np.abs(levels * scales[:, None] - vectors).max() <= scales.max() / 2 + 1e-7
    assert np.abs(similarities(vectors[7], levels, scales) - vectors @ vectors[7]).max() < 0.02
    assert quantise(np.zeros((1, 4), np.float32))[0].tolist() == [[0, 0, 0, 0]]
