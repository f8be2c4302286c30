"""A release out of the registry, verified and ready to be asked."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinloop.contracts.artefacts import release_schema
from twinloop.contracts.features import Feature
from twinloop.contracts.system import Model
from twinloop.errors import IntegrityError
from twinloop.registry.names import UNSERVED
from twinloop.registry.registry import Registry
from twinloop.serving.loading import load_assets, load_models


@dataclass(frozen=True)
class LoadedRelease:
    """A release in memory.

    Attributes:
        version: Which one.
        predictor: What the system made of its models.
        whole: Its models run, not only its baseline.
        learnt_as: The release that learning made of its models; empty: this one. Its items may have been refreshed
            since, and an experiment goes on over that.
    """

    version: str
    predictor: Any
    whole: bool = True
    learnt_as: str = ""

    @property
    def experiment(self) -> str:
        """What its users are chosen by, where only some see it."""
        return self.learnt_as or self.version


class ReleaseLoader:
    """Loads releases of one system.

    Args:
        registry: Where they are.
        predictor: Loaded components by name -> the system's predictor.
        features: The definitions that this code serves; a release that is asked with a feature of another definition
            is refused. None takes every release.
    """

    def __init__(
        self,
        registry: Registry,
        predictor: Callable[[Mapping[str, Model]], Any],
        features: Sequence[Feature] | None = None,
    ) -> None:
        self._registry = registry
        self._predictor = predictor
        self._features = features

    def load(self, version: str) -> LoadedRelease:
        """Return the release, every byte verified; raises NotFoundError, IntegrityError, UnavailableError."""
        # Importing the runtime takes as long as fetching the first files, and the two wait for different things.
        runtime = threading.Thread(target=importlib.import_module, args=("onnxruntime",), daemon=True)
        runtime.start()
        manifest = self._registry.release(version)
        files = self._registry.read_components(manifest.components, leave_out=UNSERVED)
        runtime.join()
        models = load_models(files, features=self._features)
        found = release_schema(model.manifest for model in models.values())
        if found != manifest.schema_hash:
            raise IntegrityError(
                f"release {version} is of feature schema {manifest.schema_hash[:12]}, its components of "
                f"feature schema {found[:12]}"
            )
        return LoadedRelease(version, self._predictor(models), learnt_as=manifest.learnt_as)

    def load_baseline(self, version: str) -> LoadedRelease:
        """Return what is sound of a release whose models cannot be used: enough for its trivial baseline.

        Raises NotFoundError, IntegrityError, UnavailableError where not even that can be read.
        """
        components = self._registry.release(version).components
        files = {name: self._registry.read_sound_files(name, of, leave_out=UNSERVED) for name, of in components.items()}
        return LoadedRelease(version, self._predictor(load_assets(files)), whole=False)
