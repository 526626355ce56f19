"""Figures that a role brings to the report: plain data that any page can draw, so a run is looked at without its plugins.

A role hands them to its `Net` (``net.draw``); they travel with its report and lie in the run folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """One line: its points, and whether it is dashed."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Lines:
    """Lines over one axis. Figures of the same title, one an arm, stand side by side.

    Attributes:
        title: what is shown, as a heading.
        along, up: the names of the axes.
        lines: in the order of the legend.
        log: whether the horizontal axis shows orders of magnitude.
        note: a sentence below.
    """

    title: str
    along: str
    up: str
    lines: Sequence[Line]
    log: bool = False
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """Numbers by row and column; NaN where there is none.

    Attributes:
        title, note: as of `Lines`.
        rows, columns: their names.
        values: a line for each row.
        shaded: whether cells are coloured by value, and no number stands in them; else the numbers are written out.
        along, up: what columns and rows are, where they are shaded.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    shaded: bool = True
    along: str = ""
    up: str = ""
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """A bar for each name; NaN where there is no number.

    Attributes:
        title, note: as of `Lines`.
        names, values: from top to bottom.
        errors: standard errors, one a bar; none if they are not known.
        along: what the bars measure.
    """

    title: str
    names: Sequence[str]
    values: Sequence[float]
    errors: Sequence[float] = ()
    along: str = ""
    note: str = ""


Figure = Lines | Grid | Bars


def plain(figure: Figure) -> dict[str, Any]:
    """A figure as plain values, for JSON."""
    return {"form": type(figure).__name__.lower(), **asdict(figure)}


def figure(values: Mapping[str, Any]) -> Figure:
    """What `plain` wrote.

    Raises:
        ValueError: it is no figure.
    """
    settings = {name: value for name, value in values.items() if name != "form"}
    try:
        if values["form"] == "lines":
            return Lines(**{**settings, "lines": [Line(**line) for line in settings["lines"]]})
        if values["form"] == "grid":
            return Grid(**settings)
        if values["form"] == "bars":
            return Bars(**settings)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a figure: {error}") from error
    raise ValueError(f"not a figure: of form {values['form']!r:.60}; expected lines, grid or bars")
