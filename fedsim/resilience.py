"""What a trained federation bears: one table of what was done to one seat at a time, and one number for each axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from fedsim.figure import Bars, Figure, Grid

UNTOUCHED, BLIND = "untouched", "blind guess: the most frequent class"


@dataclass(frozen=True)
class Axis:
    """One kind of harm: its levels, and where they lie on the axis, which begins at 0 with no harm."""

    name: str
    levels: Sequence[float]
    places: Sequence[float]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        axis, level: what was done, and how much of it.
        seat: where.
        made: the wrapper that did it, with its settings, as ``seats:`` takes it.
        seeds: the public seeds that it was drawn from, one after the other.
        accuracy, lowest: on the held-out rows, mean and lowest over the seeds.
        log_loss: mean over the seeds, nats.
    """

    axis: str
    level: float
    seat: str
    made: str
    seeds: Sequence[int]
    accuracy: float
    lowest: float
    log_loss: float


@dataclass(frozen=True)
class Table:
    """The whole table.

    Attributes:
        accuracy, blind: on the held-out rows, of the untouched federation and of always saying the most frequent class.
    """

    accuracy: float
    blind: float
    axes: Sequence[Axis]
    rows: Sequence[Row]

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def of(values: Mapping[str, Any]) -> Table:
        """What `plain` gave."""
        axes, rows = [Axis(**each) for each in values["axes"]], [Row(**each) for each in values["rows"]]
        return Table(values["accuracy"], values["blind"], axes, rows)

    def area(self, axis: Axis, seat: str) -> float | None:
        """The area under a seat's accuracy along an axis, over its length: a mean accuracy; None if nothing was tried there."""
        at = {row.level: row.accuracy for row in self.rows if (row.axis, row.seat) == (axis.name, seat)}
        if not at:
            return None
        points = [
            (0.0, self.accuracy),
            *sorted((p, at[level]) for level, p in zip(axis.levels, axis.places, strict=True)),
        ]
        area = sum((right - left) * (one + other) / 2 for (left, one), (right, other) in pairwise(points))
        return area / points[-1][0]

    def areas(self) -> dict[str, float]:
        """By axis, one number: the mean over the seats of the area under the curve."""
        found = {
            axis.name: [a for seat in self._seats() if (a := self.area(axis, seat)) is not None] for axis in self.axes
        }
        return {name: sum(each) / len(each) for name, each in found.items() if each}

    def figures(self) -> Iterator[Figure]:
        """Bars by axis, areas by seat and axis, and every row."""
        areas = self.areas()
        yield Bars(
            "Resilience",
            [UNTOUCHED, *areas, BLIND],
            [self.accuracy, *areas.values(), self.blind],
            along="accuracy",
            note="The area under the curve of accuracy along each axis, over its length: a mean accuracy between no harm and "
            "the worst that was tried, mean over the seats.",
        )
        seats = self._seats()
        yield Grid(
            "Resilience by seat",
            seats,
            list(areas),
            [[_number(self.area(axis, seat)) for axis in self.axes if axis.name in areas] for seat in seats],
            shaded=False,
            note="The same area for each seat alone.",
        )
        yield Grid(
            "What was tried",
            [f"{row.seat}: {row.made}, {_seeds(row.seeds)}" for row in self.rows],
            ["accuracy", "change", "lowest", "log loss"],
            [[r.accuracy, r.accuracy - self.accuracy, r.lowest, r.log_loss] for r in self.rows],
            shaded=False,
            note="The seat, the wrapper around it with its settings, and the seeds it was drawn from. One seat at a time; "
            "accuracy and log loss are means over the seeds, lowest is the worst of them.",
        )

    def _seats(self) -> list[str]:
        return list(dict.fromkeys(row.seat for row in self.rows))


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
