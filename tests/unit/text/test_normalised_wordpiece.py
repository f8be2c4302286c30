"""Words cut into pieces of a vocabulary."""

import pytest

from twinloop.errors import IntegrityError
from twinloop.text.disguises import normalise
from twinloop.text.normalised_wordpiece import NormalisedWordPiece, padded_pieces

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "gar", "##den", "##s", "tea", "http", "user", "'", "smiling", "face", "!"]
CUT = NormalisedWordPiece("\n".join(PIECES).encode())


def words(text: str, most: int = 50) -> list[str]:
    return [PIECES[place] for place in CUT.ids(normalise(text), most=most)]


def test_the_longest_piece_comes_first() -> None:
    assert words("gardens tea!") == ["[CLS]", "gar", "##den", "##s", "tea", "!", "[SEP]"]


def test_what_is_not_known_is_one_piece() -> None:
    assert words("gardenx") == ["[CLS]", "[UNK]", "[SEP]"]
    assert words("x" + "ab" * 500) == ["[CLS]", "[UNK]", "[SEP]"]


def test_accounts_addresses_and_pictures_have_words() -> None:
    assert words("@joe https://a.example") == ["[CLS]", "user", "http", "[SEP]"]
    assert words("\U0001f60a")[1:3] == ["smiling", "face"]


def test_no_more_pieces_than_asked_for() -> None:
    assert len(CUT.ids("tea " * 500, most=16)) == 16
    assert words("", 8) == ["[CLS]", "[SEP]"]


def test_rows_are_filled_up() -> None:
    assert padded_pieces([[1, 2, 3], [4]]).tolist() == [[1, 2, 3], [4, -1, -1]]


def test_what_is_no_vocabulary_is_refused() -> None:
    with pytest.raises(IntegrityError, match="lacks"):
        NormalisedWordPiece(b"a\nb\n")
    with pytest.raises(IntegrityError, match="UTF-8"):
        NormalisedWordPiece(b"\xff\xfe")
