"""What the jobs share that learn to find documents: reading, and a folder for each component that they leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from twinloop.contracts.artefacts import Parity, SnapshotManifest
from twinloop.text.fusion import Fusion
from twinloop.text.lexical import LexicalIndex, facts_of
from twinloop.text.matching import Matcher, best
from twinloop.training import document_vectors, lexical_index, sentence_encoder
from twinloop.training.artefact import Component, write_component
from twinloop.training.config import JobConfig
from twinloop.training.corpus import Corpus, corpus_of
from twinloop.training.document_ranking import choose_fusion
from twinloop.training.document_vectors import Floats32, Vectors
from twinloop.training.examples import ExamplesSnapshot, open_examples
from twinloop.training.job import Job
from twinloop.training.judged_queries import Labelled, ndcg, observed, queries_of
from twinloop.training.sentence_encoder import Encoder

FUSION_FILE = "fusion.json"
_CHOSEN_ON = 1000


@dataclass(frozen=True)
class RetrievalData:
    """A snapshot as these jobs see it."""

    snapshot: ExamplesSnapshot
    corpus: Corpus
    train: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]

    @property
    def manifest(self) -> SnapshotManifest:
        """The snapshot's."""
        return self.snapshot.manifest

    @cached_property
    def proving(self) -> list[str]:
        """Queries to prove models on: of validation, where there are any; otherwise titles."""
        return [query.text for query in self.validation[:200]] or list(self.corpus.titles[:200])


def open_retrieval(job: Job) -> RetrievalData:
    """Read what a job learns from; a query is in the order of its id, which says nothing of it."""
    snapshot = open_examples(job.snapshot)
    seen = observed(snapshot)
    corpus = corpus_of(snapshot.items())
    train = tuple(queries_of(snapshot, "train", seen=seen))
    validation = tuple(queries_of(snapshot, "validation", seen=seen))
    job.say(f"{len(corpus.ids)} documents, {len(train)} queries to learn from, {len(validation)} of validation")
    return RetrievalData(snapshot, corpus, train, validation)


def sampled(queries: Sequence[Labelled], most: int, seed: int) -> list[Labelled]:
    """Return at most so many queries, drawn by the seed, in their order."""
    if len(queries) <= most:
        return list(queries)
    places = np.sort(np.random.default_rng(seed).permutation(len(queries))[:most])
    return [queries[place] for place in places.tolist()]


def write_index(job: Job, config: JobConfig, data: RetrievalData) -> Matcher:
    """Choose the settings of BM25 on train, build the index, prove it and write it; returns what asks it."""
    plain = lexical_index.build_index(data.corpus)
    asked = sampled(data.train, _CHOSEN_ON, config.seed)
    scoring, reached = lexical_index.choose_scoring(data.corpus, plain, asked, say=job.say)
    index: LexicalIndex = replace(plain, scoring=scoring)
    model = lexical_index.scoring_graph(index.size)
    files = lexical_index.index_files(data.corpus, index)
    matcher = lexical_index.open_matcher({**files, "model.onnx": model})
    metrics = {"train_ndcg@10": reached, "ndcg@10": lexical_ndcg(matcher, data.validation), **facts_of(index)}
    parity = lexical_index.prove_index(data.corpus, index, data.proving)
    component = Component(lexical_index.COMPONENT, "numpy", model, parity, metrics)
    _write(job, config, data, component, files)
    return matcher


def write_vectors(
    job: Job, config: JobConfig, data: RetrievalData, matcher: Matcher
) -> tuple[Encoder, Vectors, Fusion]:
    """Take the encoder, make the vectors, choose the fusion on train, prove and write both components.

    Where the channel `champion` brings an earlier build's vectors, those of unchanged texts are taken over.
    """
    encoder, pooling = sentence_encoder.installed_encoder()
    kept = None if job.champion is None else job.champion / document_vectors.KEPT_FILE
    earlier = document_vectors.kept_vectors(kept.read_bytes()) if kept is not None and kept.exists() else None
    vectors = document_vectors.make_vectors(data.corpus, encoder, earlier)
    job.say(f"{len(vectors.scales)} vectors, {vectors.fresh} of them made now")
    asked = sampled(data.train, _CHOSEN_ON, config.seed)
    fusion, found = choose_fusion(matcher, asked, vectors, encoder.encode([q.text for q in asked]), say=job.say)
    component = Component(
        sentence_encoder.COMPONENT, "onnxruntime", encoder.model, pooling, {"longest": sentence_encoder.LONGEST}
    )
    _write(job, config, data, component, {sentence_encoder.VOCABULARY_FILE: encoder.vocabulary})
    model = document_vectors.vectors_graph(vectors)
    queries = encoder.encode(data.proving)
    parity: Parity = document_vectors.prove_vectors(model, vectors, queries)
    metrics = {f"train_ndcg@10_{name}": value for name, value in found.items()}
    files = {
        document_vectors.KEPT_FILE: vectors.kept(),
        FUSION_FILE: json.dumps({"method": fusion.method, "weight": fusion.weight, "least": fusion.least}).encode(),
    }
    component = Component(
        document_vectors.COMPONENT, "numpy", model, parity, {**metrics, **document_vectors.facts_of(vectors)}
    )
    _write(job, config, data, component, files)
    return encoder, vectors, fusion


def write_ranking(
    job: Job,
    config: JobConfig,
    data: RetrievalData,
    *,
    model: bytes,
    parity: Parity,
    metrics: Mapping[str, float],
    names: Sequence[str],
    useful: Mapping[str, float],
    file: str,
) -> None:
    """Write the ranker's component with what words tell beside it."""
    component = Component("ranking", "xgboost", model, parity, metrics, feature_names=names)
    _write(job, config, data, component, {file: json.dumps(dict(useful), ensure_ascii=False).encode()})


def lexical_ndcg(matcher: Matcher, queries: Sequence[Labelled]) -> float:
    """Return NDCG@10 of BM25 alone over the whole corpus, mean over queries."""
    each = []
    for query in queries:
        found = best(matcher.match(matcher.understand(query.text)).scores, None, 10, above=0.0)
        each.append(ndcg([matcher.documents.id(place) for place in found.tolist()], query.grades))
    return float(np.mean(each)) if each else 0.0


def encode_queries(encoder: Encoder, queries: Sequence[Labelled]) -> Floats32:
    """Return the vectors of queries, float32[Q, D]."""
    return encoder.encode([query.text for query in queries])


def _write(job: Job, config: JobConfig, data: RetrievalData, component: Component, files: Mapping[str, bytes]) -> None:
    write_component(job, data, config, component)
    for name, body in files.items():
        (job.model_dir / component.name / name).write_bytes(body)
