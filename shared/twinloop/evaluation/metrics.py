"""All metrics in one place: of ranked lists, and of probabilities."""

from twinloop.evaluation.probability import auc, calibration_ratio, ece, log_loss, log_losses, normalised_entropy
from twinloop.evaluation.ranking import coverage, hit_rate_at_k, mrr, ndcg_at_k, recall_at_k

__all__ = [
    "auc",
    "calibration_ratio",
    "coverage",
    "ece",
    "hit_rate_at_k",
    "log_loss",
    "log_losses",
    "mrr",
    "ndcg_at_k",
    "normalised_entropy",
    "recall_at_k",
]
