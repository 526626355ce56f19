"""What the attacks left: numbers for the result table, figures for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from fedsim.figure import Figure, Grid, Line, Lines
from fedsim.message import RoleId
from parties.contrast import Spent
from parties.contrast.assaults import AUTO, CLEAN, LONG, PGD, RESTARTS, alone, at
from parties.contrast.course import Course

Right = Mapping[str, Tensor]
"""By siege, and ``clean``, which rows are right, (n,) bool."""


def numbers(found: Right, parties: Sequence[RoleId]) -> dict[str, float]:
    """Accuracies under attack on the examined rows, all parties attacked but for those with a party's name."""
    named = {"clean_accuracy": CLEAN, "pgd_accuracy": PGD, "pgd_long": LONG, "pgd_restarts": RESTARTS}
    singles = {f"pgd_{p}_alone": alone(p) for p in parties if alone(p) in found}
    return {name: _share(found[siege]) for name, siege in {**named, "apgd_accuracy": AUTO, **singles}.items()}


def figures(found: Right, parties: Sequence[RoleId], course: Course) -> Iterator[Figure]:
    """Accuracy by attack, and against eps."""
    plan, eps = course.robustness, course.threat.eps
    names = [CLEAN, *(alone(p) for p in parties if alone(p) in found), PGD, LONG, RESTARTS, AUTO]
    said = {
        PGD: f"PGD, {plan.steps} steps",
        LONG: f"PGD, {plan.long} steps",
        RESTARTS: f"PGD, {plan.long} steps, {plan.restarts} starts",
        AUTO: "APGD, cross-entropy and targeted",
    }
    yield Grid(
        "Accuracy under attack",
        [said.get(name, name) for name in names],
        ["accuracy"],
        [[_share(found[name])] for name in names],
        shaded=False,
        note=f"On {len(found[CLEAN])} held-out rows, eps {eps:g}, true labels, all parties' slices unless one is named. From "
        "above to below attacks are stronger; an accuracy that rises would speak of masked gradients.",
    )
    if plan.radii:
        radii = sorted({0.0, *plan.radii})
        accuracy = [_share(found[at(radius) if radius else CLEAN]) for radius in radii]
        yield Lines(
            "Accuracy against eps",
            "eps (pixels are in 0 to 1)",
            "accuracy",
            [Line("PGD on all parties", radii, accuracy)],
            note="Where pixels may be anything, nothing is right.",
        )


def traffic(hub: RoleId, sent: Sequence[int], spent: Mapping[RoleId, Spent]) -> Grid:
    """What each seat sent in each stage; ``sent`` is what the hub had sent at the begin and after each."""
    stages = ["pre-training", "fine-tuning", "attacks"]
    own = [(b - a) / 1e6 for a, b in pairwise(sent)]
    each = [[s.pretraining / 1e6, s.finetuning / 1e6, s.robustness / 1e6] for s in spent.values()]
    return Grid("Sent by stage (MB)", [hub, *spent], stages, [own, *each], shaded=False)


def _share(rows: Tensor) -> float:
    return float(rows.double().mean())
