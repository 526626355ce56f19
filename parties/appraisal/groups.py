"""How groups of people fare: sums over groups, which of them may leave a seat, rates and differences with intervals.

fairlearn takes the rates and differences from the sums, as rows with weights. Intervals are over the rows of each group: how
differently this one model may treat other people of the same groups. They say nothing of another training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.confidence import LEVEL, Estimate, estimate_range, estimate_share
from fedsim.distribution import format_install_command
from fedsim.errors import ConfigError

Counts = npt.NDArray[np.int64]
"""(G, 4): selected and positive, selected and negative, not selected and negative, not selected and positive."""
SELECTED, POSITIVE = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
DIFFERENCES = ("demographic_parity", "equalised_odds")


@dataclass(frozen=True)
class Interval:
    """A value, and its 95 % confidence interval."""

    value: float
    low: float
    high: float


def sums(groups: npt.NDArray[Any], selected: npt.NDArray[np.bool_], positive: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """By group, its four sums, (4,); groups in alphabetical order. All arguments (n,)."""
    cells = np.where(selected, np.where(positive, 0, 1), np.where(positive, 3, 2))
    return {name: np.bincount(cells[groups == name], minlength=4) for name in sorted(set(groups.tolist()))}


def disclosed(found: Mapping[str, Any], least: int) -> dict[str, Any]:
    """The groups whose sums may leave: of at least so many rows, and so that the rest cannot be told from the total.

    The hub knows the sums over all rows. What is withheld has at least two groups and ``least`` rows together, or the
    smallest of the others is withheld as well.
    """
    by_size = sorted(found, key=lambda name: int(found[name].sum()))
    held = [name for name in by_size if found[name].sum() < least]
    while held and len(held) < len(by_size) and (len(held) < 2 or sum(int(found[n].sum()) for n in held) < least):
        held.append(by_size[len(held)])
    return {name: each for name, each in found.items() if name not in held}


def rates(counts: Counts, labelled: bool) -> dict[str, list[Interval]]:
    """By rate, that of each group with its exact interval; without labels the selection rate only."""
    from fairlearn import metrics

    names = RATES if labelled else RATES[:1]
    y, p, group, weight = _rows(counts)
    found = {
        name: metrics.MetricFrame(
            metrics=getattr(metrics, name),
            y_true=y,
            y_pred=p,
            sensitive_features=group,
            sample_params={"sample_weight": weight},
        ).by_group.to_numpy(dtype=float)
        for name in names
    }
    shares = dict(zip(RATES, _shares(counts), strict=True))
    return {name: [_exact(v, *share) for v, share in zip(found[name], shares[name], strict=True)] for name in names}


def differences(counts: Counts, labelled: bool) -> dict[str, Interval]:
    """The largest less the smallest selection rate, and the larger such difference of the rates of true and false positives.

    Fewer than two groups differ in nothing: there is no entry. Of equalised odds, an interval of each of the two differences
    at half the error holds both at once, so the larger ends bound the larger difference.
    """
    from fairlearn import metrics

    if len(counts) < 2:
        return {}
    y, p, group, weight = _rows(counts)
    selection, true, false = _shares(counts)
    common = {"sensitive_features": group, "sample_weight": weight}
    sure = _range(selection)
    found = {"demographic_parity": Interval(metrics.demographic_parity_difference(y, p, **common), sure.low, sure.high)}
    if labelled:
        both = [_range(each, 1 - (1 - LEVEL) / 2) for each in (true, false)]
        low, high = (max(ends) for ends in zip(*((one.low, one.high) for one in both), strict=True))
        found["equalised_odds"] = Interval(metrics.equalized_odds_difference(y, p, **common), low, high)
    return found


def needs_fairlearn() -> None:
    """ConfigError if it is not installed."""
    from importlib.util import find_spec

    if find_spec("fairlearn") is None:
        raise ConfigError(
            f"scenario.fairness: needs fairlearn, which is not installed: {format_install_command('card')}"
        )


def _rows(counts: Counts) -> tuple[npt.NDArray[Any], ...]:
    """True class, prediction, group and weight: a row for each cell that has rows."""
    group, cell = np.nonzero(counts)
    return POSITIVE[cell], SELECTED[cell], group, counts[group, cell]


def _shares(counts: Counts) -> tuple[list[tuple[int, int]], ...]:
    """Of selection rate, true and false positive rate, by group: how many, and of how many."""
    hit, wrong, passed, missed = counts.T.tolist()
    return (
        [(a + b, a + b + c + d) for a, b, c, d in zip(hit, wrong, passed, missed, strict=True)],
        [(a, a + d) for a, d in zip(hit, missed, strict=True)],
        [(b, b + c) for b, c in zip(wrong, passed, strict=True)],
    )


def _range(shares: Sequence[tuple[int, int]], level: float = LEVEL) -> Estimate:
    return estimate_range([successes for successes, _ in shares], [count for _, count in shares], level)


def _exact(value: float, successes: int, count: int) -> Interval:
    """A rate with its Clopper-Pearson interval; of nobody it is 0, as fairlearn has it, and might be anything."""
    if not count:
        return Interval(float(value), 0.0, 1.0)
    sure = estimate_share(successes, count)
    return Interval(float(value), sure.low, sure.high)
