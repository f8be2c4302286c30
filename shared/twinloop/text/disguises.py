"""Texts without their disguises: one normalisation, for jobs and for serving.

It undoes what is done to words so that they are not recognised, and keeps what they say:
HTML's entities are characters; compatibility forms are plain ones (NFKC); accents, invisible characters and marks of
direction go; letters of other scripts that look like Latin ones are these, in words all of which look so;
case goes; addresses and names of accounts are one token each; digits and signs that stand for letters inside words
are these letters (`h3llo`); letters set apart (`h e l l o`) are a word; what is repeated is there twice at most.
"""

from __future__ import annotations

import html
import re
import unicodedata

from twinloop.contracts.text import TextInputs

MOST_CHARACTERS = 100_000
"""Of a text that is read; what comes after is not."""

URL, ACCOUNT = "\ue000", "\ue001"  # of the private use area, so that no text can hold them by itself

_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
_AT = re.compile(r"(?<![\w@])@\w+")
# What looks like a Latin letter: the commonest of Unicode's confusables.
_LOOKALIKES = str.maketrans(
    # Cyrillic, Greek, Armenian, and Latin's own relatives, in the order of the letters that they look like
    "аɑαᴀƅьсϲԁɗеєεҽғɡգһհіıιɩӏјκкɭʟмᴍոηпоοσօрρԛգгѕʂтτυսνѵԝωхχуγʏᴢ",
    "aaaabbccddeeeefgghhiiiiljkkllmmnnnooooppqqrssttuuvvwwxxyyyz",
)
_LEET = str.maketrans("013457@$!|€", "oieastasile")
_LEET_INSIDE = re.compile(r"(?<=[a-z])[013457@$!|€]+(?=[a-z])")
_LEET_AT_START = re.compile(r"(?<![^\s])[$€](?=[a-z]{2})")
_LEET_AT_END = re.compile(r"(?<=[a-z])\$+(?!\S)")
_LETTERS_APART = re.compile(r"(?<!\w)(?:[^\W\d_][ ._*\-]){3,}[^\W\d_](?!\w)")
_APART = re.compile(r"[ ._*\-]")
_REPEATED = re.compile(r"(.)\1{2,}", re.DOTALL)
_MARKUP_INSIDE = re.compile(r"(?<=[a-z])[*_~^`·]+(?=[a-z])")
_SPACE = re.compile(r"\s+")
_TOKEN = re.compile(rf"[{URL}{ACCOUNT}]|\w+(?:'\w+)*|[^\w\s]")
_DROPPED = frozenset({"Cf", "Mn", "Me", "Co", "Cs"})  # invisible, combining, private, half a character


def normalise(text: str) -> str:
    """Return a text without its disguises; of what is longer than `MOST_CHARACTERS`, the beginning."""
    text = text[:MOST_CHARACTERS]
    if "&" in text:
        text = html.unescape(text)[:MOST_CHARACTERS]
    if not text.isascii():
        text = _plain(text)
    text = text.casefold()
    text = _AT.sub(f" {ACCOUNT} ", _ADDRESS.sub(f" {URL} ", text))
    text = _LEET_INSIDE.sub(_letters, text)
    text = _LEET_AT_END.sub(_letters, _LEET_AT_START.sub(_letters, text))
    text = _MARKUP_INSIDE.sub("", text)
    text = _LETTERS_APART.sub(lambda found: _APART.sub("", found[0]), text)
    text = _REPEATED.sub(r"\1\1", text)
    return _SPACE.sub(" ", text).strip()


def _letters(found: re.Match[str]) -> str:
    return found[0].translate(_LEET)


def _plain(text: str) -> str:
    """Return a text in compatibility form without what cannot be seen, and with Latin letters for lookalikes."""
    # A mark that no letter carries after composition is no letter's: it goes, and so does the accent of one.
    decomposed = unicodedata.normalize("NFKD", text)[: 2 * MOST_CHARACTERS]
    kept = "".join([c for c in decomposed if c.isascii() or unicodedata.category(c) not in _DROPPED])
    kept = unicodedata.normalize("NFC", kept)[:MOST_CHARACTERS]
    if kept.isascii():
        return kept
    return "".join([_latin(part) if not part.isascii() else part for part in re.split(r"(\W+)", kept)])


def _latin(word: str) -> str:
    """Return a word in Latin letters where all of it looks like these; a word of another script stays itself."""
    read = word.casefold().translate(_LOOKALIKES)
    return read if read.isascii() else word


def windows(text: str, inputs: TextInputs) -> list[str]:
    """Return a normalised text in pieces that a model reads one at a time; of the empty text, itself."""
    if len(text) <= inputs.window:
        return [text]
    step = inputs.window - inputs.overlap
    return [text[start : start + inputs.window] for start in range(0, len(text) - inputs.overlap, step)]


def tokens(text: str) -> list[str]:
    """Return words and signs of a normalised text."""
    return _TOKEN.findall(text)
