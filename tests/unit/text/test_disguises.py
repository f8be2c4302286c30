"""Texts without their disguises, and their n-grams: the same everywhere, whatever is sent."""

import time
import unicodedata
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinloop.contracts.text import TextInputs
from twinloop.text.characters import plain
from twinloop.text.disguises import ACCOUNT, MOST_CHARACTERS, MOST_NORMALISED, URL, normalise, read, tokens, windows
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
        "&amp;#104;ello",  # an entity in another
        "&#" + "0" * 5_000 + "104;ello",
        "h  e  l  l  o",
        "h   e   l   l   o",
        "h_e_l_l_o",
        "h\ne\nl\nl\no",
        "h_ello",
        "he\u3164llo",  # letters that look like nothing
        "he\u115fll\uffa0o",
        "he\u2800llo",
        "he\u034fllo",  # marks that look like nothing
        "he\ufe0fllo",
        "he\u094dllo",  # a mark of another script
        "\u24d7\u24d4\u24db\u24db\u24de",  # in circles
        "\U0001f137\U0001f134\U0001f13b\U0001f13b\U0001f13e",  # in squares
        "\U0001f177\U0001f174\U0001f17b\U0001f17b\U0001f17e",  # in filled squares
        "\U0001f157\U0001f154\U0001f15b\U0001f15b\U0001f15e",  # in filled circles
        "\U0001f1ed \U0001f1ea \U0001f1f1 \U0001f1f1 \U0001f1f4",  # indicators of regions
        "\U0001f1ed\U0001f1ea\U0001f1f1\U0001f1f1\U0001f1f4",
        "hell\u00f8",
        "h3||o",
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


@pytest.mark.parametrize(
    ("disguised", "words"),
    [
        ("sh!p", "ship"),  # one side of the stroke is no word
        ("b!g k|ll", "big kll"),
        ("w!nn3r", "winner"),  # another sign stands for a letter, too
        ("h0l!day", "holiday"),
        ("j@ckp0t j4ckp0t", "jackpot jackpot"),
        ("j4ckp0t5", "jackpot5"),
        ("c4$h3w$", "cashews"),
        ("pr1z3w1nn3r", "prizewinner"),  # four digits, all of which look like letters
        ("j a c k p o t   n o w", "jackpot n o w"),
        ("j a c k   w i n s", "jack wins"),
        ("jackpoooooot", "jackpoot"),
    ],
)
def test_words_are_read_through_what_stands_for_their_letters(disguised: str, words: str) -> None:
    assert normalise(disguised) == words


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("great!nice", "great!nice"),  # a space is missing
        ("wow!great yes!no", "wow!great yes!no"),
        ("done.Next,please", "done.next,please"),
        ("commit 3fa55e1c9d", "commit 3fa55e1c9d"),
        ("da39a3ee5e6b4b0d3255bfef95601890afd80709", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ("550e8400-e29b-41d4-a716-446655441234", "550e8400-e29b-41d4-a716-446655441234"),
        ("key a8k2m9x4", "key a8k2m9x4"),
        ("usd500each", "usd500each"),
        ("in2014the", "in2014the"),
        ("i_love_you", "i love you"),
        ("snake_case_name", "snake case name"),
        ("__init__ _really_", "init really"),
        ("if(a|b)&&c: x[0]!=y", "if(a|b)&&c: x[0]!=y"),
        ("left|right", "left|right"),
        ("k8s i18n utf8 base64decode", "k8s i18n utf8 base64decode"),
        ("it costs $5 or 5€", "it costs $5 or 5€"),
        ("naïve café", "naive cafe"),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7"),  # flags
    ],
)
def test_innocent_text_comes_through(text: str, read_as: str) -> None:
    assert normalise(text) == read_as


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("chords C A G E F", "chords cagef"),
        ("mp3player h1n1", "mpeplayer hin1"),
        ("meet me@home", "meet meahome"),
        ("width*height", "widthheight"),
        ("x_train", "xtrain"),
    ],
)
def test_where_a_disguise_looks_like_innocent_text_it_is_undone(text: str, read_as: str) -> None:
    assert normalise(text) == read_as


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@joe see https://a.example/b?c=d now", [ACCOUNT, "joe", "see", URL, "a", "example", "b", "c", "d", "now"]),
        ("www.jackpot", [URL, "jackpot"]),
        ("www.you.win.the.jackpot", [URL, "you", "win", "the", "jackpot"]),
        ("http://t.co/jackpot", [URL, "t", "co", "jackpot"]),
        ("http://t.co/\u597djackpot", [URL, "t", "co", "\u597d", "jackpot"]),  # no address holds such a character
        ("HTTPS://A.example/You_Win-The/Jackpot", [URL, "a", "example", "you", "win", "the", "jackpot"]),
        ("www.%6aackpo%74", [URL, "jackpot"]),
        ("www.j4ckp0t www.j.a.c.k.p.o.t", [URL, "jackpot", URL, "jackpot"]),
        ("http://j@ckpot", [URL, "jackpot"]),
        ("www.jackpot2x2x2x2", [URL, "jackpot"]),  # of a code, letters that could be words
        ("http://a.example/3fa55e1c9d", [URL, "a", "example"]),
        ("@jackpot now", [ACCOUNT, "jackpot", "now"]),
        ("@win_the_jackpot @j4ckpot", [ACCOUNT, "win", "the", "jackpot", ACCOUNT, "jackpot"]),
        # The @ of an e-mail's address may be an a, so both are read.
        ("ask nick@gas.com", ["ask", ACCOUNT, "nick", "gas", "com", "nickagas"]),
        ("j@ckpot.x", [ACCOUNT, "j", "ckpot", "x", "jackpot"]),
        ("first+tag@mail.example.org", [ACCOUNT, "first", "tag", "mail", "example", "org", "tagamail"]),
    ],
)
def test_words_of_addresses_and_accounts_stand_beside_their_tokens(text: str, found: list[str]) -> None:
    assert tokens(normalise(text)) == found


