"""What an examination says: numbers for the result table, figures for the report."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fedsim.figure import Figure, Grid, Line, Lines
from fedsim.parties.examine import Examination
from fedsim.parties.examine.hub import ALL, TOP, Examined
from fedsim.parties.examine.weights import SWEPT, Findings

FINE = 60
"""Radii at which curves over single rows are drawn."""


def numbers(found: Examined, plan: Examination, test_accuracy: float) -> dict[str, float]:
    """For the result table: of all seats together, but for what is found seat by seat."""
    right = found.predicted == found.labels
    flips = {who: each.nearest for who, each in found.alone.items()}
    certified = found.certified["entrywise"]
    broken = sum(int((found.certified[form][w] > flips[w]).sum()) for form in found.certified for w in flips)
    at = {eps: float(accuracy) for eps, accuracy in zip(plan.radii, found.together, strict=True)}
    return {
        "generalisation_gap": found.train_accuracy - test_accuracy,
        "pgd_accuracy": at[plan.eps],
        "pgd_accuracy_mean": float(found.together.mean()),
        "certified_accuracy": _share(right & (certified[ALL] >= plan.certified)),
        "certified_accuracy_party": min(_share(right & (certified[who] >= plan.certified)) for who in flips),
        "one_bit_accuracy": min(float(each.worst["accuracy"]) for each in found.alone.values()),
        "bounds_broken": broken,
    }


def constant_numbers(found: Examined, class_counts: Tensor, test_accuracy: float) -> dict[str, float]:
    """The same of a hub that always says the commonest training class: no change of a weight changes what it says.

    Args:
        found: for the labels of the examined rows.
        class_counts: (C,), of the training rows.
        test_accuracy: of that guess on the held-out rows.
    """
    accuracy = float((found.labels == class_counts.argmax()).double().mean())
    unmoved = (
        "pgd_accuracy",
        "pgd_accuracy_mean",
        "certified_accuracy",
        "certified_accuracy_party",
        "one_bit_accuracy",
    )
    gap = float(class_counts.max() / class_counts.sum()) - test_accuracy
    return {"generalisation_gap": gap, **dict.fromkeys(unmoved, accuracy), "bounds_broken": 0}


def figures(found: Examined, plan: Examination) -> Iterator[Figure]:
    """For the report: certificates, accuracy against radius, heat maps and the worst of single bits, accuracy against flips."""
    yield _certificates(found)
    yield _together(found, plan)
    for who, each in found.alone.items():
        yield _radii(who, each, found, plan)
    for who, each in found.alone.items():
        yield Grid(
            f"One flipped bit: {who}",
            each.layers,
            [str(bit) for bit in range(each.heat.shape[1])],
            each.heat.tolist(),
            along="bit (0 is the lowest)",
            up="layer",
            note=f"The lowest test accuracy over {plan.draws} drawn weights of a layer, each with one bit flipped "
            f"({plan.format}).",
        )
    yield _worst(found)
    for who, each in found.alone.items():
        yield _sweep(who, each, plan)


def _worst(found: Examined) -> Grid:
    worst = {who: each.worst for who, each in found.alone.items()}
    at = {who: ", ".join(map(str, each["at"])) for who, each in worst.items()}
    columns = ("bit", "before", "after", "accuracy")
    return Grid(
        "The worst single bits found",
        [f"{who}: {each['parameter']}[{at[who]}]" for who, each in worst.items()],
        columns,
        [[float(each[name]) for name in columns] for each in worst.values()],
        shaded=False,
    )


def _certificates(found: Examined) -> Grid:
    rows, values = list(found.certified["entrywise"]), []
    for who in rows:
        fine, coarse = (found.certified[form][who] for form in ("entrywise", "norms"))
        flip = found.alone[who].nearest if who in found.alone else torch.full((1,), torch.nan, dtype=torch.float64)
        middle = (float(t.median()) for t in (fine, coarse, flip))
        values.append([float(fine.min()), float(flip.min()), *middle])
    return Grid(
        "Certificates",
        rows,
        ["no row flips up to", "flip found at", "median row: certified", "by norms", "median row: flip found at"],
        values,
        shaded=False,
        note="How far each weight of a seat may move without any prediction on the examined rows changing, as proved, and "
        "the smallest change that was found to flip one. In units of the weights.",
    )


def _together(found: Examined, plan: Examination) -> Lines:
    lines = [Line("attacked", plan.radii, found.together.tolist())]
    return Lines(
        f"Accuracy against eps: {ALL}",
        "eps",
        "accuracy",
        [*lines, *_proved(ALL, found, plan)],
        log=True,
        note="Attacked: every seat climbs in the loss over the examined rows, one change for all of them; the lowest accuracy "
        "on the way. Certified: rows that are right and that no change within eps can flip.",
    )


def _radii(who: str, each: Findings, found: Examined, plan: Examination) -> Lines:
    right, eps = found.predicted == found.labels, _fine(plan)
    own = [_share(right & (each.nearest > radius)) for radius in eps]
    name = "the top model" if who == TOP else who
    return Lines(
        f"Accuracy against eps: {name} alone",
        "eps",
        "accuracy",
        [
            Line("attacked", plan.radii, each.curve.tolist()),
            Line("attacked, a change for each row", eps, own),
            *_proved(who, found, plan),
        ],
        log=True,
    )


def _proved(who: str, found: Examined, plan: Examination) -> list[Line]:
    right, eps = found.predicted == found.labels, _fine(plan)
    names = {"entrywise": "certified", "norms": "certified, by norms"}
    return [
        Line(names[form], eps, [_share(right & (radii[who] >= radius)) for radius in eps], dashed=True)
        for form, radii in found.certified.items()
    ]


def _fine(plan: Examination) -> list[float]:
    low, high = torch.tensor([min(plan.radii) / 20, max(plan.radii)], dtype=torch.float64).log().tolist()
    return [float(x) for x in torch.linspace(low, high, FINE, dtype=torch.float64).exp()]


def _sweep(who: str, each: Findings, plan: Examination) -> Lines:
    lines = []
    for part, values in zip(SWEPT, each.sweep, strict=True):
        if not values.isnan().all():
            lines.append(Line(f"{part}, mean", plan.flips, values.mean(dim=1).tolist()))
            lines.append(Line(f"{part}, worst draw", plan.flips, values.amin(dim=1).tolist(), dashed=True))
    note = f"Drawn bits of all layers together, {plan.draws} draws; a row whose output is no number counts as wrong."
    return Lines(f"Accuracy against flipped bits: {who}", "flipped bits", "accuracy", lines, log=True, note=note)


def _share(rows: Tensor) -> float:
    return float(rows.double().mean())
