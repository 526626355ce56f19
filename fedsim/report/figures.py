"""The figures that roles brought: those of one title in one picture, a panel an arm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.errors import OutputError
from fedsim.figure import Bars, Figure, Grid, Lines, figure
from fedsim.report.curves import DASHES, INKS, MARKS, as_text, as_uri, dress, plain_style
from fedsim.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 4
"""Panels side by side."""
BLANK = "#e9e5dc"
"""Where a shaded grid has no number."""
MARKED = 40
"""Points of a line up to which each has a mark."""


Panels = Sequence[tuple[View, Figure]]


@dataclass(frozen=True)
class Shown:
    """What the page has of one title: a picture, or tables of numbers; arms whose tables have the same columns share one."""

    title: str
    note: str
    picture: str = ""
    tables: Sequence[Sequence[tuple[str, Grid]]] = ()


def figures(views: Sequence[View]) -> list[Shown]:
    """Everything that roles brought, by title, in the order in which they brought it.

    Raises:
        OutputError: the run folder holds something else in the place of a figure.
    """
    found: dict[tuple[str, ...], list[tuple[View, Figure]]] = {}
    for view, each in _read(views):
        found.setdefault(_measures(each), []).append((view, each))
    return [_shown(panels, len(views)) for panels in found.values()]


def _measures(each: Figure) -> tuple[str, ...]:
    """What two figures must have in common to stand side by side: what they show, and of what."""
    if isinstance(each, Grid):
        return each.title, "grid", str(each.shaded), each.along, each.up
    if isinstance(each, Lines):
        return each.title, "lines", str(each.log), each.along, each.up
    return each.title, "bars", each.along


def _read(views: Sequence[View]) -> Iterator[tuple[View, Figure]]:
    for view in views:
        for values in view.record.get("figures", ()):
            try:
                yield view, figure({name: value for name, value in values.items() if name != "seat"})
            except ValueError as error:
                raise OutputError(f"{view.run.path / 'seats.json'}: {error}") from error


def _shown(panels: Panels, arms: int) -> Shown:
    first = panels[0][1]
    note = " ".join(dict.fromkeys(each.note for _, each in panels))
    if not isinstance(first, Grid) or first.shaded:
        return Shown(first.title, note, _picture(panels, arms))
    by_columns: dict[tuple[str, ...], list[tuple[str, Grid]]] = {}
    for view, each in panels:
        if isinstance(each, Grid):
            by_columns.setdefault(tuple(each.columns), []).append((view.name, each))
    return Shown(first.title, note, tables=list(by_columns.values()))


def _names(each: Figure) -> Sequence[str]:
    """What a legend, or the ticks of the vertical axis, have to say of a panel."""
    if isinstance(each, Lines):
        return [f"{line.name} {line.dashed}" for line in each.lines]
    return each.rows if isinstance(each, Grid) else each.names


def _picture(panels: Panels, arms: int) -> str:
    from matplotlib.figure import Figure as Canvas

    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    with plain_style():
        canvas = Canvas(figsize=(11.2, max(_height(each) for _, each in panels) * down), layout="constrained")
        alike = len({tuple(_names(each)) for _, each in panels}) == 1
        share = alike or isinstance(panels[0][1], Lines)  # the numbers of lines compare, whatever their names
        every = canvas.subplots(down, across, squeeze=False, sharey=share).flatten()
        for axes, (view, each) in zip(every, panels, strict=False):
            name = as_text(view.name) if arms > 1 else ""
            if isinstance(each, Bars):
                _bars(axes, each, name)
            else:
                _lines(axes, each, name) if isinstance(each, Lines) else _grid(axes, each, name)
        for axes in every[len(panels) :]:
            axes.set_visible(False)
        if isinstance(panels[0][1], Lines) and not alike:
            for axes in every[: len(panels)]:
                axes.legend(frameon=False, fontsize=7)
        elif isinstance(panels[0][1], Lines):
            canvas.legend(
                *every[0].get_legend_handles_labels(),
                loc="outside upper left",
                ncols=4,
                frameon=False,
                handlelength=3.5,
            )
        elif (drawn := [image for axes in every for image in axes.get_images()]) != []:
            canvas.colorbar(drawn[0], ax=list(every[: len(panels)]), shrink=0.8)
        return as_uri(canvas)


def _height(each: Figure) -> float:
    """Of one panel, inches."""
    if isinstance(each, Lines):
        return 2.9
    return 0.9 + 0.23 * len(each.rows if isinstance(each, Grid) else each.names)


def _bars(axes: Axes, each: Bars, name: str) -> None:
    values = [math.nan if value is None else value for value in each.values]
    errors = [math.nan if error is None else error for error in each.errors] or None
    axes.barh(range(len(values)), values, xerr=errors, color=INKS[0], height=0.62, ecolor=INKS[1], capsize=2.5)
    dress(axes, name, as_text(each.along))
    axes.set_axisbelow(True)
    axes.axvline(0, color="#23272b", linewidth=0.8)
    axes.set_yticks(range(len(values)), [as_text(each_name) for each_name in each.names])
    axes.set_ylim(len(values) - 0.4, -0.6)


def _lines(axes: Axes, each: Lines, name: str) -> None:
    for i, line in enumerate(each.lines):
        marks = MARKS[i % len(MARKS)] if len(line.x) <= MARKED else None
        style = {"linestyle": DASHES[1] if line.dashed else DASHES[0], "color": INKS[i % len(INKS)], "linewidth": 1.5}
        y = [math.nan if value is None else value for value in line.y]
        axes.plot(line.x, y, label=as_text(line.name), marker=marks, markersize=3.5, **style)
    dress(axes, name, as_text(each.along))
    axes.set_ylabel(as_text(each.up))
    if each.log:
        axes.set_xscale("log")
        if all(isinstance(x, int) for line in each.lines for x in line.x):  # counts read best as they are
            axes.set_xticks(counts := sorted({x for line in each.lines for x in line.x}), [str(x) for x in counts])
            axes.minorticks_off()


def _grid(axes: Axes, each: Grid, name: str) -> None:
    import matplotlib as mpl

    values = [[math.nan if value is None else value for value in row] for row in each.values]
    shades = mpl.colormaps["cividis"].with_extremes(bad=BLANK)
    axes.imshow(values, aspect="auto", cmap=shades, vmin=0, vmax=1, interpolation="nearest")
    dress(axes, name, as_text(each.along))
    axes.grid(False)
    axes.set_ylabel(as_text(each.up))
    axes.set_yticks(range(len(each.rows)), [as_text(row) for row in each.rows])
    few = range(0, len(each.columns), max(1, len(each.columns) // 8))
    axes.set_xticks(list(few), [as_text(each.columns[i]) for i in few])
