"""How good a model is, how good a reconstruction is, and how sure we are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def classification(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1, ROC AUC (one against the rest, macro) and log loss (nats), by scikit-learn.

    Args:
        probabilities: (n, C), rows sum to one.
        labels: (n,) int64 in [0, C).
    """
    from sklearn import metrics

    p, y = probabilities.double().numpy(), labels.numpy()
    p = p / p.sum(axis=1, keepdims=True)
    guess, classes = p.argmax(axis=1), range(p.shape[1])
    found = {
        "accuracy": metrics.accuracy_score(y, guess),
        "balanced_accuracy": metrics.recall_score(y, guess, average="macro", labels=np.unique(y), zero_division=0),
        "macro_f1": metrics.f1_score(y, guess, average="macro", labels=list(classes), zero_division=0),
        "log_loss": metrics.log_loss(y, p, labels=list(classes)),
    }
    if len(np.unique(y)) == p.shape[1]:  # undefined when a class is absent
        score = p[:, 1] if p.shape[1] == 2 else p
        found["roc_auc"] = metrics.roc_auc_score(y, score, multi_class="ovr")
    return {name: float(value) for name, value in found.items()}


def psnr(truth: Tensor, claim: Tensor, peak: float = 1.0, cap: float = 60.0) -> Tensor:
    """Peak signal-to-noise ratio of each row, (n,) in dB, at most ``cap``.

    Args:
        truth: (n, ...).
        claim: (n, ...), already clipped to the range of the truth.
        peak: width of the range.
        cap: a perfect row would be infinite and rule every mean.
    """
    error = (truth.double() - claim.double()).pow(2).flatten(1).mean(1)
    return (10 * torch.log10(peak**2 / error)).clamp(max=cap)


def auc(positive: Tensor, scores: Tensor) -> float:
    """Area under the ROC curve; ``positive`` (n,) bool, ``scores`` (n,)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive.numpy(), scores.double().numpy()))


def interval(values: Sequence[float], level: float = 0.95, draws: int = 10_000) -> tuple[float, float, float]:
    """Mean and bootstrap percentile interval of the mean: ``(mean, low, high)``; seeded, so the same every time."""
    data = np.asarray(values, dtype=float)
    means = np.random.default_rng(0).choice(data, (draws, len(data))).mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(data.mean()), float(low), float(high)
