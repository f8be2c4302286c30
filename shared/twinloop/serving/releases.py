"""A release out of the registry, verified and ready to be asked."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twinloop.contracts.system import Model
from twinloop.errors import IntegrityError
from twinloop.registry.registry import Registry
from twinloop.serving.loading import load_assets, load_models


@dataclass(frozen=True)
class LoadedRelease:
    """A release in memory: what the system made of its models. `whole`: its models run, not only its baseline."""

    version: str
    predictor: Any
    whole: bool = True


class ReleaseLoader:
    """Loads releases of one system.

    Args:
        registry: Where they are.
        predictor: Loaded components by name -> the system's predictor.
        schema_hash: The feature schema that this code serves; None takes whatever a release was trained on.
    """

    def __init__(
        self, registry: Registry, predictor: Callable[[Mapping[str, Model]], Any], schema_hash: str | None = None
    ) -> None:
        self._registry = registry
        self._predictor = predictor
        self._schema_hash = schema_hash

    def load(self, version: str) -> LoadedRelease:
        """Return the release, every byte verified; raises NotFoundError, IntegrityError, UnavailableError."""
        # Importing the runtime takes as long as fetching the first files, and the two wait for different things.
        runtime = threading.Thread(target=importlib.import_module, args=("onnxruntime",), daemon=True)
        runtime.start()
        manifest = self._registry.release(version)
        if self._schema_hash is not None and manifest.schema_hash != self._schema_hash:
            raise IntegrityError(
                f"release {version} was trained on feature schema {manifest.schema_hash[:12]}, this code serves "
                f"{self._schema_hash[:12]}; learn anew, or deploy the code that belongs to the release"
            )
        files = _together(manifest.components, self._registry.read_component)
        runtime.join()
        return LoadedRelease(version, self._predictor(load_models(files, schema_hash=manifest.schema_hash)))

    def load_baseline(self, version: str) -> LoadedRelease:
        """Return what is sound of a release whose models cannot be used: enough for its trivial baseline.

        Raises NotFoundError, IntegrityError, UnavailableError where not even that can be read.
        """
        files = _together(self._registry.release(version).components, self._registry.read_sound_files)
        return LoadedRelease(version, self._predictor(load_assets(files)), whole=False)


def _together(
    components: Mapping[str, str], read: Callable[[str, str], dict[str, bytes]]
) -> dict[str, dict[str, bytes]]:
    """Read all components at once: a cold start waits for the slowest, not for the sum."""
    files: dict[str, dict[str, bytes]] = {}
    failures: list[Exception] = []

    def one(component: str, version: str) -> None:
        try:
            files[component] = read(component, version)
        except Exception as error:  # noqa: BLE001 - carried over to the caller's thread and raised there
            failures.append(error)

    first, *others = components.items()
    threads = [threading.Thread(target=one, args=other, daemon=True) for other in others]
    for thread in threads:
        thread.start()
    one(*first)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return files
