"""Another policy or list of known media beside the same model."""

import pytest
import tiny_moderation

from twinloop.errors import BadInputError, ConflictError
from twinloop.ports import MemoryObjectStore
from twinloop.systems.moderation.policy import LabelPolicy, Policy, read_hashes
from twinloop.systems.moderation.release import change, served_policy


def test_a_policy_changes_without_training_and_goes_back() -> None:
    store = MemoryObjectStore()
    registry = tiny_moderation.registered(store)
    before = registry.alias("champion").version
    assert served_policy(registry) is None
    policy = Policy(name="mild", labels={"spam": LabelPolicy(remove=0.99), "scam": LabelPolicy()})
    move = change(registry, policy=policy, media=read_hashes(["00000000000000ff"]), why="too strict", by="ann")
    assert (move.came_from, move.why) == (before, "too strict")
    assert served_policy(registry) == policy.model_dump_json(indent=1).encode()
    files = registry.read_release(move.version)["text"]
    assert files["model.onnx"] == tiny_moderation.files()["text"]["model.onnx"]
    with pytest.raises(ConflictError, match="already"):
        change(registry, policy=policy, why="again", by="ann")
    registry.rollback(why="no", by="ann")
    assert served_policy(registry) is None


@pytest.mark.parametrize(
    ("labels", "told"),
    [({"spam": {}, "scam": {}, "spma": {}}, "no label spma; it knows spam, scam"), ({"spam": {}}, "nothing of scam")],
)
def test_a_policy_speaks_of_exactly_the_models_labels(labels, told) -> None:
    registry = tiny_moderation.registered(MemoryObjectStore())
    with pytest.raises(BadInputError, match=told):
        change(registry, policy=Policy(labels=labels), why="tests", by="ann")
    assert served_policy(registry) is None
