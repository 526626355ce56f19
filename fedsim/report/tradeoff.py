"""The pictures of a sweep: task against leakage, and both along an axis of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedsim.report.curves import DASHES, INKS, MARKS, as_text, as_uri, dress, plain_style
from fedsim.report.seeds import reach
from fedsim.report.words import LESS_IS_BETTER, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = len(INKS)
"""Lines in one panel, at most: as many as there are inks."""
WIDE = 20
"""The largest over the least number from which on an axis shows orders of magnitude."""
ALIKE = 0.05
"""How far guesses of several cells may lie apart, relative to the larger, to be drawn as one line."""
Cells = Sequence[Mapping[str, Any]]


def pareto(summary: Mapping[str, Any]) -> str | None:
    """Every cell by leakage and task, as an SVG picture in a data URI; None where a run has no attacks.

    Marks tell attackers apart, inks everything else, or with too many variants the first axis. A ring is around the cells that
    no other beats in both figures under the same attacker; a line joins them.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    cells = [cell for cell in summary["cells"] if _whole(cell)]
    if not cells:
        return None
    attackers = list(dict.fromkeys(_at(cell, summary["attackers"]) for cell in cells))
    others = [axis for axis in summary["axes"] if axis not in summary["attackers"]]
    if len({_at(cell, others) for cell in cells}) > LINES:
        others = others[:1]
    variants = list(dict.fromkeys(_at(cell, others) for cell in cells))
    with plain_style():
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for j, attacker in enumerate(attackers):
            own = [cell for cell in cells if _at(cell, summary["attackers"]) == attacker]
            _front(axes, [cell for cell in own if cell["front"]], DASHES[j % len(DASHES)])
            for cell in own:
                _point(axes, cell, MARKS[j % len(MARKS)], INKS[variants.index(_at(cell, others)) % len(INKS)])
        _guesses(axes.axvline, [cell["figures"]["chance"]["mean"] for cell in cells])
        _guesses(axes.axhline, [cell["figures"].get("baseline", {}).get("mean") for cell in cells])
        dress(axes, f"test {title(summary['task'])}", f"leakage: {title(summary['leakage'])}")
        _turn(axes, summary)
        inks = [Line2D([], [], marker="o", ls="", color=INKS[i % len(INKS)]) for i in range(len(variants))]
        marks = [Line2D([], [], marker=MARKS[j % len(MARKS)], ls="", color="#667077") for j in range(len(attackers))]
        shown = [*zip(inks, variants, strict=True), *zip(marks, attackers, strict=True)]
        named = [(handle, as_text(name)) for handle, name in shown if name]
        if named:
            figure.legend(*zip(*named, strict=True), loc="outside right upper", frameon=False)
        return as_uri(figure)


def _guesses(draw: Callable[..., object], values: Sequence[float | None]) -> None:
    """A dashed line at each score of a guess that occurs; where they spread, at the least and the most of them."""
    known = [value for value in values if value is not None]
    if known:
        low, high = min(known), max(known)
        for value in (low,) if high - low <= ALIKE * max(abs(low), abs(high)) else (low, high):
            draw(value, color="#23272b", linewidth=1, linestyle=(0, (3, 2.5)), zorder=0)


def along(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """For each axis of numbers, its name and a picture of both figures along it, a line for each choice on the others."""
    found = []
    for axis in summary["axes"]:
        numbers = {cell["numbers"].get(axis) for cell in summary["cells"]}
        if None not in numbers and len(numbers) > 1:
            found.append((axis, _along(summary, axis)))
    return found


def _along(summary: Mapping[str, Any], axis: str) -> str:
    from matplotlib.figure import Figure

    keys = [key for key in ("task", "leakage") if summary[key]]
    xs = [cell["numbers"][axis] for cell in summary["cells"]]
    others = [other for other in summary["axes"] if other != axis and other not in summary["drawn"]]
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for cell in summary["cells"]:
        if cell["figures"]:
            lines.setdefault(_at(cell, others), []).append(cell)
    with plain_style():
        figure = Figure(figsize=(3.75 * 2, 2.9), layout="constrained")
        for i, key in enumerate(keys):
            axes = figure.add_subplot(1, 2, i + 1)
            for j, (name, cells) in enumerate(list(lines.items())[:LINES]):
                _line(axes, cells, axis, key, j, as_text(name) if i == 0 else "", joined=not summary["drawn"])
            if min(xs) > 0 and max(xs) >= WIDE * min(xs):
                axes.set_xscale("log")
            dress(axes, f"{'leakage:' if key == 'leakage' else 'test'} {title(summary[key])}", as_text(axis))
        if len(lines) > 1:
            figure.legend(loc="outside upper left", ncols=4, frameon=False, handlelength=3.5)
        return as_uri(figure)


def _line(axes: Axes, cells: Cells, axis: str, key: str, j: int, name: str, joined: bool) -> None:
    known = [cell for cell in cells if cell["figures"][key]["mean"] is not None]
    known.sort(key=lambda cell: cell["numbers"][axis])
    axes.errorbar(
        [cell["numbers"][axis] for cell in known],
        [cell["figures"][key]["mean"] for cell in known],
        yerr=[list(ends) for ends in zip(*(reach(cell["figures"][key]) for cell in known), strict=True)] or None,
        color=INKS[j],
        linestyle=DASHES[j] if joined else "",
        marker=MARKS[j],
        markersize=4,
        linewidth=1.5,
        elinewidth=1,
        capsize=2,
        label=name,
    )


def _front(axes: Axes, cells: Cells, dash: Any) -> None:
    ordered = sorted(cells, key=lambda cell: cell["figures"]["leakage"]["mean"])
    xs, ys = ([cell["figures"][key]["mean"] for cell in ordered] for key in ("leakage", "task"))
    axes.plot(xs, ys, color="#667077", linestyle=dash, linewidth=1, zorder=1)
    axes.plot(xs, ys, "o", markersize=13, markerfacecolor="none", markeredgecolor="#a8431f", zorder=1)


def _point(axes: Axes, cell: Mapping[str, Any], mark: str, ink: str) -> None:
    x, y = cell["figures"]["leakage"]["mean"], cell["figures"]["task"]["mean"]
    bars = {key: [[end] for end in reach(cell["figures"][key])] for key in ("leakage", "task")}
    axes.errorbar(x, y, xerr=bars["leakage"], yerr=bars["task"], marker=mark, color=ink, elinewidth=1, markersize=6)


def _turn(axes: Axes, summary: Mapping[str, Any]) -> None:
    """What is better lies up and to the left, whichever way a metric counts."""
    if summary["leakage"] in LESS_IS_BETTER:
        axes.invert_xaxis()
    if summary["task"] in LESS_IS_BETTER:
        axes.invert_yaxis()


def _whole(cell: Mapping[str, Any]) -> bool:
    return bool(cell["figures"]) and None not in (cell["figures"][key]["mean"] for key in ("task", "leakage"))


def _at(cell: Mapping[str, Any], axes: Sequence[str]) -> str:
    """Where a cell lies on some of the axes, in words."""
    named = {
        axis: f"{axis.rpartition('.')[2]} {cell['at'][axis]}" if "." in axis else cell["at"][axis] for axis in axes
    }
    return ", ".join(named.values())
