"""Moderation's design card, in its six steps, and how the rails run it."""

from __future__ import annotations

from twinloop.contracts.spec import GatePolicy, Prices, Rung, Split, SystemSpec

POLICY_FILE, MEDIA_FILE = "policy.json", "media_hashes.bin"
"""What people write beside the model: what is done at which probability, and hashes of known media."""

LADDER: tuple[Rung, ...] = (
    Rung(name="lexicon", framework="xgboost", complexity=0),
    Rung(name="hashed_linear", framework="xgboost", complexity=1),
    # A second framework to keep up: worth it only where it shows.
    Rung(name="embedding_bag", framework="pytorch", complexity=2, extra_margin=0.002),
    Rung(
        name="text_transformer",
        framework="pytorch",
        complexity=3,
        extra_margin=0.002,
        instance_type="ml.c5.2xlarge",
        max_runtime_s=14_400,
    ),
)

SPEC = SystemSpec(
    name="moderation",
    verb="decisions",
    requirements=(
        "For a text that somebody is about to publish, or up to a hundred: how likely it has each of some labels, "
        "such as hate or offence, and what is done about it: allow, limit, review, remove. Both errors cost: what is "
        "let through hurts those it is about, what is taken down wrongly silences whoever wrote it, and most often "
        "those who speak of their own group or in their own dialect. The answer is needed before publication: a text "
        "within 3 ms here. There is always one: without a model, a person decides. Whoever is wronged can appeal, and"
        " is heard by the next model."
    ),
    framing=(
        "Several binary labels of a text at once. People disagree, so what is learnt of a label is the share of those"
        " who were asked that saw it, and the model says how likely a person sees it. Sources ask about different "
        "labels: one that was not asked about is not taken for absent, it is not learnt from. An appeal that was "
        "granted overrules reviewers. What is done at which probability is no part of the model but policy: data with"
        " a version, chosen on held-out texts for a stated precision or recall, and changed without learning anew."
    ),
    data=(
        "Tables items (texts with their authors), labels (who said what of which text, and when, by source: reviewer,"
        " appeal, import) and events (views, reports and violations of an author's texts). Texts are read without "
        "their disguises: homoglyphs, invisible characters, letters set apart, digits for letters, repetitions; by "
        "one piece of code in training and serving. Counters of an author's violations and reports, forgotten after "
        "their window, make policy stricter. Known biases: reviewers see what was reported or suspected; annotators "
        "take dialect for offence (Sap et al., 2019). Of authors nothing is used but that record. Texts that are the "
        "same are never both learnt from and judged by."
    ),
    architecture=(
        "A ladder: lists of words learnt from the labels; logistic regression on hashed n-grams of words and "
        "characters; a network over the mean of such n-grams' vectors; all layers of a small transformer "
        "(MiniLM), fine-tuned. All heads share what encodes the text, and each is calibrated on texts that the model "
        "had not seen. Clean texts that name groups, or are spelt as in a dialect, count as more while weights are "
        "learnt, so that neither is taken for an offence (reweighing, Kamiran and Calders 2012). A simpler rung serves "
        "unless a more complex one pays for itself. Before any model, perceptual hashes of media are compared with a "
        "list. A long text is read in windows and is as bad as its worst one. Policy has the last word: the hardest "
        "action that any label asks for; an author with a record is looked at more strictly."
    ),
    evaluation=(
        "Offline: texts are divided by a hash of themselves. Log loss against what people said decides, as what is "
        "gained (its negative); average precision and F1 of each label are told by the jobs. Judged through the code "
        "that serves. No release serves that acts wrongly on texts that name groups of people, or are spelt as in a "
        "dialect, much more often than on all others, or on more than a quarter of all harmless texts: the rates and "
        "their intervals are in the report. Online: a challenger gets a share of the authors; reviewers' decisions, "
        "overturned ones and how far reviewers agree are told by `twinloop review`."
    ),
    deployment=(
        "One Lambda, the model in memory. The records of all authors of a request are read from DynamoDB in one "
        "batch; where it does not answer nobody has a record, and the answer is marked as degraded. Promotions, "
        "rollbacks and changes of policy reach warm processes within 30 seconds without a deployment. Fallbacks: the "
        "release before, then the list of media and a person for everything else. Decisions are logged with the "
        "policy's version; the text where it is acted upon, for whoever reviews it or decides an appeal. Retraining "
        "runs on a schedule, and learns what reviewers and decided appeals have said by then."
    ),
    split=Split(strategy="by_group", validation=0.1, test=0.1, minimum_events=1),
    rungs=LADDER,
    gate=GatePolicy(
        primary="log_gain",
        margin=0.0,
        # 10 ms more, 100 MB more, an hour of training more: each is worth .003 of a log loss of about .3.
        prices=Prices(per_ms=0.0003, per_mb=0.00003, per_training_minute=0.00005),
        confidence=0.95,
        slices=("identity", "dialect", "length"),
        slice_tolerance=0.02,
        minimum_slice_cases=50,
        latency_p99_ms=25.0,
        size_mb=200.0,
        parity_tolerance=1e-4,
        false_positive_slices=("identity", "dialect"),
        false_positive_tolerance=0.1,
        false_positive_limit=0.25,
    ),
)
