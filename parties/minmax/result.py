"""What an attack on several domains says: numbers for the result table, figures for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from fedsim.figure import Figure, Grid, Line, Lines

if TYPE_CHECKING:
    from fedsim.parties.minmax.attacker import Fared


def numbers(fared: Sequence[Fared], accuracy: Tensor, examples: int) -> dict[str, float]:
    """For the result table: shares of the examples, which every domain gets right before; then in each ball by itself."""
    joint = {each.title: float(each.wrong.all(dim=0).double().mean()) for each in fared}
    single = {each.title: float(each.wrong.double().mean()) for each in fared}
    return {
        "joint_success": sum(joint.values()) / len(joint),
        "domain_success": sum(single.values()) / len(single),
        "lowest_accuracy": float(accuracy.min()),
        "examples": examples,
        **{f"joint, {title}": value for title, value in joint.items()},
        **{f"domain, {title}": value for title, value in single.items()},
    }


def constant_numbers(found: Mapping[str, float], accuracy: float) -> dict[str, float]:
    """The same of victims that always say the commonest training class, right so often: nothing fools them."""
    shares = {name: 0.0 for name in found if "success" in name or name.startswith(("joint, ", "domain, "))}
    return {**shares, "lowest_accuracy": accuracy}


def figures(fared: Sequence[Fared]) -> Iterator[Figure]:
    """For the report: who was fooled, how the attack went, and who weighed how much."""
    yield from _fooled(fared)
    yield _success(fared)
    yield _weights(fared[0])


def _fooled(fared: Sequence[Fared]) -> Iterator[Grid]:
    """One table for each set of domains."""
    sets = dict.fromkeys(tuple(each.names) for each in fared)
    for names in sets:
        same = [each for each in fared if tuple(each.names) == names]
        rows = [
            [float(each.wrong.all(dim=0).double().mean()), *_means(each.wrong.double()), *_means(each.found.weights)]
            for each in same
        ]
        yield Grid(
            "Fooled" if len(sets) == 1 else f"Fooled: groups of {len(names)}",
            [each.title for each in same],
            ["all at once", *names, *(f"weight of {name}" for name in names)],
            rows,
            shaded=False,
            note="The share of examples that a domain takes for something else, as its victim says; and the mean weight that "
            "it had in the end.",
        )


def _success(fared: Sequence[Fared]) -> Lines:
    lines = [
        Line(each.title, list(range(len(each.found.along))), [share for _, share in each.found.along]) for each in fared
    ]
    return Lines(
        "Every domain fooled at once",
        "step",
        "share of examples",
        lines,
        note="An attack ends early when no example has a gradient left.",
    )


def _weights(each: Fared) -> Lines:
    steps = list(range(len(each.found.along)))
    lines = [Line(name, steps, [float(mean[k]) for mean, _ in each.found.along]) for k, name in enumerate(each.names)]
    return Lines(f"Weights of the domains, {each.title}", "step", "mean weight", lines)


def _means(by_domain: Tensor) -> list[float]:
    return [float(mean) for mean in by_domain.mean(dim=1)]
