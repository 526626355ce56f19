"""How good a model is, and how good a reconstruction is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


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


def count_classes(labels: Tensor, classes: int) -> Tensor:
    """Count the rows of each class, (C,) int64; rows without a label (-1) are left out."""
    return torch.bincount(labels[labels >= 0], minlength=classes)


def score_constant_guess(class_counts: Tensor, labels: Tensor) -> dict[str, float]:
    """Score the best guess that looks at no row: the baseline of every score of `classification`.

    It always says the commonest class of the training rows, with the shares of the classes as its probabilities.

    Args:
        class_counts: (C,), training rows of each class; at least one.
        labels: (n,) int64 in [0, C), of the rows that are scored.

    >>> score_constant_guess(torch.tensor([3, 1]), torch.tensor([0, 0, 0, 1, 1]))["accuracy"]
    0.6
    """
    shares = class_counts.double() / class_counts.sum()
    return classification(shares.expand(len(labels), -1), labels)


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


def ssim(truth: Tensor, claim: Tensor, peak: float = 1.0) -> Tensor:
    """Structural similarity of each image, (n,), at most 1: by scikit-image, a uniform window of 7x7 where it fits.

    Wang et al., Image Quality Assessment, IEEE TIP 2004. Smaller images have a window of the largest odd width that fits.

    Args:
        truth: (n, C, H, W), H and W at least 3.
        claim: (n, C, H, W), clipped to the range of the truth.
        peak: width of the range.
    """
    from skimage.metrics import structural_similarity

    window = min(7, (min(truth.shape[2:]) - 1) // 2 * 2 + 1)
    pairs = zip(truth.double().numpy(), claim.double().numpy(), strict=True)
    found = [structural_similarity(x, y, win_size=window, data_range=peak, channel_axis=0) for x, y in pairs]  # type: ignore[no-untyped-call]
    return torch.tensor(found, dtype=torch.float64)


def identified(truth: Tensor, claim: Tensor) -> Tensor:
    """Whether each claim is nearer to its own true row than to any other, (n,) in [0, 1].

    Rows are compared by the Pearson correlation of their deviations from the mean true row, so that neither contrast nor an
    offset counts. A tie among k rows counts 1/k, and a claim that does not deviate from the mean row ties with all.

    Args:
        truth: (n, ...).
        claim: (n, ...), row by row.
    """
    mean = truth.double().mean(dim=0, keepdim=True)
    true, claimed = ((rows.double() - mean).flatten(1) for rows in (truth, claim))
    true, claimed = (rows - rows.mean(dim=1, keepdim=True) for rows in (true, claimed))
    blank = claimed.norm(dim=1) <= 1e-6 * true.norm(dim=1)  # what is left of the mean row is rounding
    alike = torch.where(blank[:, None], torch.zeros(()).double(), claimed @ functional.normalize(true, dim=1).T)
    own = alike.diagonal()[:, None]
    nearest = alike.amax(dim=1, keepdim=True)
    near = 1e-9 * nearest.abs()
    ties = (alike >= nearest - near).sum(dim=1)
    return (own >= nearest - near).squeeze(1).double() / ties


def column_errors(truth: Tensor, claim: Tensor) -> Tensor:
    """The error of each column against its own spread, (D,): ``rmse / std`` over rows; the mean row scores 1.

    Columns that never vary tell nothing and are left out.

    Args:
        truth: (n, D).
        claim: (n, D).
    """
    spread = truth.double().std(dim=0, correction=0)
    error = (truth.double() - claim.double()).pow(2).mean(dim=0).sqrt()
    varies = spread > 1e-9 * truth.double().abs().amax(dim=0)
    return error[varies] / spread[varies]


def auc(positive: Tensor, scores: Tensor) -> float:
    """Area under the ROC curve; ``positive`` (n,) bool, ``scores`` (n,)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive.numpy(), scores.double().numpy()))
