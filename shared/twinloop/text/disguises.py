"""Texts without their disguises: one normalisation, for jobs and for serving.

It undoes what is done to words so that they are not recognised, and keeps what they say:
HTML's entities are characters; characters are plain ones (`characters.py`); case goes; an address or an account's name
is a token, and beside it are the words in it; digits and signs that stand for letters inside words are these letters
(`h3llo`), but not in what looks like a number or a code; letters set apart (`h e l l o`) are a word; what is repeated
is there twice at most.

Whatever is read more often than once, no expression takes time that grows with the square of the text.
"""

from __future__ import annotations

import html
import re
from functools import cache
from typing import NamedTuple

from twinloop.contracts.text import TextInputs
from twinloop.text.characters import marks, plain

MOST_CHARACTERS = 100_000
"""Of a text that is read; what comes after is not."""
MOST_NORMALISED = 2 * MOST_CHARACTERS
"""Of a text as it is read: some characters stand for four."""

# Of the private use area, so that no text can hold them by itself.
URL, ACCOUNT = "\ue000", "\ue001"
NAMED = "\ue002"
"""Stands before a word of an address or a name: see `spelt`."""

_UNESCAPED = 3  # times: an entity may be hidden in another
_ZEROS = re.compile(r"&#0+(?=[0-9])")
_NO_CHARACTER = re.compile(r"&#[0-9]{8,};?")  # Python refuses to read numbers of thousands of digits
_ADDRESS = re.compile(r"(?:https?://|www\.)([!#$%&'()*+,\-./0-9:;=?@\[\]_a-z|~]+)")
_PERCENT = re.compile(r"%([2-7][0-9a-f])")
_EMAIL = re.compile(r"(?<![\w.+\-])([\w.+\-]++)@([\w\-]++(?:\.[\w\-]++)+)")
_LIKE_EMAIL = re.compile(r"@[\w\-]++\.[\w\-]")
_AT = re.compile(r"@(?<![\w@]@)(\w+)")
_MARKED = re.compile(r"[\u0300-\u1fff\u3000-\udfff\U00010000-\U0001efff]")  # where marks may be
_BETWEEN_WORDS = re.compile(r"[\W_]+")
_OF_ADDRESS = re.compile(r"[a-z0-9@$!|]+")
_LETTERS = re.compile(r"[a-z]{3,}")

_LEET = str.maketrans("013457@$!|€", "oieastasile")
_NO_LETTERS = "0123456789@$!|€"
_RUN = re.compile(r"(?<![a-z0-9@$!|€])[0-9@$!|€]*+[a-z]++[0-9@$!|€]++[a-z][a-z0-9@$!|€]*+")
_INSIDE = re.compile(r"(?<=[a-z])[013457@$!|€]+(?=[a-z])")
_SURELY_INSIDE = re.compile(r"[a-z][!|]*[013457@$€][013457@$!|€]*[a-z]")
_STROKES = re.compile(r"([a-z]++)([!|]++)(?=([a-z]++))")
_VOWEL = re.compile(r"[aeiouy]")
_THREE_DIGITS = re.compile(r"([0-9])(?!\1\1)[0-9]{2}")
_HEXADECIMAL = frozenset("0123456789abcdef")
_NO_LEET = frozenset("2689")
_LEET_AT_START = re.compile(r"(?<![^\s])[$€](?=[a-z]{2})")
_LEET_AT_END = re.compile(r"(?<=[a-z])\$+(?!\S)")

_SPACED_APART = re.compile(r"(?<!\w)[^\W\d_](?: {1,9}[^\W\d_]){3,}(?!\w)")
_FOUR_APART = 6  # characters and more are four letters
_WIDE = re.compile(r" {3,}")
_LETTERS_APART = re.compile(r"(?<!\w)(?:[^\W\d_][ ._*\-]){3,}[^\W\d_](?!\w)")
_APART = re.compile(r"[ ._*\-]+")
_REPEATED = re.compile(r"(.)\1{2,}", re.DOTALL)
_MARKUP_INSIDE = re.compile(r"(?<=[a-z])[*~^`·]+(?=[a-z])")
_ONE_LETTER_OFF = re.compile(r"(?<!\w)(?:([a-z])_([a-z]{2,}+)|([a-z]{2,}+)_([a-z]))(?!\w)")
# Scripts that are written without spaces, or whose endings follow Latin words without one: Thai to Burmese, Khmer,
# kana, Han, Hangul.
_CLOSE = r"[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
_SCRIPTS_MEET = re.compile(rf"(?<=[a-z])(?={_CLOSE})|(?<={_CLOSE})(?=[a-z])")


class Normalised(NamedTuple):
    """A text without its disguises. `cut`: it is only the beginning of what was written."""

    text: str
    cut: bool


def normalise(text: str) -> str:
    """Return a text without its disguises; of what is too long, the beginning, see `read`."""
    return read(text).text


