"""What an appraisal says of groups and of parties: figures for the report. Those of resilience are `fedsim.resilience`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fedsim.figure import Bars, Figure, Grid
from fedsim.parties.appraisal.groups import Counts, Interval
from fedsim.parties.appraisal.shapley import Worths

MEASURES = ("accuracy", "log loss (nats)")


def group_figure(
    column: str,
    names: Sequence[str],
    counts: Counts,
    rates: Mapping[str, Sequence[Interval]],
    differences: Mapping[str, Interval],
    withheld: tuple[int, int],
) -> Grid:
    """A line for each group, and one for each difference; ``withheld``: how many groups, and how many rows they have."""
    heads = [head for name in rates for head in (name.replace("_", " "), "from", "to")]
    rows: list[list[float]] = []
    for g in range(len(names)):
        ends = [end for each in rates.values() for end in (each[g].value, each[g].low, each[g].high)]
        rows.append([int(counts[g].sum()), *ends])
    none = [float("nan")] * 3
    parity, odds = (differences.get(name) for name in ("demographic_parity", "equalised_odds"))
    lines = {}
    if parity is not None:
        lines["demographic parity difference"] = [parity.value, parity.low, parity.high, *none, *none]
    if odds is not None:
        lines["equalised odds difference"] = [*none, odds.value, odds.low, odds.high, *none]
    rows += [[float("nan"), *line[: len(heads)]] for line in lines.values()]
    left = f" Withheld: {withheld[0]} groups with {withheld[1]} rows in all." if withheld[0] else ""
    return Grid(
        f"Fairness by {column}",
        [*names, *lines],
        ["rows", *heads],
        rows,
        shaded=False,
        note="Rates on the held-out rows with 95 % intervals over these rows (rates: Clopper-Pearson; differences: Newcombe, "
        "for the largest of all pairs of groups). Demographic parity difference: largest less smallest selection rate; "
        "equalised odds difference: the larger of the differences of true and of false positive rates. "
        f"Differences of small groups come out too large by chance: look at the lower ends of their intervals.{left}",
    )


def worth_figures(found: Worths, orders: int) -> Iterator[Figure]:
    """A bar for each party, by each measure."""
    how = f"exact, over all {found.coalitions} coalitions" if found.exact else f"from {orders} drawn orders of joining"
    over = "over the held-out rows" if found.exact else "over the held-out rows and the orders"
    for k, measure in enumerate(MEASURES):
        yield Bars(
            f"What each party is worth: {measure}",
            found.players,
            found.values[:, k].tolist(),
            found.errors[:, k].tolist(),
            along=f"gain in {measure}" if k == 0 else "fall of the log loss (nats)",
            note=f"Shapley values, {how}; in place of an absent party stands the mean of its training embeddings. They sum to "
            f"what all parties gain over none. Standard errors are {over}, of this one model.",
        )
