"""Texts without their disguises, and their n-grams: the same everywhere, whatever is sent."""

import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.text import TextInputs
from twinloop.text.disguises import MOST_CHARACTERS, normalise, tokens, windows
from twinloop.text.ngrams import counted, padded, word_id

INPUTS = TextInputs()


@pytest.mark.parametrize(
    "disguised",
    [
        "hello",
        "HELLO",
        "h\u200be\u200bl\u200dl\u2060o",  # zero width
        "h\u0435ll\u043e",  # Cyrillic e and o
        "\uff48\uff45\uff4c\uff4c\uff4f",  # full width
        "\U0001d421\U0001d41e\U0001d425\U0001d425\U0001d428",  # mathematical
        "h3llo",
        "he\u0301llo\u0308",  # accents
        "h e l l o",
        "h.e.l.l.o",
        "h-e-l-l-o",
        "\u202ehello\u202c",  # direction
        "he*llo",
        "&#104;ello",
    ],
)
def test_a_disguised_word_is_the_word(disguised: str) -> None:
    assert tokens(normalise(disguised)) == ["hello"]


def test_digits_stand_for_letters_only_inside_words() -> None:
    assert normalise("w0rld p4ss ca$h") == "world pass cash"
    assert normalise("it costs $5 in 2014") == "it costs $5 in 2014"
    assert normalise("100 apples") == "100 apples"


def test_what_is_repeated_is_there_twice() -> None:
    assert normalise("sooooo goooood!!!!!") == "soo good!!"
    assert normalise("\U0001f600" * 50) == "\U0001f600" * 2


def test_words_of_other_scripts_stay_themselves() -> None:
    assert normalise("привет мир") == "привет мир"
    assert normalise("你好") == "你好"


def test_addresses_and_accounts_are_one_token_each() -> None:
    assert tokens(normalise("@joe see https://a.example/b?c=d now")) == ["\ue001", "see", "\ue000", "now"]
    assert tokens(normalise("\ue001 \ue000")) == []  # nobody can write these tokens themselves


def test_the_empty_text_has_one_id_that_counts_nothing() -> None:
    for empty in ("", "   ", "\u200b\u200b", "\ud800"):
        found = counted(normalise(empty), INPUTS)
        assert found.ids.tolist() == [0]
        assert found.counts.tolist() == [0.0]


def test_n_grams_are_what_they_were() -> None:
    """Golden: models that were exported know these ids."""
    found = counted("a cat", TextInputs(buckets=2**22))
    # Words: a, cat, a cat. Characters, with a space before and after a word: 6 pairs, 4 triples, 2 of four, 1 of five.
    assert len(found.ids) == 3 + 6 + 4 + 2 + 1
    assert found.ids[:4].tolist() == [138769, 1035869, 1050258, 1217249]
    assert word_id("cat", 2**18) == zlib.crc32(b"cat") % 2**18


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_whatever_is_written_can_be_read(text: str) -> None:
    plain = normalise(text)
    assert plain == plain.strip()
    for piece in windows(plain, INPUTS):
        found = counted(piece, INPUTS)
        assert found.ids.dtype == np.int64
        assert found.counts.dtype == np.float32
        assert (np.diff(found.ids) > 0).all()
        assert ((found.ids >= 0) & (found.ids < INPUTS.buckets)).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["garden", "rain", "tea", "!", "été"]), max_size=30))
def test_a_row_is_the_same_alone_and_in_a_batch(words: list[str]) -> None:
    one, other = counted(normalise(" ".join(words)), INPUTS), counted("weather", INPUTS)
    both = padded([one, other])
    assert both.ids[0][: len(one.ids)].tolist() == one.ids.tolist()
    assert both.counts[0][len(one.ids) :].tolist() == [0.0] * (both.counts.shape[1] - len(one.ids))


def test_long_texts_are_bounded_and_read_whole() -> None:
    started = time.perf_counter()
    plain = normalise("garden path " * 20_000)
    assert len(plain) <= MOST_CHARACTERS
    pieces = windows(plain, INPUTS)
    assert pieces[0] == plain[: INPUTS.window]
    assert plain.endswith(pieces[-1])
    assert len(pieces) <= MOST_CHARACTERS // (INPUTS.window - INPUTS.overlap) + 1
    hostile = ("a " * 50_000, "$" * 100_000, "&#x1f600;" * 11_000, "\ufdfa" * 100_000, "@" * 100_000, "a-" * 50_000)
    for text in hostile:
        assert len(normalise(text)) <= MOST_CHARACTERS
    assert time.perf_counter() - started < 30  # nothing takes time that grows with the square


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"buckets": 1000}, {"window": 100, "overlap": 100}, {"shortest": 4, "longest": 3}):
        with pytest.raises(ValueError, match=r"power of two|their length|is not shorter"):
            TextInputs(**wrong)
