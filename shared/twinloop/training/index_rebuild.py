"""A new index behind the models that serve: the items of now, and everything that was learnt as it was.

A release is built of a release: texts that have not changed keep their vectors, settings and ranker stay, and the new
one is a release like any, with a version of its own, proven as a job's is. One alias moves; processes that serve load
it beside the old one and change between two requests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twinloop.contracts.artefacts import ComponentManifest, Parity
from twinloop.errors import BadInputError, IntegrityError
from twinloop.registry.refresh import LEAST_SHARE, check_left, put_in_place
from twinloop.registry.registry import Registry
from twinloop.text.documents import Documents
from twinloop.text.lexical import facts_of, settings_of
from twinloop.training import document_vectors, lexical_index, sentence_encoder
from twinloop.training.corpus import TAGS, TEXT, TITLE, Corpus, Named, corpus_of_rows

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Rebuilt:
    """A release with a new index.

    Attributes:
        components: Component -> file -> bytes.
        documents: How many it has.
        fresh: Vectors that had to be made.
        changed: Whether the items are others than before.
    """

    components: dict[str, dict[str, bytes]]
    documents: int
    fresh: int
    changed: bool


def named_by(index: Files) -> Named:
    """Return which attributes an index made fields and numbers of; raises IntegrityError."""
    fields, _ = settings_of(index[lexical_index.LEXICAL_FILE])
    texts = tuple(name for name in fields if name not in (TITLE, TEXT, TAGS))
    return Named(texts, tuple(Documents(index[lexical_index.DOCUMENTS_FILE]).numbers))


def rebuild(
    components: Mapping[str, Files], items: Iterable[Mapping[str, Any]], *, least_share: float = LEAST_SHARE
) -> Rebuilt:
    """Return a release's components with the index, and the vectors where it has them, built of these items.

    Raises:
        BadInputError: No item has a title, or so few are left of what was indexed that something must have gone wrong.
        IntegrityError: The release cannot be read, or a proof fails.
    """
    began = time.perf_counter()
    before = components[lexical_index.COMPONENT]
    corpus = corpus_of_rows(items, named_by(before))
    old = Documents(before[lexical_index.DOCUMENTS_FILE])
    left = sum(item in old.places for item in corpus.ids)
    check_left(left, old.size, least_share)
    made = {name: dict(files) for name, files in components.items()}
    if corpus.digest() == old.version:
        return Rebuilt(made, old.size, 0, changed=False)
    _index(made, corpus, began)
    fresh = _vectors(made, corpus, began) if document_vectors.COMPONENT in made else 0
    return Rebuilt(made, len(corpus.ids), fresh, changed=True)


def refresh(
    registry: Registry,
    items: Iterable[Mapping[str, Any]],
    check: Callable[[Mapping[str, Files]], None],
    *,
    by: str,
    least_share: float = LEAST_SHARE,
    alias: str = "champion",
) -> tuple[str, Rebuilt] | None:
    """Build an alias's index anew, register the release and let the alias name it; None where nothing has changed.

    Args:
        registry: Of a system with such an index.
        items: All of them, as they are now.
        check: Is given the new components, and raises where they cannot be served.
        by: Who does it.
        least_share: Of the documents that must still be there.
        alias: Whose.

    Raises:
        NotFoundError, BadInputError, IntegrityError: See `rebuild`; or the alias names no release.
        ConflictError: Somebody else moved the alias meanwhile; their release stays.
    """
    state = registry.alias(alias)
    if state is None:
        raise BadInputError(
            f"{registry.system} has no {alias} whose index could be built anew; run first: "
            f"twinloop learn {registry.system}"
        )
    rebuilt = rebuild(registry.read_release(state.version), items, least_share=least_share)
    if not rebuilt.changed:
        return None
    words = f"index of {rebuilt.documents} documents, {rebuilt.fresh} vectors made anew"
    version = put_in_place(registry, alias, state.version, rebuilt.components, check, words=words, by=by)
    return version, rebuilt


def _index(made: dict[str, dict[str, bytes]], corpus: Corpus, began: float) -> None:
    of = made[lexical_index.COMPONENT]
    _, scoring = settings_of(of[lexical_index.LEXICAL_FILE])
    index = lexical_index.build_index(corpus, scoring)
    parity = lexical_index.prove_index(corpus, index, corpus.titles[:20])
    of |= {**lexical_index.index_files(corpus, index), "model.onnx": lexical_index.scoring_graph(index.size)}
    _describe(of, parity, facts_of(index), began)


def _vectors(made: dict[str, dict[str, bytes]], corpus: Corpus, began: float) -> int:
    of, encoder = made[document_vectors.COMPONENT], made[sentence_encoder.COMPONENT]
    asking = sentence_encoder.Encoder(encoder["model.onnx"], encoder[sentence_encoder.VOCABULARY_FILE])
    vectors = document_vectors.make_vectors(
        corpus, asking, document_vectors.kept_vectors(of[document_vectors.KEPT_FILE])
    )
    model = document_vectors.vectors_graph(vectors)
    parity = document_vectors.prove_vectors(model, vectors, asking.encode(corpus.titles[:20]))
    of |= {"model.onnx": model, document_vectors.KEPT_FILE: vectors.kept()}
    _describe(of, parity, document_vectors.facts_of(vectors), began)
    return vectors.fresh


def _describe(of: dict[str, bytes], parity: Parity, facts: Mapping[str, float], began: float) -> None:
    """Write anew what a component says of itself: its proof, its figures and how long it took."""
    try:
        manifest = ComponentManifest.model_validate_json(of["manifest.json"])
        metrics = json.loads(of["metrics.json"])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"a component of the release cannot be read: {error}") from error
    seconds = round(time.perf_counter() - began, 3)
    manifest = manifest.model_copy(update={"parity": parity, "trained_seconds": seconds})
    of["manifest.json"] = manifest.model_dump_json(indent=1).encode()
    of["metrics.json"] = json.dumps({**metrics, **facts}, indent=1, sort_keys=True).encode()
