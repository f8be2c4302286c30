"""What moderation is held against: TF-IDF of words (1-2) and characters (2-5) with balanced logistic regression."""

from __future__ import annotations

import numpy as np
from benchmarks.moderation.metrics import averages
from benchmarks.moderation.texts import HATE, NEITHER, Row
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from twinloop.evaluation.classification import average_precision, f1, macro_f1


def beside(name: str, train: list[Row], tested: list[Row]) -> Row:
    """Return the same figures of TF-IDF and balanced logistic regression, which learn from the class or the labels."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    both = FeatureUnion([("words", words), ("characters", characters)])
    learnt, asked = both.fit_transform([row["text"] for row in train]), both.transform([row["text"] for row in tested])
    if name == "davidson":
        model = LogisticRegression(C=4, class_weight="balanced", max_iter=200).fit(
            learnt, [row["class"] for row in train]
        )
        truth, p = np.array([row["class"] for row in tested]), model.predict_proba(asked)
        kinds = p.argmax(1)
        return {
            "macro_f1": round(macro_f1(truth, kinds), 4),
            "hate_f1": round(f1(truth == HATE, kinds == HATE), 4),
            "hate_ap": round(average_precision(truth == HATE, p[:, HATE]), 4),
            "neither_f1": round(f1(truth == NEITHER, kinds == NEITHER), 4),
        }
    targets, truth = (np.array([[value for _, value, _ in row["labels"]] for row in some]) for some in (train, tested))
    fits = [LogisticRegression(C=4, class_weight="balanced", max_iter=200).fit(learnt, column) for column in targets.T]
    p = np.stack([model.predict_proba(asked)[:, 1] for model in fits], 1)
    return averages(truth.astype(np.bool_), p)
