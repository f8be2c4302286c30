"""What a build of vectors keeps for the next one: the same again, or refused."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.errors import IntegrityError
from twinloop.training.document_vectors import Vectors, kept_vectors

VECTORS = Vectors(
    np.arange(12, dtype=np.int8).reshape(3, 4), np.array([1, 2, 3], np.float32), np.array([7, 8, 9], np.uint64)
)
KEPT = VECTORS.kept()


def same(found):
    columns = ("levels", "scales", "digests")
    return all(np.array_equal(getattr(found, name), getattr(VECTORS, name)) for name in columns)


def archive(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@given(st.integers(0, len(KEPT) - 1))
def test_what_is_cut_short_is_refused(length):
    with pytest.raises(IntegrityError, match=r"kept\.npz cannot be read"):
        kept_vectors(KEPT[:length])


@given(st.integers(0, len(KEPT) - 1), st.integers(1, 255))
def test_a_damaged_byte_changes_nothing_or_is_refused(place, change):
    damaged = bytearray(KEPT)
    damaged[place] ^= change
    try:
        found = kept_vectors(bytes(damaged))
    except IntegrityError:
        return
    assert same(found)


def alone():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        alone(),
        archive(levels=np.zeros((2, 2), np.int8)),
        archive(levels=np.array([[None]]), scales=np.zeros(1, np.float32), digests=np.zeros(1, np.uint64)),
        archive(levels=np.zeros((2, 2), np.int8), scales=np.zeros((), np.float32), digests=np.zeros(2, np.uint64)),
        archive(levels=np.zeros((2, 2), np.int8), scales=np.zeros(3, np.float32), digests=np.zeros(2, np.uint64)),
        archive(levels=np.zeros(2, np.int8), scales=np.zeros(2, np.float32), digests=np.zeros(2, np.uint64)),
        archive(levels=np.zeros((2, 2)), scales=np.zeros(2, np.float32), digests=np.zeros(2, np.uint64)),
    ],
)
def test_what_is_none_of_ours_is_refused(body):
    with pytest.raises(IntegrityError, match=r"kept\.npz"):
        kept_vectors(body)


def test_what_is_kept_is_read_as_it_was():
    assert same(kept_vectors(KEPT))
