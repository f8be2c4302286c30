"""Words of scripts whose letters carry marks: whole, found with and without decoration, and marked where they stand."""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twinloop.text.analysis import fold, nfc, stem, terms, words
from twinloop.text.highlight import passage

SHAPES = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@given(st.text(st.characters(max_codepoint=127)))
@example("Rock'n'roll's U.S.A. x_y movies_cities 007 'tis ties' O'Hara's")
def test_plain_english_has_the_terms_that_it_always_had(text):
    def term(word):
        plain = word[:256].lower()
        return stem(re.sub(r"'s$", "", plain).replace("'", ""))[:64] if "'" in plain else stem(plain)[:64]

    found = [(term(match.group()), *match.span()) for match in SHAPES.finditer(text)]
    assert words(text) == found
    assert terms(text) == [told for told, _, _ in found if told]


@pytest.mark.parametrize(
    "word",
    [
        "हिन्दी",
        "தமிழ்",
        "বাংলা",
        "ಕನ್ನಡ",
        "മലയാളം",
        "සිංහල",
        "ਪੰਜਾਬੀ",
        "नेपाली",
        "क्‍ष",
        "العَرَبِيَّة",
        "می‌خواهم",
        "שָׁלוֹם",
        "x̂y",
        "İstanbul",
    ],
)
def test_a_word_with_marks_is_one_word(word):
    composed = nfc(f"one {word}, two")
    assert [composed[found.start : found.end] for found in words(composed)] == ["one", nfc(word), "two"]


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("كِتَابٌ", "كتاب"),
        ("مُحَمَّد", "محمد"),
        ("كتـــاب", "كتاب"),
        ("می‌خواهم", "میخواهم"),
        ("שָׁלוֹם", "שלום"),
        ("Ἀθῆναι", "αθηναι"),
        ("моско́вский", "МОСКОВСКИИ"),
        ("Amélie", "amelie"),
        ("Việt", "viet"),
        ("x̂y", "xy"),
        ("1️⃣", "1"),
        ("क्‍ष", "क्ष"),
        ("e\u0301te\u0301", "été"),
    ],
)
def test_decoration_does_not_keep_a_word_from_being_found(written, plain):
    assert terms(written) == terms(plain) != []
    assert fold(written) == fold(plain)


@pytest.mark.parametrize(
    ("one", "other"),
    [("में", "मैं"), ("में", "म"), ("が", "か"), ("ぱ", "は"), ("กา", "กี"), ("தமி", "தம"), ("ন", "না")],
)
def test_marks_that_are_letters_tell_words_apart(one, other):
    assert terms(one) != terms(other)
    assert fold(one) != fold(other)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("東京ガ1953", ["東", "京", "ガ", "1953"]),
        ("ภาษาไทยที่นี่", ["ภ", "า", "ษ", "า", "ไ", "ท", "ย", "ที่", "นี่"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("ភាសា", ["ភា", "សា"]),
        ("x̂が", ["x̂", "が"]),
    ],
)
def test_scripts_without_spaces_are_divided_into_letters_with_their_marks(text, pieces):
    composed = nfc(text)
    assert [composed[word.start : word.end] for word in words(composed)] == [nfc(piece) for piece in pieces]


@pytest.mark.parametrize("text", ["\u0301", "\u0301\u0301 \u200d", "ा ि", " \ufe0f!", "_\u0301_"])
def test_marks_alone_are_no_words(text):
    assert words(nfc(text)) == []


LETTERS = st.sampled_from(
    [*"ab'’_ \u0301\u0327\u200c\u200d\ufe0f", *"हिन्दीक", *"เที่", *"がガ東", *"مَّد", *"שָׁ", "한", "ß", "İ", "ﬁ"]
)


@given(st.text(LETTERS, max_size=60), st.integers(5, 30))
def test_words_and_marks_stand_where_they_say(text, length):
    composed = nfc(text)
    found = words(composed)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    for word in found:
        surface = composed[word.start : word.end]
        assert surface.lstrip("'’")[:1].isalnum() or not word.term
        assert terms(surface) == ([word.term] if word.term else [])
    told = passage(text, {word.term for word in found if word.term}, length=length)
    assert len(told.text) <= length + 2
    assert all(terms(told.text[start:end]) for start, end in told.marks)


def test_a_passage_is_not_cut_between_a_letter_and_its_marks():
    text = "ที่" * 200
    found = passage(text, set(terms(text)), length=20)
    assert found.text == "ที่" * 6 + "…"
    assert [found.text[start:end] for start, end in found.marks] == ["ที่"] * 6
