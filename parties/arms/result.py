"""What a contest says: numbers for the result table, figures for the report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fedsim.bandit.intervals import Interval
from fedsim.bandit.search import Outcome
from fedsim.figure import Figure, Grid, Line, Lines
from fedsim.message import RoleId
from fedsim.parties.arms import Contest

if TYPE_CHECKING:
    from fedsim.parties.arms.hub import Found


def numbers(found: Found, contest: Contest) -> dict[str, float]:
    """For the result table; gaps, bias and sigma in nats."""
    ranked = sorted((found.gains.get(arm, -math.inf) for arm in found.arms), reverse=True)
    gap = ranked[0] - ranked[1] if len(ranked) > 1 else math.inf
    outcome = found.outcome
    chosen = None if outcome is None or outcome.arm is None else found.arms[outcome.arm]
    return {
        "chose_the_best": float(chosen is not None and found.gains.get(chosen) == ranked[0]),
        "decided": float(chosen is not None),
        "pulls": outcome.total if outcome else 0,
        "pilot_pulls": found.pilot,
        "gap": gap,
        "four_times_bias": found.problem.separable,
        "sigma": found.problem.sigma,
        "best_gain": ranked[0] if ranked else math.nan,
        "dropped": len(found.names) - len(found.gains),
    }


def words(found: Found) -> str:
    """The answer in a sentence."""
    outcome = found.outcome
    silent = [name for name in found.names if name not in found.gains]
    left = f"; {', '.join(silent)} fell silent" if silent else ""
    if outcome is None or len(silent) == len(found.names):
        return "no candidate answered: nothing is decided"
    if outcome.arm is not None:
        return f"chose {found.arms[outcome.arm]} after {outcome.total:,} pulls{left}"
    asked = [i for i, arm in enumerate(found.arms) if arm not in silent]
    floor = max(outcome.intervals[i].low for i in asked)
    rivals = [found.arms[i] for i in asked if outcome.intervals[i].high >= floor]
    return f"undecided after {outcome.total:,} pulls: {', '.join(rivals)} may still be the best{left}"


def figures(found: Found) -> Iterator[Figure]:
    """For the report: how the intervals narrowed, and what is known of each arm in the end."""
    if found.outcome is not None:
        yield _race(found.arms, found.outcome)
    yield _table(found)


def _race(arms: Sequence[RoleId], outcome: Outcome) -> Lines:
    pulls = [float(total) for total, _ in outcome.history]
    highs = [Line(arm, pulls, [_plain(ends[i].high) for _, ends in outcome.history]) for i, arm in enumerate(arms)]
    leader = outcome.arm
    if leader is None:
        leader = max(range(len(arms)), key=lambda i: outcome.intervals[i].low)
    low = Line(f"{arms[leader]}, lower end", pulls, [_plain(ends[leader].low) for _, ends in outcome.history], True)
    return Lines(
        "What may still be the best",
        "pulls of all arms",
        "upper end of the interval (nats)",
        [*highs, low],
        note="The upper end of each arm's interval, and the lower end of the leader's: a choice is made when no other arm "
        "reaches above it. No number of pulls makes an interval narrower than twice what lies can move it by.",
    )


def _table(found: Found) -> Grid:
    outcome, rows = found.outcome, list[list[float]]()
    for name in found.names:
        at = found.arms.index(name) if name in found.arms else None
        known = outcome.intervals[at] if outcome is not None and at is not None else Interval(*[math.nan] * 3)
        pulls = outcome.pulls[at] if outcome is not None and at is not None else 0
        chosen = outcome is not None and at is not None and outcome.arm == at
        ends = [_plain(value) for value in (known.centre, known.low, known.high)]
        rows.append([pulls, *ends, found.gains.get(name, math.nan), int(chosen)])
    return Grid(
        "The candidates",
        list(found.names),
        ["pulls", "estimate", "from", "to", "true gain", "chosen"],
        rows,
        shaded=False,
        note="Gains in nats: by how much the mean loss over the held-out rows drops when the party joins. The true gain is "
        "what the party says of all rows at once where nobody lies; the search does not see it. Without one: it fell silent.",
    )


def _plain(value: float) -> float:
    """An end of an interval; NaN, which is drawn as nothing, where it is endless."""
    return value if math.isfinite(value) else math.nan