def test_nobody_can_write_the_tokens_themselves() -> None:
    assert tokens(normalise("\ue001 \ue000 \ue002")) == []


def test_names_are_read_by_their_words_and_not_by_their_characters() -> None:
    inputs = TextInputs(words=1, buckets=2**22)
    without, one, other = (
        set(counted(normalise(f"tea {t}"), inputs).ids.tolist()) for t in ("@", "@joe", "@zacharias")
    )
    assert word_id("joe", 2**22) in one
    assert word_id("zacharias", 2**22) in other
    assert len(one) == len(other) == len(without) + 1
    for text in ("@jackpot", "www.jackpot", "http://j@ckpot", "jackpot@x.y"):
        assert word_id("jackpot", 2**22) in counted(normalise(text), inputs).ids.tolist()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("हिन्दी में मैं म", ["हिन्दी", "में", "मैं", "म"]),
        ("தமிழ்", ["தமிழ்"]),
        ("が か", ["が", "か"]),
        ("\uff76\uff9e", ["ガ"]),  # of half width
        ("שָׁלוֹם", ["שלום"]),
        ("مُحَمَّد", ["محمد"]),
        ("Ἑλλάς ёлка", ["ελλασ", "елка"]),
        ("한국어", ["한국어"]),
        ("क" + "\u0301" * 50_000, ["क\u0301\u0301"]),
    ],
)
def test_marks_go_where_they_decorate_letters_and_stay_where_they_are_part_of_words(
    text: str, found: list[str]
) -> None:
    assert tokens(normalise(text)) == found


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


@settings(max_examples=200)
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


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["garden", "rain", "tea", "!", "été"]), max_size=30))
def test_a_row_is_the_same_alone_and_in_a_batch(words: list[str]) -> None:
    one, other = counted(normalise(" ".join(words)), INPUTS), counted("weather", INPUTS)
    both = padded([one, other])
    assert both.ids[0][: len(one.ids)].tolist() == one.ids.tolist()
    assert both.counts[0][len(one.ids) :].tolist() == [0.0] * (both.counts.shape[1] - len(one.ids))


def test_no_character_becomes_more_than_four() -> None:
    every = (chr(code) for code in range(0x110000))
    assert max(len(plain(c)) for c in every if len(unicodedata.normalize("NFKD", c)) > 1) <= 4


@pytest.mark.parametrize("padding", ["\ufdfa", "\u247d", "\ufb03", "x ", "&amp;", "@a ", "\uac00", "\u0e33"])
def test_padding_hides_nothing(padding: str) -> None:
    text = padding * ((MOST_CHARACTERS - 10) // len(padding)) + " jackpot"
    made = read(text)
    assert tokens(made.text)[-1] == "jackpot" or made.cut
    assert made.cut == (padding in "\u247d\ufb03")  # which become four and three each
    assert tokens(normalise(padding * 6_000 + " jackpot"))[-1] == "jackpot"


def test_long_texts_are_bounded_and_a_cut_is_told() -> None:
    made = read("garden path " * 20_000)
    assert len(made.text) <= MOST_CHARACTERS
    assert made.cut
    assert not read("garden path " * 8_000).cut
    assert normalise("garden path ") == "garden path"
    pieces = windows(made.text, INPUTS)
    assert pieces[0] == made.text[: INPUTS.window]
    assert made.text.endswith(pieces[-1])
    assert len(pieces) <= MOST_CHARACTERS // (INPUTS.window - INPUTS.overlap) + 1


HOSTILE = (
    *("a_", "$", "@", "a-", "a@", "a@a.", "a.", "http://", "www.", "www.a", "!", "a!", "a!b!", "|", "a|", "4", "a4"),
    *("a4b", "_", "a_b ", "*", "a*", "%61", "&amp;", "&", "&#0", "&#9", "'", "a'", "+", "-", "a+", "$a", "a$", "a "),
    *("a  ", "a   ", "\n", "@a ", "@a_", "&#x1f600;", "3fa55e1c9d", "\ufdfa", "\u247d", "\ufb03", "\u0301", "a\u0301"),
    *("\u0301\u0327", "\u093f\u0947", "\u0915\u094d\u0327\u0301", "\U0001f1e6", "\U0001f170", "\u00e9", "\uac00"),
    *("\u597da", "\u3164", "\U0001f600", "\u200b", "\u0430", "\uff21"),
)


def test_no_hostile_text_takes_much_longer_than_a_plain_one() -> None:
    def spent(text: str) -> float:
        started = time.process_time()
        made = read(text[:MOST_CHARACTERS])
        tokens(made.text)
        assert len(made.text) <= MOST_NORMALISED
        return time.process_time() - started

    base = max(spent("garden path " * 9_000) for _ in range(3))
    for unit in HOSTILE:
        # With the square of the length it would be thousands of times as long.
        assert min(spent(unit * MOST_CHARACTERS) for _ in range(2)) < 40 * base, unit


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"buckets": 1000}, {"window": 100, "overlap": 100}, {"shortest": 4, "longest": 3}):
        with pytest.raises(ValueError, match=r"power of two|their length|is not shorter"):
            TextInputs(**wrong)
