"""The lower bound on a target error, term by term, as held-out embeddings let it be estimated.

Mehra et al., 2021: over a common representation, with labelling functions f_S and f_T of the domains and errors in [0, 1],

    e_T(h, f_T) >= max(e_S(f_S, f_T), e_T(f_S, f_T)) - e_S(h, f_S) - D_1(S, T).

No head can be good on the target where a good one on the source meets domains that lie on each other and label the same place
differently. A labelling function is estimated by the nearest held-out rows of its domain, and the L1 distance D_1 of the
marginals by a maximum mean discrepancy. The kernel is at most 1, so that MMD <= D_1: what comes out estimates the bound from
above and is no certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.figure import Line, Lines
from fedsim.net import Net
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder

NEIGHBOURS = 5
"""Rows that say how a domain labels a place."""
ROWS = 1000
"""Rows of each domain that are looked at, at most; pairs of them are held in memory."""
SHOWN = {
    "target error": ("accuracy", 1, -1),
    "lower bound": ("lower_bound", 0, 1),
    "labelling mismatch": ("labelling_mismatch", 0, 1),
    "marginal mismatch (MMD)": ("marginal_mismatch", 0, 1),
    "source error": ("source_accuracy", 1, -1),
}
"""Lines of the figure: a metric of the evaluations, what it is added to, and with which sign."""


class Domain(NamedTuple):
    """Held-out rows of one domain: joined embeddings (n, E), labels (n,) int64."""

    z: Tensor
    labels: Tensor


def bound(source: Domain, target: Domain, source_error: float, classes: int) -> Mapping[str, float]:
    """The terms of the bound and the bound itself, all in [0, 1] but the MMD, which is at most the square root of 2."""
    source, target = (Domain(torch.nan_to_num(d.z[:ROWS]), d.labels[:ROWS]) for d in (source, target))
    mismatch = max(disagreement(source, target, classes), disagreement(target, source, classes))
    apart = mmd(source.z, target.z)
    lower = max(0.0, mismatch - source_error - apart)
    return {"labelling_mismatch": mismatch, "marginal_mismatch": apart, "lower_bound": lower}


def disagreement(here: Domain, there: Domain, classes: int) -> float:
    """The share of rows here that the other domain's labelling function labels otherwise."""
    return float((majority(here.z, there, classes) != here.labels).double().mean())


def majority(
    z: Tensor, among: Domain, classes: int, neighbours: int = NEIGHBOURS, leave_out: Tensor | None = None
) -> Tensor:
    """The most frequent label of the nearest rows, (n,); of labels as frequent, the smallest.

    ``leave_out`` (n,): for each row the one among those rows, itself, that is no neighbour.
    """
    apart = torch.cdist(z, among.z)
    if leave_out is not None:
        apart.scatter_(1, leave_out[:, None], torch.inf)
    near = apart.topk(min(neighbours, len(among.z)), largest=False).indices
    return functional.one_hot(among.labels[near], classes).sum(dim=1).argmax(dim=1)


def mmd(one: Tensor, other: Tensor) -> float:
    """The maximum mean discrepancy of two samples (n, E) and (m, E), each of two rows or more.

    Gretton et al., A Kernel Two-Sample Test, JMLR 2012, lemma 6: the root of the unbiased estimate, 0 where that is negative.
    The kernel is Gaussian, exp(-d^2 / 2 s^2), with s the median distance of all rows.
    """
    both = torch.cat([one, other]).double()
    squared = torch.cdist(both, both).square()
    pairs = squared[tuple(torch.triu_indices(len(both), len(both), 1))]
    kernel = torch.exp(-squared / (2 * pairs.median()).clamp_min(1e-12))
    n, m = len(one), len(other)
    within = [(block.sum() - k) / (k * (k - 1)) for block, k in ((kernel[:n, :n], n), (kernel[n:, n:], m))]
    return float((within[0] + within[1] - 2 * kernel[:n, n:].mean()).clamp_min(0).sqrt())


class Drawn:
    """An epilogue that exchanges nothing: the hub draws the bound beside the error over the evaluations of the training."""

    async def at_hub(self, hub: LabelHolder, net: Net) -> None:
        """One figure."""
        steps, tests = zip(*((row["step"], row["test"]) for row in net.rows if "test" in row), strict=True)
        lines = [
            Line(name, steps, [plus + sign * test[metric] for test in tests], dashed=metric == "lower_bound")
            for name, (metric, plus, sign) in SHOWN.items()
        ]
        note = "The bound is estimated from held-out rows of both domains: labelling mismatch - source error - MMD."
        net.draw(
            Lines("Target error and the lower bound on it", "training steps", "share of rows; MMD", lines, note=note)
        )

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """Nothing."""
