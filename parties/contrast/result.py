"""What the attacks left: numbers for the result table, figures for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from fedsim.figure import Bars, Figure, Grid, Line, Lines
from fedsim.message import RoleId
from fedsim.parties.contrast import Spent
from fedsim.parties.contrast.assaults import AUTO, CLEAN, LONG, PGD, RESTARTS, alone, at
from fedsim.parties.contrast.course import Course

Right = Mapping[str, Tensor]
"""By siege, and ``clean``, which rows are right, (n,) bool."""


def numbers(found: Right, parties: Sequence[RoleId]) -> dict[str, float]:
    """Accuracies under attack on the examined rows, all parties attacked but for those with a party's name."""
    named = {"clean_accuracy": CLEAN, "pgd_accuracy": PGD, "pgd_long": LONG, "pgd_restarts": RESTARTS}
    singles = {f"pgd_{p}_alone": alone(p) for p in parties if alone(p) in found}
    return {name: _share(found[siege]) for name, siege in {**named, "apgd_accuracy": AUTO, **singles}.items()}


def constant_numbers(found: Mapping[str, float], accuracy: float) -> dict[str, float]:
    """The same of a hub that always says one class, right so often: no attack changes what it says."""
    return dict.fromkeys(found, accuracy)


def figures(found: Right, parties: Sequence[RoleId], course: Course) -> Iterator[Figure]:
    """Accuracy by attack, and against eps."""
    plan, eps = course.robustness, course.threat.eps
    names = [CLEAN, *(alone(p) for p in parties if alone(p) in found), PGD, LONG, RESTARTS, AUTO]
    said = {
        PGD: f"PGD, {plan.steps} steps",
        LONG: f"PGD, {plan.long} steps",
        RESTARTS: f"{plan.restarts} starts of it",
        AUTO: "APGD-CE and -T",
    }
    yield Bars(
        "Accuracy under attack",
        [said.get(name, name) for name in names],
        [_share(found[name]) for name in names],
        along="accuracy",
        note=f"On {len(found[CLEAN])} held-out rows, eps {eps:g}, true labels, all parties' slices unless one is named. From "
        "top to bottom attacks are stronger; an accuracy that rises would speak of masked gradients.",
    )
    if plan.radii:
        at_radius = {0.0: CLEAN, eps: PGD, **{radius: at(radius) for radius in plan.radii}}
        radii = sorted(at_radius)
        accuracy = [_share(found[at_radius[radius]]) for radius in radii]
        yield Lines(
            "Accuracy against eps",
            "eps (pixels are in 0 to 1)",
            "accuracy",
            [Line("PGD on all parties", radii, accuracy)],
            note="Where pixels may be anything, nothing is right.",
        )


def traffic(sent: Sequence[int], spent: Mapping[RoleId, Spent]) -> Grid:
    """What was sent in each stage; ``sent`` is what the hub had sent at the begin and after each."""
    own = [b - a for a, b in pairwise(sent)]
    theirs = [[s.pretraining, s.finetuning, s.robustness] for s in spent.values()]
    whole = [sum(stage) / 1e6 for stage in zip(own, *theirs, strict=True)]
    return Grid(
        "Traffic by stage (MB)", ["all seats"], ["pre-training", "fine-tuning", "attacks"], [whole], shaded=False
    )


def _share(rows: Tensor) -> float:
    return float(rows.double().mean())
