"""Hashed ids: one definition, whichever way they are computed, and no two rows that are told apart by nothing."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.contracts.hashing import Hashed
from twinloop.errors import BadInputError
from twinloop.features.hashing import Coded, Field, coded, hashed, id_of
from twinloop.features.schema import schema_hash

PARTS = ("user_id", "item_id", "context.hour", "items.brand", "users.plan")
FIELDS = (
    Field("user", ("user_id",)),
    Field("item", ("item_id",)),
    Field("hour", ("context.hour",)),
    Field("item_again", ("item_id",)),
    Field("user_brand", ("user_id", "items.brand")),
    Field("brand_user", ("items.brand", "user_id")),
    Field("hour_plan", ("context.hour", "users.plan")),
    Field("all", ("users.plan", "item_id", "context.hour", "user_id", "items.brand")),
    Field("twice", ("item_id", "item_id")),
)
BUCKETS = 2**24
# Every character, half surrogates too, and often those with a meaning of their own.
TEXT = st.text(st.one_of(st.sampled_from("\x00\x01\x02ab"), st.characters(categories=None)), max_size=6)
VALUE = st.one_of(st.none(), TEXT)


@given(st.data())
def test_columns_and_rows_give_the_same_ids(data):
    count = data.draw(st.integers(0, 12))
    pool = data.draw(st.lists(VALUE, min_size=1, max_size=4))
    columns, rows = {}, {}
    for part in PARTS:
        if data.draw(st.booleans()):
            columns[part] = data.draw(VALUE)
            rows[part] = [columns[part]] * count
        else:
            rows[part] = data.draw(st.lists(st.sampled_from(pool), min_size=count, max_size=count))
            columns[part] = coded(rows[part]) if data.draw(st.booleans()) else rows[part]
    found = hashed(FIELDS, BUCKETS, columns, rows=count)
    assert found.dtype == np.int64
    assert found.shape == (count, len(FIELDS))
    for row in range(count):
        alone = [id_of(field, BUCKETS, [rows[part][row] for part in field.parts]) for field in FIELDS]
        assert found[row].tolist() == alone


def text_of(monkeypatch, values):
    """What is hashed of one row."""
    hashed_text = []
    with monkeypatch.context() as patch:
        patch.setattr("twinloop.features.hashing.zlib.crc32", lambda text: hashed_text.append(text) or 0)
        id_of(Field("two", ("user_id", "item_id")), 2, values)
    return hashed_text[0]


@given(st.tuples(VALUE, VALUE), st.tuples(VALUE, VALUE))
def test_different_rows_are_different_texts(a, b):
    with pytest.MonkeyPatch.context() as patch:
        assert (text_of(patch, a) == text_of(patch, b)) == (a == b)


def test_the_definition_does_not_move():
    """Whoever serves a model that was trained yesterday must find its ids: these are for ever."""
    assert id_of(FIELDS[4], BUCKETS, ["u1", None]) == zlib.crc32(b"user_brand\x00u1\x00\x01") & (BUCKETS - 1)
    assert id_of(FIELDS[0], BUCKETS, ["\x00\x01\x02é"]) == zlib.crc32(b"user\x00\x02a\x02b\x02c\xc3\xa9") & (
        BUCKETS - 1
    )
    assert id_of(FIELDS[0], BUCKETS, ["u1"]) == 16_269_886
    assert [id_of(FIELDS[0], 2**20, [value]) for value in (None, "", "\x01")] == [339_031, 1_017_199, 306_497]


def test_one_for_all_rows_is_as_many_as_are_asked_for():
    one = dict.fromkeys(PARTS, "x")
    assert hashed(FIELDS, 16, one).shape == (1, len(FIELDS))
    assert hashed(FIELDS, 16, one, rows=3).shape == (3, len(FIELDS))
    assert hashed(FIELDS, 16, one | {"item_id": []}).shape == (0, len(FIELDS))
    assert hashed((), 16, {}, rows=2).shape == (2, 0)


def test_ids_are_within_the_buckets():
    found = hashed(FIELDS[:1], 64, {"user_id": [f"u{n}" for n in range(5000)]})
    assert set(found[:, 0].tolist()) == set(range(64))


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(BadInputError, match="no column to hash is item_id; known: user_id"):
        hashed(FIELDS[1:2], 16, {"user_id": ["a"]})
    with pytest.raises(BadInputError, match=r"different lengths: \[1, 2\]"):
        hashed(FIELDS[:2], 16, {"user_id": ["a"], "item_id": ["a", "b"]})
    with pytest.raises(BadInputError, match=r"different lengths: \[1, 3\]"):
        hashed(FIELDS[:1], 16, {"user_id": ["a"]}, rows=3)
    assert hashed(FIELDS[:1], 16, {"user_id": Coded(np.array([0, 0]), ["a"])}).shape == (2, 1)


@pytest.mark.parametrize(
    ("fields", "buckets", "reason"),
    [
        ([], 16, "at least 1"),
        ([FIELDS[0], Field("user", ("item_id",))], 16, "one name"),
        (FIELDS, 15, "power of two"),
        (FIELDS, 1, "greater than or equal to 2"),
        (FIELDS, 2**25, "less than or equal"),
    ],
)
def test_what_is_no_definition_is_refused(fields, buckets, reason):
    with pytest.raises(ValueError, match=reason):
        Hashed(fields=fields, buckets=buckets)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("", ("user_id",)), ("A", ("user_id",)), ("a\x00b", ("user_id",)), ("a", ()), ("a", ("items",)), ("a", ("x.y",))],
)
def test_what_is_no_field_is_refused(name, parts):
    with pytest.raises(ValueError, match="hashed field"):
        Field(name, parts)


def test_a_definition_goes_through_a_manifest_and_counts_in_its_hash():
    said = Hashed(fields=tuple(FIELDS), buckets=1024)
    assert Hashed.model_validate_json(said.model_dump_json()) == said
    assert said.parts == ("user_id", "item_id", "context.hour", "items.brand", "users.plan")
    hashes = {
        schema_hash((), of)
        for of in (
            None,
            said,
            Hashed(fields=tuple(FIELDS), buckets=2048),
            Hashed(fields=tuple(FIELDS[::-1]), buckets=1024),
        )
    }
    assert len(hashes) == 4
    assert schema_hash(()) == schema_hash((), None)