def read(text: str) -> Normalised:
    """Return a text without its disguises, of `MOST_CHARACTERS` as written and of `MOST_NORMALISED` as read."""
    written, text = len(text), text[:MOST_CHARACTERS]
    text = plain(_unescaped(text)).casefold()
    if not text.isascii():
        text = _SCRIPTS_MEET.sub(" ", text)
    if "://" in text or "www." in text:
        text = _ADDRESS.sub(_words_of_address, text)
    if "@" in text:
        if _LIKE_EMAIL.search(text):
            text = _EMAIL.sub(_words_of_email, text)
        text = _AT.sub(_words_of_name, text)
    text = _RUN.sub(_without_leet, text)
    if "$" in text or "€" in text:
        text = _LEET_AT_END.sub(_letters, _LEET_AT_START.sub(_letters, text))
    text = _MARKUP_INSIDE.sub("", text)
    if "  " in text:
        text = _SPACED_APART.sub(_spaced, text)
    text = " ".join(text.split())
    if "_" in text:
        text = _ONE_LETTER_OFF.sub(r"\1\2\3\4", text)
    text = _LETTERS_APART.sub(_together, text).replace("_", " ")
    text = " ".join(_REPEATED.sub(r"\1\1", text).split())
    return Normalised(text[:MOST_NORMALISED], max(written - MOST_CHARACTERS, len(text) - MOST_NORMALISED) > 0)


def _unescaped(text: str) -> str:
    for _ in range(_UNESCAPED):
        if "&" not in text:
            break
        before, text = text, html.unescape(_NO_CHARACTER.sub("\ufffd", _ZEROS.sub("&#", text)))
        if text == before:
            break
    return text


def _words_of_address(found: re.Match[str]) -> str:
    """Return an address's token and its words; of a part that is a code, the letters that could be words."""
    text = _PERCENT.sub(lambda one: chr(int(one[1], 16)), found[1]).casefold()
    words = [" ".join(_LETTERS.findall(part)) if _is_code(part) else part for part in _OF_ADDRESS.findall(text)]
    return f" {URL} {_named(' '.join(words))} "


def _words_of_name(found: re.Match[str]) -> str:
    return f" {ACCOUNT} {_named(found[1])}"  # marks of the last letter may follow


def _words_of_email(found: re.Match[str]) -> str:
    """Return the token of an account, its words, and the word that it is if its @ stands for a letter."""
    before, after = (_BETWEEN_WORDS.sub(" ", part).split() for part in found.groups())
    both = f"{before[-1]}@{after[0]}" if before and after else ""
    return f" {ACCOUNT} {_named(' '.join([*before, *after, both]))} "


def _named(text: str) -> str:
    words = [text] if text.isalnum() else _LETTERS_APART.sub(_together, text).replace("_", " ").split()
    return " ".join([NAMED + word if word[0].isalnum() else word for word in words])


def _without_leet(found: re.Match[str]) -> str:
    """Return a word with letters for the digits and signs inside it that stand for some.

    `!` and `|` do where another sign does, or where what is on one of their sides is no word: it has no vowel.
    """
    run = found[0]
    core = run.strip(_NO_LETTERS)
    if _is_code(core):
        return run
    begin = len(run) - len(run.lstrip(_NO_LETTERS))
    made = _INSIDE.sub(_letters, core) if _SURELY_INSIDE.search(core) else _STROKES.sub(_stroke, core)
    return run[:begin] + made + run[begin + len(core) :]


def _stroke(found: re.Match[str]) -> str:
    before, sign, after = found.groups()
    words = _VOWEL.search(before) is not None and _VOWEL.search(after) is not None
    alone = len(before) == len(after) == 1 and "|" in sign  # code: `a|b`
    return before + (sign if words or alone else sign.translate(_LEET))


def _is_code(word: str) -> bool:
    """Say whether digits inside a word are no letters: a number in it, or part of a hash or a key."""
    word = word.strip(_NO_LETTERS)
    digits = [character for character in word if character in "0123456789"]
    return len(digits) > 2 and (
        not _NO_LEET.isdisjoint(digits)
        or 2 * len(digits) > len(word)
        or _HEXADECIMAL.issuperset(word)
        or _THREE_DIGITS.search(word) is not None
    )


def _letters(found: re.Match[str]) -> str:
    return found[0].translate(_LEET)


def _spaced(found: re.Match[str]) -> str:
    """Return letters set apart by spaces together; wider gaps than two spaces divide words, where not all are."""
    words = _WIDE.split(found[0])
    if len(words) == len(found[0].replace(" ", "")):
        return "".join(words)
    return " ".join([word.replace(" ", "") if len(word) > _FOUR_APART else word for word in words])


def _together(found: re.Match[str]) -> str:
    return _APART.sub("", found[0])


def windows(text: str, inputs: TextInputs) -> list[str]:
    """Return a normalised text in pieces that a model reads one at a time; of the empty text, itself."""
    if len(text) <= inputs.window:
        return [text]
    step = inputs.window - inputs.overlap
    return [text[start : start + inputs.window] for start in range(0, len(text) - inputs.overlap, step)]


def tokens(text: str) -> list[str]:
    """Return words and signs of a normalised text; a mark belongs to its word."""
    return _found(text.replace(NAMED, ""))


def spelt(text: str) -> tuple[list[str], list[str]]:
    """Return the same, and those that are to be read by their characters, too: all but words of addresses and names.

    These are many, and each is met once: their characters would say more of who is spoken to than of what is said.
    """
    if NAMED not in text:
        return (found := _found(text)), found
    found = _found(text)
    return [token.lstrip(NAMED) for token in found], [token for token in found if token[0] != NAMED]


def _found(text: str) -> list[str]:
    return _token(marks() if _MARKED.search(text) else "").findall(text)


@cache
def _token(marked: str) -> re.Pattern[str]:
    word = rf"\w[\w{marked}]*"
    return re.compile(rf"[{URL}{ACCOUNT}]|{NAMED}?{word}(?:'{word})*|[^\w\s]")
