"""Model bytes -> models that can be asked, or a refusal that says what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from pydantic import ValidationError

from twinloop.contracts.artefacts import ComponentManifest
from twinloop.contracts.features import Feature
from twinloop.contracts.signature import CONTEXT, FEATURES, KNOWN, SITUATION
from twinloop.contracts.system import Model
from twinloop.errors import BadInputError, IntegrityError, NotFoundError
from twinloop.features.schema import chosen, schema_hash

if TYPE_CHECKING:
    import onnxruntime

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"


class AssetsOnly:
    """A component whose model was not opened: the files beside it can be read, it cannot be run."""

    def __init__(self, manifest: ComponentManifest, assets: Mapping[str, bytes]) -> None:
        self._manifest = manifest
        self._assets = assets

    @property
    def manifest(self) -> ComponentManifest:
        return self._manifest

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        del inputs
        raise IntegrityError(f"{self._name} was loaded without its model and cannot be run")

    def asset(self, name: str) -> bytes:
        if name not in self._assets:
            raise NotFoundError(f"{self._name} has no file {name!r} beside the model")
        return self._assets[name]

    @property
    def _name(self) -> str:
        return f"component {self._manifest.component!r} ({self._manifest.rung})"


def can_run(model: Model) -> bool:
    """Say whether a component was opened with its model: without, only a baseline is asked."""
    return type(model) is not AssetsOnly


class OnnxModel(AssetsOnly):
    """A component run by ONNX Runtime on one thread: a request gets one core, and its latency is its own."""

    def __init__(
        self, manifest: ComponentManifest, assets: Mapping[str, bytes], session: onnxruntime.InferenceSession
    ) -> None:
        super().__init__(manifest, assets)
        self._session = session
        self._ranks = {tensor.name: len(tensor.shape) for tensor in session.get_inputs()}
        self._outputs = [tensor.name for tensor in session.get_outputs()]
        self._check_against_manifest()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if inputs.keys() != self._ranks.keys():
            raise BadInputError(f"{self._name} takes the inputs {sorted(self._ranks)}, not {sorted(inputs)}")
        for name, rank in self._ranks.items():
            if inputs[name].ndim != rank:
                raise BadInputError(f"{self._name} takes {name} with {rank} dimensions, not {inputs[name].ndim}")
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # ONNX Runtime's errors share no other base.
            raise BadInputError(f"{self._name} cannot be run on these inputs: {_first_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))

    def _check_against_manifest(self) -> None:
        said = self._manifest
        for what, real, named in (
            ("inputs", set(self._ranks), said.inputs),
            ("outputs", set(self._outputs), said.outputs),
        ):
            if real != set(named):
                raise IntegrityError(
                    f"{self._name} has the {what} {sorted(real)}, but its manifest says {sorted(named)}"
                )
        widths = {
            FEATURES: len(said.feature_names),
            CONTEXT: len(said.context_names),
            KNOWN: len(said.known_names),
            SITUATION: len(said.situation),
        }
        for tensor in (*self._session.get_inputs(), *self._session.get_outputs()):
            width, names = tensor.shape[-1] if tensor.shape else None, widths.get(tensor.name, 0)
            # A width that the graph leaves open (a name or None) is found out when the model runs.
            if names and isinstance(width, int) and width != names:
                raise IntegrityError(f"{self._name} has {width} {tensor.name}, but its manifest names {names}")


def load_models(
    files: Mapping[str, Mapping[str, bytes]], *, features: Sequence[Feature] | None = None
) -> Mapping[str, Model]:
    """Open every component of one release.

    Args:
        files: Component name -> file name -> bytes; each component has `model.onnx` and `manifest.json`.
        features: The definitions that the caller serves. Components that are asked with features of which the
            definition is another are refused; definitions that they are not asked with do not matter.

    Raises:
        IntegrityError: A file is missing or broken, a model is not what its manifest says, components do not belong
            together, or a feature is defined otherwise.
    """
    if not files:
        raise IntegrityError("the release has no component")
    models: dict[str, Model] = {name: _open(name, parts) for name, parts in files.items()}
    _check_together(models)
    if features is not None:
        for model in models.values():
            check_features(model.manifest, features)
    return models


def check_features(manifest: ComponentManifest, features: Sequence[Feature]) -> None:
    """Raise IntegrityError where a model is asked with features that are not defined as they were for its training."""
    names = (*manifest.context_names, *manifest.known_names)
    expected = schema_hash(chosen(features, names), manifest.hashed)  # ids are hashed as the manifest says
    if manifest.schema_hash != expected:
        raise IntegrityError(
            f"the model was trained on feature schema {manifest.schema_hash[:12]}, this code serves {expected[:12]} "
            f"(of {', '.join(names) or 'no feature'}); learn anew, or deploy the code that belongs to the model"
        )


def load_assets(files: Mapping[str, Mapping[str, bytes]]) -> Mapping[str, Model]:
    """Read the components without opening their models: enough for a baseline that lives in an asset.

    Raises:
        IntegrityError: A manifest is missing or broken.
    """
    return {name: AssetsOnly(_manifest(name, parts), _assets(parts)) for name, parts in files.items()}


def _open(component: str, parts: Mapping[str, bytes]) -> OnnxModel:
    return OnnxModel(_manifest(component, parts), _assets(parts), _session(component, parts))


def _check_together(models: Mapping[str, Model]) -> None:
    manifests = [model.manifest for model in models.values()]
    # What is asked of the store has a schema of its own; the others share what they know of the user.
    others = [manifest for manifest in manifests if not manifest.known_names]
    for field, compared in (("system", manifests), ("schema_hash", others), ("context_names", others)):
        values = {str(getattr(manifest, field)) for manifest in compared}
        if len(values) > 1:
            raise IntegrityError(f"the components of the release differ in {field}: {sorted(values)}")
    named = {manifest.feature_names for manifest in manifests if manifest.feature_names}
    if len(named) > 1:
        raise IntegrityError("the components of the release name different columns for the features tensor")


def _manifest(component: str, parts: Mapping[str, bytes]) -> ComponentManifest:
    if MANIFEST_FILE not in parts:
        raise IntegrityError(f"component {component!r} has no {MANIFEST_FILE}")
    try:
        manifest = ComponentManifest.model_validate_json(parts[MANIFEST_FILE])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise IntegrityError(f"{MANIFEST_FILE} of component {component!r}: {where}: {first['msg']}") from error
    if manifest.component != component:
        raise IntegrityError(f"component {component!r} holds the manifest of {manifest.component!r}")
    return manifest


def _session(component: str, parts: Mapping[str, bytes]) -> onnxruntime.InferenceSession:
    if MODEL_FILE not in parts:
        raise IntegrityError(f"component {component!r} has no {MODEL_FILE}")
    import onnxruntime  # noqa: PLC0415 - imported while a release's files are fetched, not before

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # What goes wrong is raised; a line on stderr beside it helps nobody.
    try:
        return onnxruntime.InferenceSession(parts[MODEL_FILE], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no other base.
        raise IntegrityError(
            f"{MODEL_FILE} of component {component!r} cannot be opened: {_first_line(error)}"
        ) from error


def _assets(parts: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: body for name, body in parts.items() if name != MODEL_FILE}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
