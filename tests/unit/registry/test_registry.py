"""What the registry promises of versions and releases."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from twinloop.errors import BadInputError, IntegrityError, NotFoundError, UnavailableError
from twinloop.ports import MemoryObjectStore
from twinloop.registry.names import UNSERVED
from twinloop.registry.registry import Registry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILES = {"model.onnx": b"weights", "manifest.json": b"{}", "items.json.gz": b"\x1f\x8b"}


class Clock:
    """Goes forward one second with every look."""

    def __init__(self):
        self._seconds = itertools.count()

    def __call__(self):
        return NOW + timedelta(seconds=next(self._seconds))


@pytest.fixture
def store():
    return MemoryObjectStore()


@pytest.fixture
def registry(store):
    return Registry(store, "video", clock=Clock())


def release_of(registry, content=b"weights", **description):
    version = registry.register_component("retrieval", {**FILES, "model.onnx": content})
    draft = registry.draft_release(
        rung="ease", snapshot_id="s1", schema_hash="h", components={"retrieval": version}
    ).model_copy(update=description)
    registry.register_release(draft, {"metrics.json": b"{}", "card.html": b"<p>"})
    return draft


def test_a_component_is_read_as_it_was_registered(registry):
    version = registry.register_component("retrieval", FILES)
    assert registry.read_component("retrieval", version) == FILES


def test_a_version_id_is_the_second_and_the_content(registry):
    assert registry.register_component("retrieval", FILES).startswith("20260301T120000-")


def test_the_same_files_again_are_the_same_version_at_any_later_time(registry):
    first = registry.register_component("retrieval", FILES)
    assert registry.register_component("retrieval", dict(reversed(FILES.items()))) == first
    assert registry.register_component("retrieval", {**FILES, "model.onnx": b"other"}) != first


def test_keys_are_laid_out_as_documented(registry, store):
    version = registry.register_component("retrieval", FILES)
    root = f"registry/video/retrieval/versions/{version}/"
    assert set(store.keys(root)) == {root + name for name in (*FILES, "checksums.json")}


class DyingStore(MemoryObjectStore):
    """Refuses every write after the first `writes`."""

    def __init__(self, writes):
        super().__init__()
        self.writes = writes

    def write_new(self, key, body, **options):
        if self.writes == 0:
            raise UnavailableError("gone")
        self.writes -= 1
        return super().write_new(key, body, **options)


@pytest.mark.parametrize("writes", range(5))
def test_a_half_written_version_is_never_seen_and_is_finished_by_the_next_writer(writes):
    store = DyingStore(writes)
    with pytest.raises(UnavailableError):
        Registry(store, "video", clock=Clock()).register_component("retrieval", FILES)
    if writes:
        claimed = next(store.keys("registry/video/retrieval/contents/"))
        half = store.read(claimed).body.decode().split('"')[3]
        with pytest.raises(NotFoundError, match="no complete version"):
            Registry(store, "video").read_component("retrieval", half)
    store.writes = -1
    version = Registry(store, "video", clock=Clock()).register_component("retrieval", FILES)
    assert not writes or version == half
    assert Registry(store, "video").read_component("retrieval", version) == FILES


@pytest.mark.parametrize("body", [b"", b"weighty", b"weights!", b"WEIGHTS"])
def test_changed_bytes_are_refused(registry, store, body):
    version = registry.register_component("retrieval", FILES)
    store.write(f"registry/video/retrieval/versions/{version}/model.onnx", body)
    with pytest.raises(IntegrityError, match="checksum"):
        registry.read_component("retrieval", version)


def test_a_lost_file_is_refused(registry, store):
    version = registry.register_component("retrieval", FILES)
    store.delete(f"registry/video/retrieval/versions/{version}/model.onnx")
    with pytest.raises(IntegrityError, match="is gone"):
        registry.read_component("retrieval", version)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"files":[{"path":"../x","sha256":"' + b"0" * 64 + b'","bytes":1}]}'])
def test_broken_checksums_are_refused(registry, store, body):
    version = registry.register_component("retrieval", FILES)
    store.write(f"registry/video/retrieval/versions/{version}/checksums.json", body)
    with pytest.raises((IntegrityError, BadInputError)):
        registry.read_component("retrieval", version)


@pytest.mark.parametrize("name", ["../evil.onnx", "a/b.onnx", "/etc/passwd", ".hidden", "", "model", "x" * 200 + ".a",
                                  "checksums.json", "a..b", "mo del.onnx", "model.onnx\n", "модель.onnx"])  # fmt: skip
def test_file_names_cannot_leave_the_version(registry, store, name):
    with pytest.raises(BadInputError):
        registry.register_component("retrieval", {name: b"x"})
    assert list(store.keys("")) == []


@pytest.mark.parametrize("name", ["..", "a/b", "", "release", "Retrieval", "x" * 60, "1model"])
def test_component_names_cannot_leave_the_system(registry, name):
    with pytest.raises(BadInputError):
        registry.register_component(name, FILES)
    with pytest.raises(BadInputError):
        registry.read_component(name, "20260301T120000-00000000")


@pytest.mark.parametrize("name", ["..", "video/../ads", "", "Video", "x" * 40])
def test_system_names_cannot_leave_the_registry(store, name):
    with pytest.raises(BadInputError):
        Registry(store, name)


@pytest.mark.parametrize("version", ["..", "", "latest", "20260301T120000-0000000g", "20260301T120000-00000000/.."])
def test_version_ids_are_checked(registry, version):
    for call in (registry.release, registry.read_release, lambda v: registry.promote(v, why="w", by="b")):
        with pytest.raises(BadInputError):
            call(version)


def test_an_empty_component_and_an_empty_release_are_refused(registry):
    with pytest.raises(BadInputError):
        registry.register_component("retrieval", {})
    with pytest.raises(BadInputError):
        registry.draft_release(rung="ease", snapshot_id="s", schema_hash="h", components={})


def test_a_release_is_read_with_all_its_components(registry):
    draft = release_of(registry)
    assert registry.release(draft.version) == draft
    assert registry.read_release(draft.version) == {"retrieval": FILES}
    assert registry.versions() == [draft.version]


def test_a_draft_is_no_release_yet(registry):
    version = registry.register_component("retrieval", FILES)
    draft = registry.draft_release(rung="ease", snapshot_id="s", schema_hash="h", components={"retrieval": version})
    assert registry.versions() == []
    with pytest.raises(NotFoundError):
        registry.release(draft.version)
    with pytest.raises(NotFoundError):
        registry.promote(draft.version, why="eager", by="me")


def test_a_release_judged_again_keeps_its_id_and_its_first_description(registry):
    first = release_of(registry, verdict="promote")
    second = release_of(registry, verdict="keep")
    assert second.version == first.version
    assert registry.release(first.version).verdict == "promote"
    assert len(registry.versions()) == 1


def test_a_release_needs_whole_components(registry, store):
    missing = "20260301T120000-0123abcd"
    draft = registry.draft_release(rung="ease", snapshot_id="s", schema_hash="h", components={"retrieval": missing})
    with pytest.raises(NotFoundError):
        registry.register_release(draft, {})


def test_a_release_of_another_system_is_refused(registry, store):
    draft = release_of(registry)
    with pytest.raises(BadInputError, match="does not belong"):
        Registry(store, "ads").register_release(draft, {})
    with pytest.raises(BadInputError, match=r"manifest\.json"):
        registry.register_release(draft, {"manifest.json": b"{}"})


def test_a_release_whose_manifest_speaks_of_another_is_refused(registry, store):
    first, second = release_of(registry), release_of(registry, b"other")
    root = "registry/video/release/versions/"
    for name in ("manifest.json", "checksums.json"):
        store.write(f"{root}{second.version}/{name}", store.read(f"{root}{first.version}/{name}").body)
    with pytest.raises(IntegrityError, match="speaks of"):
        registry.release(second.version)


def test_a_release_with_a_spoilt_component_is_never_promoted(registry, store):
    good, bad = release_of(registry), release_of(registry, b"other")
    registry.promote(good.version, why="first", by="me")
    component = bad.components["retrieval"]
    store.write(f"registry/video/retrieval/versions/{component}/model.onnx", b"spoilt")
    with pytest.raises(IntegrityError):
        registry.promote(bad.version, why="better", by="me")
    assert registry.alias("champion").version == good.version


def test_sound_files_are_read_beside_a_damaged_one(registry, store):
    version = registry.register_component("retrieval", FILES)
    store.write(f"registry/video/retrieval/versions/{version}/model.onnx", b"spoilt")
    store.delete(f"registry/video/retrieval/versions/{version}/manifest.json")
    assert registry.read_sound_files("retrieval", version) == {"items.json.gz": FILES["items.json.gz"]}
    with pytest.raises(NotFoundError):
        registry.read_sound_files("retrieval", "20260301T120000-00000000")


def test_learning_goes_on_from_the_files_of_the_champions_one_component(store, registry):
    with pytest.raises(NotFoundError, match="video has no champion to go on from"):
        registry.champion_component()
    registry.promote(registry.register_release(release_of(registry), {}), why="w", by="t")
    rung, prefix = registry.champion_component()
    assert rung == "ease"
    assert {key.removeprefix(prefix) for key in store.keys(prefix)} == {*FILES, "checksums.json"}
    components = {name: registry.register_component(name, FILES) for name in ("retrieval", "ranking")}
    draft = registry.draft_release(rung="trees", snapshot_id="s", schema_hash="h", components=components)
    registry.promote(registry.register_release(draft, {}), why="w", by="t")
    with pytest.raises(BadInputError, match="has the components ranking, retrieval; learning goes on from releases of"):
        registry.champion_component()


def test_files_are_left_out_by_how_they_end(registry):
    version = registry.register_component("click", {**FILES, "metrics.json": b"{}", "ftrl.npz": b"n"})
    whole = registry.read_components({"click": version})["click"]
    assert set(whole) == {*FILES, "metrics.json", "ftrl.npz"}
    assert set(registry.read_components({"click": version}, leave_out=UNSERVED)["click"]) == set(FILES)
    assert set(registry.read_sound_files("click", version, leave_out=UNSERVED)) == set(FILES)
