"""What a training job left behind, `model.tar.gz`, as components; read as if a stranger had packed it.

The archive is never unpacked to disk, so no name in it can reach a file. It is read as a stream under a bound, so an
archive that claims or unfolds to more than the limits costs no more than the limits.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from twinloop.contracts.artefacts import ComponentManifest, release_schema
from twinloop.errors import BadInputError, IntegrityError, TooLargeError
from twinloop.registry import names

REQUIRED = ("manifest.json", "metrics.json", "model.onnx")
_SUFFIXES = (".onnx", ".json", ".json.gz", ".txt", ".bin", ".npz")  # an .npz is kept here, and opened only by jobs
_MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold: bytes when unpacked (all headers counted), and entries."""

    unpacked_bytes: int = 1024 * _MEGABYTE
    entries: int = 200


@dataclass(frozen=True)
class Artefact:
    """The components of one candidate. All manifests name the same system, rung and snapshot.

    Those that are not asked what is known (`known_names`) name the same feature schema, too.
    """

    components: Mapping[str, Mapping[str, bytes]]
    manifests: Mapping[str, ComponentManifest]

    @property
    def any_manifest(self) -> ComponentManifest:
        """The manifest of the first component, for what all of them share."""
        return next(iter(self.manifests.values()))

    @property
    def schema_hash(self) -> str:
        """The feature schema of all of them together."""
        return release_schema(self.manifests.values())

    @property
    def size_mb(self) -> float:
        """Megabytes of everything that serving would read."""
        return served_mb(self.components)

    @property
    def parity(self) -> float:
        """The largest difference that any component's parity proof found."""
        return max(manifest.parity.max_abs_diff for manifest in self.manifests.values())

    @property
    def trained_seconds(self) -> float:
        """Seconds of fitting, all components together."""
        return sum(manifest.trained_seconds for manifest in self.manifests.values())


def read_artefact(archive: bytes, limits: Limits | None = None) -> Artefact:
    """Return the components in a job's `model.tar.gz`.

    Raises:
        BadInputError: It is no gzipped tar, is cut short, or holds anything but `<component>/<file>`.
        TooLargeError: It holds more than the limits.
        IntegrityError: A component is incomplete, its manifest is not valid, or the components do not belong together.
    """
    return check_components(_unpack(archive, limits or Limits()))


def served_mb(components: Mapping[str, Mapping[str, bytes]]) -> float:
    """Return the megabytes of what serving reads of a release."""
    served = (len(body) for files in components.values() for name, body in files.items() if _served(name))
    return sum(served) / _MEGABYTE


def _served(name: str) -> bool:
    return not name.endswith(names.UNSERVED)


def check_components(components: Mapping[str, Mapping[str, bytes]]) -> Artefact:
    """Validate components that were read from anywhere; raises IntegrityError."""
    if not components:
        raise IntegrityError("the job left no component: /opt/ml/model/<component>/ was empty")
    manifests = {name: _manifest(name, files) for name, files in sorted(components.items())}
    for field in ("system", "rung", "snapshot_id", "schema_hash"):
        compared = [m for m in manifests.values() if field != "schema_hash" or not m.known_names]
        values = sorted({str(getattr(manifest, field)) for manifest in compared})
        if len(values) > 1:
            raise IntegrityError(f"the components of one release differ in {field}: {', '.join(values)}")
    return Artefact(components, manifests)


def _manifest(component: str, files: Mapping[str, bytes]) -> ComponentManifest:
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise IntegrityError(f"the component {component!r} lacks {', '.join(missing)}")
    try:
        manifest = ComponentManifest.model_validate_json(files["manifest.json"])
        metrics = json.loads(files["metrics.json"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise IntegrityError(f"{component}/manifest.json is not valid: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{component}/metrics.json is not JSON") from error
    if not isinstance(metrics, dict):
        raise IntegrityError(f"{component}/metrics.json is not a JSON object")
    if manifest.component != component:
        raise IntegrityError(f"the manifest in {component}/ says that it is {manifest.component!r}")
    return manifest


def _unpack(archive: bytes, limits: Limits) -> dict[str, dict[str, bytes]]:
    components: dict[str, dict[str, bytes]] = {}
    bounded = _Bounded(gzip.GzipFile(fileobj=io.BytesIO(archive)), limits.unpacked_bytes)
    try:
        with tarfile.open(fileobj=bounded, mode="r|") as tar:
            for component, name, body in _files(tar, limits):
                files = components.setdefault(component, {})
                if name in files:
                    raise BadInputError(f"the job's archive holds {component}/{name} twice")
                files[name] = body
        while bounded.read(_MEGABYTE):  # to the end: only there does gzip compare its own checksum
            pass
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        raise BadInputError(f"the job's archive is no whole model.tar.gz: {error}") from error
    return components


def _files(tar: tarfile.TarFile, limits: Limits) -> Iterator[tuple[str, str, bytes]]:
    for count, member in enumerate(tar, start=1):
        if count > limits.entries:
            raise TooLargeError(f"the job's archive holds more than {limits.entries} entries")
        path = member.name.removeprefix("./")
        if member.isdir():
            continue
        if not member.isreg():
            raise BadInputError(f"the job's archive holds {path[:100]!r}, which is a link or a device, not a file")
        if member.size > limits.unpacked_bytes:
            raise TooLargeError(f"{path[:100]!r} claims {member.size} bytes; {limits.unpacked_bytes} are allowed")
        component, slash, name = path.partition("/")
        if not slash or not name.endswith(_SUFFIXES):
            allowed = f"<component>/<file> with {', '.join(_SUFFIXES)}"
            raise BadInputError(f"the job's archive holds {path[:100]!r}; only {allowed} may be in it")
        names.check_component(component)
        names.check_file(name)
        content = tar.extractfile(member)
        body = content.read() if content else b""
        if len(body) != member.size:
            raise BadInputError(f"the job's archive ends in the middle of {path!r}")
        yield component, name, body


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes, whatever length a header asks for."""

    def __init__(self, source: Any, limit: int) -> None:
        self._source = source
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left + 1 if size < 0 else min(size, self._left + 1)
        chunk: bytes = self._source.read(wanted)
        self._left -= len(chunk)
        if self._left < 0:
            raise TooLargeError("the job's archive unfolds to more than is allowed; export a smaller model")
        return chunk
