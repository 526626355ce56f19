"""Training curves, arms overlaid: loss at every step, scores on held-out rows at every evaluation."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from fedsim.printable import make_printable
from fedsim.report.view import View
from fedsim.report.words import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INKS = ("#14506e", "#c2552d", "#5b7f3b", "#7b4b94", "#8a6d1d", "#444444")
"""Apart in lightness, too, so that they hold up in grey."""
DASHES: Sequence[Any] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (9, 2)), (0, (2, 2)))
MARKS = ("o", "s", "^", "D", "v", "x")
Curve = tuple[list[float], list[float]]


def curves(views: Sequence[View]) -> str | None:
    """One SVG picture as a data URI, or None if nothing was logged twice: a single value is in the tables."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    losses = [_losses(view) for view in views]
    panels = ["loss"] if any(len(x) > 1 for x, _ in losses) else []
    panels += [metric for metric in _metrics(views) if any(len(_scores(view, metric)[0]) > 1 for view in views)]
    if not panels:
        return None
    with plain_style():
        figure = Figure(figsize=(3.75 * max(2, len(panels)), 2.9), layout="constrained")
        for i, panel in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), i + 1)
            for j, view in enumerate(views):
                _loss(axes, losses[j], j) if panel == "loss" else _score(axes, view, panel, j)
            if panel != "loss":
                _constants(axes, views, panel)
            dress(axes, "training loss (mini-batch)" if panel == "loss" else f"test {title(panel)}", "training step")
            axes.set_xlim(left=0)
        if len(views) > 1:
            names = [as_text(view.name) for view in views]
            drawn = [Line2D([], [], **_style(j)) for j in range(len(views))]
            figure.legend(drawn, names, loc="outside upper left", ncols=4, frameon=False, handlelength=3.5)
        return as_uri(figure)


def plain_style() -> AbstractContextManager[None]:
    """How all pictures of a page are drawn: text as text, the same bytes every time."""
    import matplotlib as mpl

    return mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fedsim", "font.size": 9})


def as_uri(figure: Figure) -> str:
    """A figure as SVG in a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def as_text(name: str) -> str:
    """A name from a file is text that can be shown, not a formula."""
    return make_printable(name, "\n").replace("$", r"\$")


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Trailing mean over ``width`` values; at the start over as many as there are."""
    return [sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i + 1 - width) : i + 1])]


def _metrics(views: Sequence[View]) -> list[str]:
    """The first metric of the task and, for what it does not show, the log loss."""
    known = dict.fromkeys(metric for view in views for metric in view.numbers["task"])
    return [metric for i, metric in enumerate(known) if i == 0 or metric == "log_loss"]


def _losses(view: View) -> Curve:
    rows = [row for row in view.rows if "loss" in row]
    return [float(row["step"]) for row in rows], [_float(row["loss"]) for row in rows]


def _scores(view: View, metric: str) -> Curve:
    rows = [row for row in view.rows if metric in row.get("test", {})]
    return [float(row["step"]) for row in rows], [_float(row["test"][metric]) for row in rows]


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _style(j: int) -> dict[str, Any]:
    return {"color": INKS[j % len(INKS)], "linestyle": DASHES[j % len(DASHES)], "linewidth": 1.5}


def _loss(axes: Axes, curve: Curve, j: int) -> None:
    steps, values = curve
    axes.plot(steps, values, color=INKS[j % len(INKS)], alpha=0.18, linewidth=0.7)
    axes.plot(steps, smooth(values, max(1, len(values) // 40)), **_style(j))


def _score(axes: Axes, view: View, metric: str, j: int) -> None:
    axes.plot(*_scores(view, metric), marker=MARKS[j % len(MARKS)], markersize=3.5, **_style(j))


def _constants(axes: Axes, views: Sequence[View], metric: str) -> None:
    """A line at what a constant guess scores, in black where that is the same for all arms."""
    known = [(j, view.baseline[metric]) for j, view in enumerate(views) if view.baseline.get(metric) is not None]
    common = len({value for _, value in known}) == 1
    for j, value in known[:1] if common else known:
        ink = "#23272b" if common else INKS[j % len(INKS)]
        axes.axhline(value, color=ink, linewidth=1, linestyle=(0, (3, 2.5)), zorder=0)


def dress(axes: Axes, name: str, along: str) -> None:
    """Title, name of the horizontal axis, a faint grid."""
    axes.set_title(name, loc="left", fontsize=9)
    axes.set_xlabel(along)
    axes.grid(True, color="#e4e1da", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
