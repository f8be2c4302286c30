"""BERT's uncased tokeniser: the basic one, then the longest pieces of a vocabulary (Devlin et al., 2019).

The same code cuts documents in jobs and queries in serving, so the two cannot differ; and serving needs no library.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from twinloop.errors import IntegrityError

_LONGEST_WORD = 100


class Vocabulary:
    """The pieces of a vocabulary, and words cut into the longest of them (Schuster and Nakajima, 2012).

    Args:
        vocabulary: `vocab.txt`, a piece a line, whose place is its number. Pieces that go on a word begin with `##`.

    Attributes:
        begin, end: Numbers of the pieces `[CLS]` and `[SEP]`.

    Raises:
        IntegrityError: It is not UTF-8, or lacks BERT's own pieces.
    """

    def __init__(self, vocabulary: bytes) -> None:
        try:
            pieces = vocabulary.decode().rstrip("\n").split("\n")
        except UnicodeDecodeError as error:
            raise IntegrityError("the vocabulary is not UTF-8") from error
        self._ids = {piece.rstrip("\r"): number for number, piece in enumerate(pieces)}
        missing = [piece for piece in ("[UNK]", "[CLS]", "[SEP]") if piece not in self._ids]
        if missing:
            raise IntegrityError(f"the vocabulary lacks {', '.join(missing)}; it is none of BERT's")
        self._unknown, self.begin, self.end = (self._ids[piece] for piece in ("[UNK]", "[CLS]", "[SEP]"))
        self.cut = lru_cache(maxsize=20_000)(self._cut)

    def __len__(self) -> int:
        return len(self._ids)

    def _cut(self, word: str) -> tuple[int, ...]:
        """Return the pieces of a word, the longest first; the unknown piece where it cannot be cut."""
        if len(word) > _LONGEST_WORD:
            return (self._unknown,)
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix, end = "##" if start else "", len(word)
            while end > start and prefix + word[start:end] not in self._ids:
                end -= 1
            if end == start:
                return (self._unknown,)
            found.append(self._ids[prefix + word[start:end]])
            start = end
        return tuple(found)


class WordPiece(Vocabulary):
    """Cuts texts as they were written into the pieces of a vocabulary."""

    def ids(self, text: str, *, most: int) -> list[int]:
        """Return the ids of a text between [CLS] and [SEP], at most `most` of them with these two."""
        made: list[int] = [self.begin]
        for word in _basic(text[: 64 * most]):
            made += self.cut(word)
            if len(made) >= most - 1:
                break
        return [*made[: most - 1], self.end]


def _basic(text: str) -> list[str]:
    """Return lower-case words without accents; punctuation and Chinese characters stand alone."""
    cleaned = []
    for character in text:
        code = ord(character)
        if code in (0, 0xFFFD) or _is_control(character):
            continue
        cleaned.append(f" {character} " if _is_chinese(code) else " " if character.isspace() else character)
    plain = unicodedata.normalize("NFD", "".join(cleaned))
    plain = "".join(character for character in plain if unicodedata.category(character) != "Mn").lower()
    made: list[str] = []
    for word in plain.split():
        start = 0
        for place, character in enumerate(word):
            if _is_punctuation(character):
                if start < place:
                    made.append(word[start:place])
                made.append(character)
                start = place + 1
        if start < len(word):
            made.append(word[start:])
    return made


def _is_control(character: str) -> bool:
    return character not in "\t\n\r" and unicodedata.category(character).startswith("C")


def _is_punctuation(character: str) -> bool:
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return code > 126 and unicodedata.category(character).startswith("P")


def _is_chinese(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )
