"""A job's archive is read as if a stranger had packed it."""

import gzip
import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinloop.errors import BadInputError, IntegrityError, TooLargeError, TwinloopError
from twinloop.registry.artefacts import Limits, read_artefact

MANIFEST = {
    "system": "video",
    "component": "retrieval",
    "rung": "ease",
    "framework": "numpy",
    "snapshot_id": "s1",
    "schema_hash": "h",
    "feature_versions": {},
    "seed": 1,
    "code_version": "0.1.0",
    "library_versions": {},
    "hyperparameters": {},
    "inputs": ["history"],
    "outputs": ["items"],
    "parity": {"max_abs_diff": 1e-6, "rows": 10},
    "trained_seconds": 1.5,
}


def manifest(**changes):
    return json.dumps(MANIFEST | changes).encode()


def component(name="retrieval", **changes):
    return {
        f"{name}/model.onnx": b"w" * 1000,
        f"{name}/manifest.json": manifest(component=name, **changes),
        f"{name}/metrics.json": b"{}",
    }


def pack(files, prefix="", extra=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        for info in extra:
            tar.addfile(info)
    return buffer.getvalue()


def entry(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


@pytest.mark.parametrize("prefix", ["", "./"])
def test_components_are_read(prefix):
    files = component() | component("ranking") | {"retrieval/items.json.gz": b"z"}
    archive = pack(files, prefix, [entry("retrieval", tarfile.DIRTYPE), entry("./", tarfile.DIRTYPE)])
    artefact = read_artefact(archive)
    assert {f"{c}/{f}": body for c, fs in artefact.components.items() for f, body in fs.items()} == files
    assert artefact.any_manifest.rung == "ease"
    assert artefact.parity == 1e-6
    assert artefact.trained_seconds == 3.0
    assert 0.001 < artefact.size_mb < 0.01


def test_what_only_jobs_read_is_kept_and_costs_serving_nothing():
    files = component("click")
    artefact = read_artefact(pack(files | {"click/ftrl.npz": b"n" * 5_000_000}))
    assert artefact.components["click"]["ftrl.npz"] == b"n" * 5_000_000
    assert artefact.size_mb == read_artefact(pack(files)).size_mb < 0.01


@pytest.mark.parametrize(
    "name",
    ["../retrieval/model.onnx", "/etc/passwd.json", "model.onnx", "retrieval/a/b.json", "retrieval/../x.json",
     "retrieval/evil.py", "retrieval/.env.json", "release/model.onnx", "Retrieval/model.onnx",
     "retrieval/checksums.json", "retrieval/", "retrieval//model.onnx", "retrieval/model.onnx\x00.json"],
)  # fmt: skip
def test_names_that_are_no_components_file_are_refused(name):
    with pytest.raises(BadInputError):
        read_artefact(pack(component() | {name: b"x"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind):
    with pytest.raises(BadInputError, match="link or a device"):
        read_artefact(pack(component(), extra=[entry("retrieval/x.json", kind, "/etc/passwd")]))


def test_the_same_file_twice_is_refused():
    info = tarfile.TarInfo("retrieval/model.onnx")
    with pytest.raises(BadInputError, match="twice"):
        read_artefact(pack(component(), extra=[info]))


def test_an_archive_that_unfolds_to_too_much_is_refused_early():
    files = component() | {"retrieval/zeros.bin": bytes(5_000_000)}
    archive = pack(files)
    assert len(archive) < 20_000
    with pytest.raises(TooLargeError):
        read_artefact(archive, Limits(unpacked_bytes=1_000_000))
    assert read_artefact(archive, Limits(unpacked_bytes=6_000_000))


def test_a_size_that_is_only_claimed_is_refused():
    info = tarfile.TarInfo("retrieval/big.bin")
    info.size = 1 << 40
    with pytest.raises(TooLargeError, match="claims"):
        read_artefact(gzip.compress(info.tobuf(), mtime=0))


def test_a_header_that_asks_for_gigabytes_is_refused():
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = 1 << 40
    with pytest.raises((TooLargeError, BadInputError)):
        read_artefact(gzip.compress(info.tobuf() + bytes(3_000_000), mtime=0), Limits(unpacked_bytes=1_000_000))


def test_zeros_after_the_archive_count():
    tail = gzip.compress(bytes(50_000_000), mtime=0)
    with pytest.raises(TooLargeError):
        read_artefact(pack(component()) + tail, Limits(unpacked_bytes=1_000_000))


def test_too_many_entries_are_refused():
    files = {f"retrieval/f{n}.json": b"{}" for n in range(50)}
    with pytest.raises(TooLargeError, match="entries"):
        read_artefact(pack(component() | files), Limits(entries=20))


@pytest.mark.parametrize(
    "archive", [b"", b"not gzip", gzip.compress(b"", mtime=0), gzip.compress(b"x" * 2000, mtime=0)]
)
def test_what_is_no_archive_is_refused(archive):
    with pytest.raises((BadInputError, IntegrityError)):
        read_artefact(archive)


@given(st.data())
def test_a_cut_or_flipped_archive_is_refused_or_reads_the_same(data):
    archive = pack(component())
    at = data.draw(st.integers(0, len(archive) - 1))
    if data.draw(st.booleans()):
        broken = archive[:at]
    else:
        broken = archive[:at] + bytes([archive[at] ^ (1 << data.draw(st.integers(0, 7)))]) + archive[at + 1 :]
    try:
        found = read_artefact(broken)
    except TwinloopError:
        return
    assert found.components == read_artefact(archive).components


@pytest.mark.parametrize("missing", ["model.onnx", "manifest.json", "metrics.json"])
def test_incomplete_components_are_refused(missing):
    files = component()
    del files[f"retrieval/{missing}"]
    with pytest.raises(IntegrityError, match=f"lacks {missing}"):
        read_artefact(pack(files))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parity": {"max_abs_diff": -1, "rows": 10}}, "parity"),
        ({"parity": None}, "parity"),
        ({"unknown": 1}, "unknown"),
        ({"component": "ranking"}, "says that it is 'ranking'"),
    ],
)
def test_a_wrong_manifest_is_told(changes, told):
    files = component() | {"retrieval/manifest.json": manifest(**changes)}
    with pytest.raises(IntegrityError, match=told):
        read_artefact(pack(files))


@pytest.mark.parametrize("metrics", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_wrong_metrics_are_told(metrics):
    with pytest.raises(IntegrityError, match=r"metrics\.json"):
        read_artefact(pack(component() | {"retrieval/metrics.json": metrics}))


@pytest.mark.parametrize("field", ["system", "rung", "snapshot_id", "schema_hash"])
def test_components_that_do_not_belong_together_are_refused(field):
    with pytest.raises(IntegrityError, match=f"differ in {field}"):
        read_artefact(pack(component() | component("ranking", **{field: "other"})))
