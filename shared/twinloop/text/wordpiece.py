"""BERT's uncased tokeniser: the basic one, then the longest pieces of a vocabulary (Devlin et al., 2019).

The same code cuts documents in jobs and queries in serving, so the two cannot differ; and serving needs no library.
"""

from __future__ import annotations

import unicodedata

from twinloop.errors import IntegrityError

_LONGEST_WORD = 100


class WordPiece:
    """Cuts text into the pieces of a vocabulary.

    Args:
        vocabulary: `vocab.txt`, a piece a line; raises IntegrityError where it lacks BERT's own pieces.
    """

    def __init__(self, vocabulary: bytes) -> None:
        pieces = vocabulary.decode("utf-8", errors="strict").splitlines()
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        try:
            self._unknown, self._begin, self._end = (self._ids[piece] for piece in ("[UNK]", "[CLS]", "[SEP]"))
        except KeyError as error:
            raise IntegrityError(f"the vocabulary has no piece {error}; it is none of BERT's") from error

    def ids(self, text: str, *, most: int) -> list[int]:
        """Return the ids of a text between [CLS] and [SEP], at most `most` of them with these two."""
        made: list[int] = [self._begin]
        for word in _basic(text[: 64 * most]):
            made += self._pieces(word)
            if len(made) >= most - 1:
                break
        return [*made[: most - 1], self._end]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > _LONGEST_WORD:
            return [self._unknown]
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else f"##{word[start:end]}"
                if (number := self._ids.get(piece)) is not None:
                    found.append(number)
                    start = end
                    break
            else:
                return [self._unknown]
        return found


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
