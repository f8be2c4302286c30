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
    assert words("@tea https://gar.tea") == ["[CLS]", "user", "tea", "http", "gar", "tea", "[SEP]"]
    assert words("\U0001f60a")[1:3] == ["smiling", "face"]


def test_marks_are_no_part_of_pieces() -> None:
    assert words("g\u0930\u094d ") == words("g\u0930")
    cut = NormalisedWordPiece("\n".join([*PIECES, "\u0939", "##\u093f", "##\u0928"]).encode())
    assert len(cut.ids(normalise("\u0939\u093f\u0928\u094d"), most=50)) == 5  # as BERT cuts: vowels stay, the mark goes


def test_a_text_goes_on_in_another_row_where_one_is_full() -> None:
    assert words("", 8) == ["[CLS]", "[SEP]"]
    assert list(CUT.rows("tea " * 6, most=8)) == [[2, *[7] * 6, 3]]
    text = normalise("tea gardens! " * 100)
    rows = list(CUT.rows(text, most=16))
    assert all(len(row) <= 16 and row[0] == 2 and row[-1] == 3 for row in rows)
    assert rows[0] == CUT.ids(text, most=16)
    every, shared = rows[0][1:-1], 16 // 8
    for row in rows[1:]:
        assert row[1 : 1 + shared] == every[-shared:]  # what stands across two rows is seen whole in one
        every += row[1 + shared : -1]
    assert every == [7, 4, 5, 6, 13] * 100
    hidden = [row for row in CUT.rows(normalise("-." * 47 + " gardens tea"), most=96) if 4 in row]
    assert hidden == [[2, *[1] * 11, 1, 4, 5, 6, 7, 3]]


def test_rows_are_filled_up() -> None:
    assert padded_pieces([[1, 2, 3], [4]]).tolist() == [[1, 2, 3], [4, -1, -1]]


def test_what_is_no_vocabulary_is_refused() -> None:
    with pytest.raises(IntegrityError, match="lacks"):
        NormalisedWordPiece(b"a\nb\n")
    with pytest.raises(IntegrityError, match="UTF-8"):
        NormalisedWordPiece(b"\xff\xfe")
