"""The page over a sweep: one file that opens offline, made from the folder alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.axes import short
from fedsim.report.page import environment
from fedsim.report.page_file import write_page
from fedsim.report.paths import PathFilter
from fedsim.report.reading import Run, read_sweep
from fedsim.report.sweeps import by_leakage, has_learned, measures
from fedsim.report.tradeoff import along, pareto
from fedsim.report.words import LESS_IS_BETTER, how_certain, listed, number, title

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
    return write_page(out or path / "report.html", lambda: render(read_sweep(path)), [path])


def render(run: Run) -> str:
    """The page as HTML."""
    facets, cells = by_leakage(run.summary), run.summary["cells"]
    content = {
        "run": run,
        "summary": run.summary,
        "cells": cells,
        "axes": short(run.summary["axes"]),
        "facets": facets,
        "sentences": sentences(run.summary),
        "matrices": matrices(run.summary),
        "paretos": [(facet["leakage"], picture) for facet in facets if (picture := pareto(facet))],
        "lines": [(axis, facet["leakage"], picture) for facet in facets for axis, picture in along(facet)],
        "constant": any((cell["figures"] or {}).get("baseline", {}).get("mean") is not None for cell in cells),
        "failed": [{"cell": cell["name"], **one} for cell in cells for one in cell["failed"]],
        "certainty": how_certain(_spreads(cells), run.summary["level"]),
        "left_out": sum(cell["left_out"] for cell in cells),
    }
    paths = PathFilter([run])
    return paths.finish(environment().get_template("sweep.html").render(**content, paths=paths))


def _spreads(cells: Sequence[Numbers]) -> list[Numbers]:
    return [cell["figures"][key] for cell in cells if cell["figures"] for key in ("task", "leakage")]


def sentences(summary: Numbers) -> list[str]:
    """What the sweep came to, for the head of the page."""
    found = []
    facets = by_leakage(summary)
    for facet, key, words in [*((each, "leakage", "Leakage by") for each in facets), (facets[0], "task", "Test")]:
        metric = facet[key]
        known = [cell for cell in facet["cells"] if cell["figures"] and cell["figures"][key]["mean"] is not None]
        if known:
            low, high = (f(known, key=lambda cell: cell["figures"][key]["mean"]) for f in (min, max))
            ends = [
                f"{number(c['figures'][key]['mean'], metric)} (“{c['name']}”{_attacked(c, key)})" for c in (low, high)
            ]
            least, most = (number(cell["figures"][key]["mean"], metric) for cell in (low, high))
            span = f"from {ends[0]} to {ends[1]}"
            if len(known) > 1 and least == most:
                span = f"{least} in every cell, which tells none from another"
            told = _constant(known, key, metric) + _untrained(known, key, metric)
            found.append(f"{words} {title(metric)}: {span}.{told}")
    if found and len(parts := measures(summary["cells"])) > 1:
        found.append(
            f"Cells are scored on {len(parts)} different sets of data or classes: numbers of one set do not compare with "
            f"those of another; {'; '.join(listed([f'“{name}”' for name in names]) for names in parts)}."
        )
    return found or ["No run came to its end."]


def _attacked(cell: Numbers, key: str) -> str:
    """By which attacks a cell leaks what it does."""
    return f", {listed(list(cell['attacks']))}" if key == "leakage" and cell.get("attacks") else ""


def _untrained(cells: Sequence[Numbers], key: str, metric: str) -> str:
    """What is to be said if cells learned nothing: a leak or a defence of such a model says little."""
    idle = [cell for cell in cells if not has_learned(cell, metric)] if key == "task" else []
    if not idle:
        return ""
    which = "No cell" if len(idle) == len(cells) else f"{len(idle)} of {len(cells)} cells have not"
    learned = "has learned more" if len(idle) == len(cells) else "learned more"
    return f" {which} {learned} than a constant guess; train for more steps before comparing them."


def _constant(cells: Sequence[Numbers], key: str, metric: str) -> str:
    """What a constant guess scores in the task, if that is the same in all cells."""
    values = {cell["figures"].get("baseline", {}).get("mean") for cell in cells}
    if key != "task" or None in values:
        return ""
    low, high = number(min(values), metric), number(max(values), metric)
    return f" A constant guess: {low}." if low == high else f" A constant guess: from {low} to {high}."


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
    found, facets = [], by_leakage(summary)
    for fixed in itertools.product(*(summary["axes"][axis] for axis in others)):
        rest = dict(zip(others, fixed, strict=True))
        for facet in facets:
            if facet["leakage"]:
                found.append(_matrix(facet, "leakage", 18, rows, columns, rest))
        found.append(_matrix(summary, "task", 205, rows, columns, rest))
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
