"""The page over a sweep: one file that opens offline, made from the folder alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.axes import short
from fedsim.errors import OutputError
from fedsim.report.page import environment
from fedsim.report.reading import Run, read_sweep
from fedsim.report.tradeoff import along, pareto
from fedsim.report.words import LESS_IS_BETTER, number, title
from fedsim.report.writing import write_text

MATRICES = 12
"""Shown, at most."""
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Matrix:
    """One figure over two axes, with the others held at one choice each; a row has its label and its cells.

    A cell has its spread over the seeds, or None, and its shade from 0 to 1.
    """

    title: str
    hue: int
    metric: str
    rows: str
    columns: str
    labels: Sequence[str]
    lines: Sequence[tuple[str, Sequence[tuple[Numbers | None, float]]]]


def write(path: Path, out: Path | None = None) -> Path:
    """Make the page of a sweep; returns where it lies.

    Args:
        path: the folder of the sweep.
        out: default: ``report.html`` in it.

    Raises:
        OutputError: not the folder of a sweep that came to its end, or the page cannot be written.
    """
    page = out or path / "report.html"
    html = render(read_sweep(path))
    try:
        write_text(page, html)
    except OSError as error:
        raise OutputError(f"{page}: cannot be written: {error.strerror or error}") from error
    return page


def render(run: Run) -> str:
    """The page as HTML."""
    cells = run.summary["cells"]
    content = {
        "run": run,
        "summary": run.summary,
        "cells": cells,
        "axes": short(run.summary["axes"]),
        "sentences": sentences(run.summary),
        "matrices": matrices(run.summary),
        "pareto": pareto(run.summary),
        "lines": along(run.summary),
        "failed": [{"cell": cell["name"], **one} for cell in cells for one in cell["failed"]],
        "left_out": sum(cell["left_out"] for cell in cells),
    }
    return environment().get_template("sweep.html").render(**content)


def sentences(summary: Numbers) -> list[str]:
    """What the sweep came to, for the head of the page."""
    found = []
    for key, words in (("leakage", "Leakage by"), ("task", "Test")):
        metric = summary[key]
        known = [cell for cell in summary["cells"] if cell["figures"] and cell["figures"][key]["mean"] is not None]
        if known:
            low, high = (f(known, key=lambda cell: cell["figures"][key]["mean"]) for f in (min, max))
            ends = [f"{number(c['figures'][key]['mean'], metric)} (“{c['name']}”)" for c in (low, high)]
            found.append(f"{words} {title(metric)}: from {ends[0]} to {ends[1]}.")
    return found or ["No run came to its end."]


def matrices(summary: Numbers) -> list[Matrix]:
    """Leakage and task over the first two axes, attackers across; one pair for each choice on the other axes.

    None where numbers are drawn: no two cells then differ in one axis alone.
    """
    axes = sorted(summary["axes"], key=lambda axis: axis in summary["attackers"])  # attackers last
    if len(axes) < 2 or summary["drawn"]:
        return []
    if set(axes[-1:]) <= set(summary["attackers"]):
        axes = [axes[0], axes[-1], *axes[1:-1]]
    rows, columns, *others = axes
    found = []
    for fixed in itertools.product(*(summary["axes"][axis] for axis in others)):
        rest = dict(zip(others, fixed, strict=True))
        for key, hue in (("leakage", 18), ("task", 205)):
            if summary[key]:
                found.append(_matrix(summary, key, hue, rows, columns, rest))
    return [matrix for matrix in found if any(spread for _, line in matrix.lines for spread, _ in line)][:MATRICES]


def _matrix(summary: Numbers, key: str, hue: int, rows: str, columns: str, rest: Mapping[str, str]) -> Matrix:
    metric, names = summary[key], short(summary["axes"])
    found = {
        (cell["at"][rows], cell["at"][columns]): cell["figures"][key]
        for cell in summary["cells"]
        if cell["figures"] and cell["figures"][key]["mean"] is not None and rest.items() <= cell["at"].items()
    }
    means = [c["figures"][key]["mean"] for c in summary["cells"] if c["figures"]]
    known = [mean for mean in means if mean is not None]

    def cell(row: str, column: str) -> tuple[Numbers | None, float]:
        spread = found.get((row, column))
        return spread, _shade(spread["mean"], known, metric) if spread else 0.0

    labels = summary["axes"][columns]
    what = f"leakage: {title(metric)}" if key == "leakage" else f"test {title(metric)}"
    where = "".join(f", {names[axis]} {label}" for axis, label in rest.items())
    down, across = (names[axis] for axis in (rows, columns))
    lines = [(row, [cell(row, column) for column in labels]) for row in summary["axes"][rows]]
    return Matrix(what + where, hue, metric, down, across, labels, lines)


def _shade(value: float, known: Sequence[float], metric: str) -> float:
    """From 0 for the least to 1 for the most of what the metric is about."""
    low, high = min(known), max(known)
    part = (value - low) / (high - low) if high > low else 0.5
    return 1 - part if metric in LESS_IS_BETTER else part
