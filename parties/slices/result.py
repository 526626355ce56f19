"""What a siege says: numbers for the result table, figures for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fedsim.figure import Figure, Grid
from fedsim.message import RoleId
from fedsim.minmax.balls import Ball


@dataclass(frozen=True)
class Fallen:
    """How one attack of one malicious party went.

    Attributes:
        seat, ball, rule: who, how far, how weighed.
        rows: of the held-out ones, those that were attacked, (n,).
        wrong: which are wrong in each domain, (K, n) bool.
        fooled: which are wrong with what the others really hold, (n,) bool.
    """

    seat: RoleId
    ball: Ball
    rule: str
    rows: Tensor
    wrong: Tensor
    fooled: Tensor


def numbers(fallen: Sequence[Fallen], right: Tensor) -> dict[str, float]:
    """For the result table.

    Of each rule, over seats and balls: the share of attacked rows that fall for what the others really hold, and that are wrong
    in every domain at once. Then the share of all rows that stay right under every attack, and under all in one ball.
    """
    found = {}
    for rule in dict.fromkeys(each.rule for each in fallen):
        same = [each for each in fallen if each.rule == rule]
        found[f"fooled, {rule}"] = _mean([each.fooled for each in same])
        if len(same[0].wrong) > 1:
            found[f"all domains, {rule}"] = _mean([each.wrong.all(dim=0) for each in same])
            found[f"one domain, {rule}"] = _mean([each.wrong.flatten() for each in same])
    found["union_accuracy"] = _stands(fallen, right)
    for name in dict.fromkeys(each.ball.name for each in fallen):
        found[f"accuracy under {name}"] = _stands([each for each in fallen if each.ball.name == name], right)
    return found


def constant_numbers(found: Mapping[str, float], accuracy: float) -> dict[str, float]:
    """The same of a hub that always says one class, right so often: nothing that a party sends changes what it says."""
    return {name: accuracy if "accuracy" in name else 0.0 for name in found}


def figures(fallen: Sequence[Fallen], right: Tensor) -> Iterator[Figure]:
    """For the report: a line an attack."""
    yield Grid(
        "A malicious party",
        [f"{each.seat}, {each.ball.name}, {each.rule}" for each in fallen],
        ["rows attacked", "fooled", "in one domain", "in all domains", "accuracy left"],
        [
            [
                len(each.rows),
                _mean([each.fooled]),
                _mean([each.wrong.flatten()]),
                _mean([each.wrong.all(dim=0)]),
                _stands([each], right),
            ]
            for each in fallen
        ],
        shaded=False,
        note="Of the rows that are right before: the share that is wrong with what the other parties really hold, and in the "
        "domains that the attack was made for. The accuracy that is left is over all rows that were tried.",
    )


def _mean(shares: Sequence[Tensor]) -> float:
    return sum(float(share.double().mean()) for share in shares) / len(shares)


def _stands(fallen: Sequence[Fallen], right: Tensor) -> float:
    """The share of all rows that are right before and after every one of these attacks."""
    standing = right.clone()
    for each in fallen:
        standing[each.rows[each.fooled]] = False
    return float(standing.double().mean())
