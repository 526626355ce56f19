"""Contrastive losses over any number of views, and the losses that attacks climb in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ntxent(views: Tensor, temperature: float) -> Tensor:
    """NT-Xent over V views of the same n rows: every other view of a row is a positive, every other row a negative.

    The mean over anchors a and their positives p of ``-log(exp(a.p / t) / sum_k exp(a.k / t))``, k over all but a itself, nats;
    for two views that of SimCLR (Chen et al., ICML 2020, equation 1).

    Args:
        views: (V, n, d) with V at least 2, of any lengths.
        temperature: t.
    """
    count, rows = views.shape[:2]
    z = functional.normalize(views, dim=2)
    alike = z.flatten(0, 1) @ z.flatten(0, 1).T / temperature
    others = alike.fill_diagonal_(-torch.inf).logsumexp(dim=1).mean()
    ordered_pairs = z.sum(dim=0).square().sum() - z.square().sum()  # of different views of one row
    return others - ordered_pairs / (temperature * rows * count * (count - 1))


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best wrong class leads the true one, (n,): above 0 the row is lost."""
    own = functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(dim=1) - logits[own]


def ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The targeted difference-of-logits ratio, (n,): how far a wrong class leads, blind to the scale of the logits.

    Croce and Hein, Reliable Evaluation of Adversarial Robustness, ICML 2020, equation 7. With fewer than four classes the third
    and fourth logits are the smallest.

    Args:
        logits: (n, C).
        labels: (n,) int64.
        targets: the wrong class of each row, (n,) int64.
    """
    ordered = logits.sort(dim=1, descending=True).values
    third, fourth = (ordered[:, min(k, logits.shape[1] - 1)] for k in (2, 3))
    own, other = (logits.gather(1, classes[:, None]).squeeze(1) for classes in (labels, targets))
    return (other - own) / (ordered[:, 0] - (third + fourth) / 2 + 1e-12)


def rivals(logits: Tensor, labels: Tensor) -> Tensor:
    """The wrong classes of each row, the likeliest first, (n, C - 1) int64."""
    own = functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).argsort(dim=1, descending=True)[:, :-1]
