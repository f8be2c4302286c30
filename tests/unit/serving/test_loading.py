"""What is loaded is what the manifest says, or nothing is."""

import numpy as np
import pytest
from tiny_models import items_file, manifest, ranking, video_files

from twinloop.contracts.features import Feature
from twinloop.errors import BadInputError, IntegrityError, NotFoundError
from twinloop.features.schema import schema_hash
from twinloop.serving.loading import load_assets, load_models


def inputs(**changes):
    arrays = {name: np.array([1], np.int64) for name in ("history", "times", "exclude")}
    return arrays | changes


def test_a_release_is_loaded_and_runs():
    models = load_models(video_files(with_ranking=True))
    assert set(models) == {"retrieval", "ranking"}
    found = models["retrieval"].run(inputs())
    assert found["items"].tolist() == [2, 3, 4, 5, 0, 1]
    assert found["scores"][-1] == -np.inf
    assert models["ranking"].run({"features": found["features"]})["scores"].shape == (6,)
    assert models["retrieval"].manifest.rung == "ease"


def test_files_beside_a_model_can_be_read():
    model = load_models(video_files())["retrieval"]
    assert model.asset("items.json.gz") == items_file([f"i{place}" for place in range(6)])
    with pytest.raises(NotFoundError, match=r"no file 'words\.txt'"):
        model.asset("words.txt")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"history": np.array([1], np.int64)}, "takes the inputs"),
        (inputs(extra=np.array([1])), "takes the inputs"),
        (inputs(history=np.array([[1]], np.int64)), "1 dimensions, not 2"),
        (inputs(history=np.array([1.5])), "cannot be run"),
        (inputs(history=np.array([99], np.int64)), "cannot be run"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(given, said):
    with pytest.raises(BadInputError, match=said):
        load_models(video_files())["retrieval"].run(given)


def changed(component, name, body, **more):
    files = video_files(with_ranking=True, **more)
    if body is None:
        del files[component][name]
    else:
        files[component][name] = body
    return files


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no component"),
        (changed("ranking", "model.onnx", None), "no model.onnx"),
        (changed("ranking", "manifest.json", None), "no manifest.json"),
        (changed("ranking", "manifest.json", b"{"), "manifest.json of component 'ranking'"),
        (changed("ranking", "manifest.json", b"[]"), "manifest.json of component 'ranking'"),
        (changed("ranking", "manifest.json", manifest("retrieval")), "holds the manifest of 'retrieval'"),
        (changed("ranking", "model.onnx", b""), "cannot be opened"),
        (changed("ranking", "model.onnx", b"no model at all"), "cannot be opened"),
        (changed("ranking", "model.onnx", ranking()[:-20]), "cannot be opened"),
        (changed("ranking", "manifest.json", manifest("ranking", inputs=["rows"])), "its manifest says \\['rows'\\]"),
        (changed("ranking", "manifest.json", manifest("ranking", outputs=["p"])), "its manifest says \\['p'\\]"),
        (changed("ranking", "manifest.json", manifest("ranking", schema_hash="s2")), "differ in schema_hash"),
        (changed("ranking", "manifest.json", manifest("ranking", system="ads")), "differ in system"),
        (changed("ranking", "manifest.json", manifest("ranking", feature_names=["a", "b"])), "has 1 features"),
    ],
)
def test_what_does_not_belong_together_is_refused(files, said):
    with pytest.raises(IntegrityError, match=said):
        load_models(files)


def test_components_that_name_other_columns_are_refused():
    files = video_files(with_ranking=True)
    names = ["items", "scores", "features"]
    files["retrieval"]["manifest.json"] = manifest("retrieval", outputs=names, feature_names=["a"])
    files["ranking"]["manifest.json"] = manifest("ranking", feature_names=["b"])
    with pytest.raises(IntegrityError, match="different columns"):
        load_models(files)


LIKES = Feature(name="likes", entity="user", kind="count", description="", window_days=30)
IDLE = Feature(name="idle", entity="user", kind="recency", description="")


def asked_with(*features):
    """A release whose manifests say that it is asked with these."""
    names = [feature.name for feature in features]
    return video_files(with_ranking=True, schema_hash=schema_hash(features), context_names=names)


@pytest.mark.parametrize(
    "defined",
    [
        (LIKES, IDLE),
        (IDLE, LIKES),  # the manifest's order counts, not that of the definitions
        (LIKES, IDLE, IDLE.model_copy(update={"name": "new"})),
        (LIKES.model_copy(update={"description": "in other words", "owner": "ann"}), IDLE),
    ],
)
def test_a_release_is_taken_where_what_it_is_asked_with_is_defined_as_it_was(defined):
    assert load_models(asked_with(LIKES, IDLE), features=defined)


def test_a_definition_that_a_release_is_not_asked_with_may_change():
    assert load_models(asked_with(), features=(LIKES, IDLE))
    assert load_models(asked_with(IDLE), features=(LIKES.model_copy(update={"version": 2}), IDLE))


@pytest.mark.parametrize(
    ("defined", "said"),
    [
        (
            (LIKES.model_copy(update={"default": 1.0}), IDLE),
            r"trained on feature schema .* \(of likes, idle\); learn anew",
        ),
        ((LIKES, IDLE.model_copy(update={"version": 2})), "trained on feature schema"),
        ((LIKES,), "no feature is called idle; known: likes"),
        ((), "no feature is called likes, idle; known: none"),
    ],
)
def test_a_release_that_is_asked_with_what_is_defined_otherwise_is_refused(defined, said):
    with pytest.raises(IntegrityError, match=said):
        load_models(asked_with(LIKES, IDLE), features=defined)


def test_the_order_it_is_asked_in_is_part_of_a_schema():
    assert schema_hash((LIKES, IDLE)) != schema_hash((IDLE, LIKES))


def test_components_that_are_asked_with_other_features_are_refused():
    files = asked_with(LIKES)
    files["ranking"]["manifest.json"] = manifest("ranking", schema_hash=schema_hash((LIKES,)))
    with pytest.raises(IntegrityError, match="differ in context_names"):
        load_models(files)


def test_assets_can_be_read_without_a_model():
    files = changed("retrieval", "model.onnx", b"broken")
    model = load_assets(files)["retrieval"]
    assert model.asset("items.json.gz")
    with pytest.raises(NotFoundError):
        model.asset("model.onnx")
    with pytest.raises(IntegrityError, match="without its model"):
        model.run(inputs())
