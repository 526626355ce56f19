"""How groups of people fare: sums over groups, which of them may leave a seat, rates and differences with intervals.

fairlearn takes the rates and differences from the sums, as rows with weights; the intervals are bootstrap intervals over the
rows of each group, which are draws from its four sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsim.distribution import format_install_command
from fedsim.errors import ConfigError
from fedsim.seeding import Rng

Counts = npt.NDArray[np.int64]
"""(G, 4): selected and positive, selected and negative, not selected and negative, not selected and positive."""
SELECTED, POSITIVE = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])
DRAWS, LEVEL = 2000, 0.95
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
DIFFERENCES = ("demographic_parity", "equalised_odds")


@dataclass(frozen=True)
class Interval:
    """A value, and its 95 % bootstrap interval."""

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


def rates(counts: Counts, rng: Rng, labelled: bool) -> dict[str, list[Interval]]:
    """By rate, that of each group; without labels the selection rate only."""
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
    drawn = dict(zip(RATES, _rates(_drawn(counts, rng)), strict=True))
    return {name: [_interval(v, drawn[name][:, g]) for g, v in enumerate(found[name])] for name in names}


def differences(counts: Counts, rng: Rng, labelled: bool) -> dict[str, Interval]:
    """The largest less the smallest selection rate, and the larger such difference of the rates of true and false positives.

    Fewer than two groups differ in nothing: there is no entry.
    """
    from fairlearn import metrics

    if len(counts) < 2:
        return {}
    y, p, group, weight = _rows(counts)
    selection, true, false = (np.ptp(each, axis=1) for each in _rates(_drawn(counts, rng)))
    common = {"sensitive_features": group, "sample_weight": weight}
    found = {"demographic_parity": _interval(metrics.demographic_parity_difference(y, p, **common), selection)}
    if labelled:
        odds = metrics.equalized_odds_difference(y, p, **common)
        found["equalised_odds"] = _interval(odds, np.maximum(true, false))
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


def _drawn(counts: Counts, rng: Rng) -> npt.NDArray[np.int64]:
    """The sums of as many rows of each group, drawn with replacement, (draws, G, 4)."""
    generator = rng.numpy()
    return np.stack([generator.multinomial(row.sum(), row / row.sum(), size=DRAWS) for row in counts], axis=1)


def _rates(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Selection rate, true and false positive rate, (..., G) each; 0 where there is nobody, as fairlearn has it."""
    hit, wrong, passed, missed = np.moveaxis(counts.astype(float), -1, 0)
    pairs = ((hit + wrong, hit + wrong + passed + missed), (hit, hit + missed), (wrong, wrong + passed))
    return tuple(np.divide(a, b, out=np.zeros_like(a), where=b > 0) for a, b in pairs)


def _interval(value: float, drawn: npt.NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))
