"""Search's design card, in its six steps, and how the rails run it."""

from __future__ import annotations

from twinloop.contracts.spec import GatePolicy, Prices, Rung, Split, SystemSpec

LADDER: tuple[Rung, ...] = (
    Rung(name="bm25", framework="xgboost", complexity=0),
    Rung(name="hybrid", framework="xgboost", complexity=1, max_runtime_s=14_400),
    Rung(name="learned_ranking", framework="xgboost", complexity=2, max_runtime_s=14_400),
)

SPEC = SystemSpec(
    name="search",
    verb="results",
    requirements=(
        "For a query of a few words, and filters where there are any: the documents that answer it, best first, with "
        "how many there are, how they divide by categories, where they hold what was asked for, and why each is there. "
        "Mistyped words are taken for what was meant, and it is said so. The catalogue changes every day, and its "
        "index must follow without a moment in which nothing or half of it can be found. An answer is due within 15 ms "
        "here, the query's encoding included; where a model does not answer, the words alone find what they find."
    ),
    framing=(
        "Ranking of all documents for a query. Two ways lead to candidates: words, weighed by how rare they are and "
        "where they stand, and nearness of meaning. What answers a query is what people judged to; where nobody did, "
        "it is what was clicked by those who looked there: a click says that an item attracts and that its place was "
        "looked at, and the second is taken out. Queries are not divided: what is known of a query is learnt from or "
        "judged by, as a whole."
    ),
    data=(
        "Tables items (title, text, tags, and attributes, of which texts become fields and categories, and numbers "
        "become filters and features), judgments (query, item, grade), and events: queries with the list that was "
        "shown, and clicks. Known biases: only what was found could be judged or clicked; the first places are looked "
        "at more; queries of yesterday are not those of tomorrow. Nothing of the person who asks is used but which "
        "release answers them."
    ),
    architecture=(
        "A ladder: BM25 over weighted fields; that with sentence vectors (MiniLM, eight bits, exact search), fused by "
        "weights chosen on queries; and over the hundred best of both LambdaMART on how words, their order, meaning "
        "and the document's numbers fit. The index is an artefact of arrays, as are the vectors: both are components "
        "of a release, with versions and aliases like any model. When items change, a new release is built of the old "
        "one: texts that are the same keep their vectors, the ranker stays, and one alias moves. Policy counts what "
        "matches, and a preset lets neighbours change places, so that clicks can tell places from items."
    ),
    evaluation=(
        "Offline: NDCG@10 over the whole corpus, grades as gains, documents that nobody judged gaining nothing. "
        "Queries are divided by a hash, and the test's are never learnt from. A more complex rung must beat the "
        "simpler one by what its milliseconds and megabytes ask for. No slice may lose: queries of one, two and more "
        "words, with one answer and with several. The click model is held against a simulation of which the truth is "
        "known. Online: share of searches that find nothing, corrections, and clicks by place."
    ),
    deployment=(
        "One Lambda, index and models in memory. A new index reaches warm processes within 30 seconds and replaces the "
        "old one whole, between two requests. Fallbacks: the release before, then BM25 without any model; answers "
        "from there are marked as degraded. Queries that found nothing are in the log, and a command reports them. The "
        "index is rebuilt when items have changed, and everything is learnt anew on a schedule."
    ),
    split=Split(strategy="by_group", validation=0.1, test=0.2),
    rungs=LADDER,
    gate=GatePolicy(
        primary="ndcg@10",
        margin=0.0,
        # 10 ms more, 100 MB more, an hour of training more: each is worth half a hundredth of NDCG.
        prices=Prices(per_ms=0.0005, per_mb=0.00005, per_training_minute=0.00008),
        confidence=0.95,
        slices=("words", "answers"),
        slice_tolerance=0.02,
        minimum_slice_cases=50,
        latency_p99_ms=60.0,
        size_mb=400.0,
        parity_tolerance=1e-4,
    ),
)
