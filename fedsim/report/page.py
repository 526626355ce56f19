"""``report.html``: one file that opens offline, made from run folders alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.errors import OutputError
from fedsim.report import diff, words
from fedsim.report.curves import curves
from fedsim.report.drawing import drawings
from fedsim.report.figures import figures
from fedsim.report.headline import attacked_models, beats_chance, over_seeds, sentences
from fedsim.report.pictures import galleries
from fedsim.report.reading import Run, read
from fedsim.report.scores import Entry, strip, strips
from fedsim.report.view import Group, View, group_of, groups, views
from fedsim.report.writing import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

Row = dict[str, Any]
WIDEST = 9
"""The most metrics that stand side by side in the result table; more of them stand one below the other."""


def write(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Make the page of a run, or one that compares several; returns where it lies.

    Args:
        paths: run folders.
        out: default: ``report.html`` in the first folder, or ``comparison.html`` for several.

    Raises:
        OutputError: not finished runs, or the page cannot be written.
    """
    page = out or paths[0] / ("report.html" if len(paths) == 1 else "comparison.html")
    html = render([read(path) for path in paths])
    try:
        write_text(page, html)
    except OSError as error:
        raise OutputError(f"{page}: cannot be written: {error.strerror or error}") from error
    return page


def render(runs: Sequence[Run]) -> str:
    """The page as HTML.

    Raises:
        OutputError: runs over several seeds can only be shown one at a time.
    """
    templates = environment()
    if not any(run.over_seeds for run in runs):
        return templates.get_template("page.html").render(**_content(runs))
    if len(runs) > 1:
        raise OutputError(f"{runs[0].path}: a summary over seeds is shown by itself; compare single runs instead")
    return templates.get_template("seeds.html").render(**_seeds(runs[0]))


def environment() -> Environment:
    """The templates of all pages, and the filters they use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    for name in ("number", "change", "size", "title", "listed", "settings"):
        found.filters[name] = getattr(words, name)
    found.filters["shell"] = shlex.join
    return found


def _content(runs: Sequence[Run]) -> dict[str, Any]:
    shown = views(runs)
    metrics = list(dict.fromkeys(metric for view in shown for metric in view.numbers["task"]))
    return {
        "runs": runs,
        "views": shown,
        "sentences": sentences(shown),
        "metrics": metrics,
        "notes": [words.OF_WHAT[metric] for metric in metrics if metric in words.OF_WHAT],
        "columns": _columns(shown),
        "results": [_result(view, shown[0], metrics, _columns(shown)) for view in shown],
        "upright": len(metrics) + len(_columns(shown)) > max(WIDEST, len(shown)),
        "strips": strips(shown),
        "galleries": galleries(shown),
        "figures": figures(shown),
        "around": _around(shown),
        "attacked": any(attacked_models(view.numbers["task"]) for view in shown),
        "curves": curves(shown),
        "drawings": drawings(shown),
        "audit": _audit(shown),
        "details": _details(shown),
        "stages": _stages(shown),
        "traffic": _traffic(shown),
        "differences": [diff.diff(runs[0], run) for run in runs[1:]],
    }


def _columns(shown: Sequence[View]) -> list[tuple[int, str, str]]:
    """The trials of the result table: number, attack and metric; with the PSNR, the share above 30 dB."""
    found: dict[tuple[int, str, str], None] = {}
    for group in (group for view in shown for group in groups(view)):
        found[group.number, group.attack, group.metric] = None
        if group.metric.startswith("psnr") and group.score("share_above_30") is not None:
            found[group.number, group.attack, "share_above_30"] = None
    return list(found)


def _result(view: View, first: View, metrics: Sequence[str], columns: Sequence[tuple[int, str, str]]) -> Row:
    """A line of the result table."""
    task, before = view.numbers["task"], first.numbers["task"]
    return {
        "view": view,
        "first": view is first,
        "task": [(m, task.get(m), None if view is first else _minus(task.get(m), before.get(m))) for m in metrics],
        "trials": [_cell(group_of(view, number), metric) for number, _, metric in columns],
        "bytes": view.numbers["traffic"]["bytes"],
        "more_bytes": view.numbers["traffic"]["bytes"] - first.numbers["traffic"]["bytes"],
        "seconds": view.numbers["seconds"],
    }


def _cell(group: Group | None, metric: str) -> Row | None:
    if group is None:
        return None
    beats = beats_chance(group) and metric == group.metric
    return {"metric": metric, "score": group.score(metric), "chance": group.chance(metric), "beats": beats}


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _audit(shown: Sequence[View]) -> list[Row]:
    """Attackers and victims: what was granted, seen, used; equal lines of several arms or victims in one."""
    found: dict[str, Row] = {}
    for name, f in ((view.name, f) for view in shown for f in view.record["findings"]):
        unused = [name for name in f["granted"] if name not in f["used"]]
        row = {k: f[k] for k in ("trial", "seat", "granted", "saw", "used", "paper")}
        row |= {"unused": unused, "label": f["label"]}
        entry = found.setdefault(repr(row), {**row, "victims": {}, "arms": {}})
        entry["victims"][f["victim"]] = entry["arms"][name] = None
    return list(found.values())


def _details(shown: Sequence[View]) -> list[Row]:
    """Every attack at every victim, with all scores and the attack's own notes."""
    found = []
    for view in shown:
        notes = {(f["trial"], f["seat"], f["victim"]): f for f in view.record["findings"]}
        for trial in view.numbers["trials"]:
            finding = notes[trial["trial"], trial["seat"], trial["victim"]]
            found.append({"view": view, "finding": finding, **trial})
    return sorted(found, key=lambda row: row["trial"])


def _stages(shown: Sequence[View]) -> list[Row]:
    """What stages counted: numbers by name."""
    fixed = ("seat", "link", "stage")
    return [
        {"view": view, **{k: s[k] for k in fixed}, "numbers": {k: v for k, v in s.items() if k not in fixed}}
        for view in shown
        for s in view.record["stages"]
    ]


def _around(shown: Sequence[View]) -> list[Row]:
    """What is around seats and what it did, in each arm."""
    return [
        {"view": view, "seat": role, "settings": wrapper, **told}
        for view in shown
        for role, seat in view.record["seats"].items()
        for wrapper, told in zip(seat["wrappers"], seat["describe"].get("around", ()), strict=False)
    ]


def _traffic(shown: Sequence[View]) -> list[Row]:
    """Frames and bytes of each kind on each link; for each arm a pair, or None."""
    found: dict[tuple[str, str, str], list[tuple[int, int] | None]] = {}
    for i, view in enumerate(shown):
        for t in view.record["traffic"]:
            cells = found.setdefault((t["from"], t["to"], t["message"]), [None] * len(shown))
            cells[i] = (t["frames"], t["bytes"])
    most = max((cell[1] for cells in found.values() for cell in cells if cell), default=1)
    rows = [{"from": f, "to": t, "message": m, "cells": cells, "most": most} for (f, t, m), cells in found.items()]
    return sorted(rows, key=lambda row: -max(cell[1] for cell in row["cells"] if cell))


def _seeds(run: Run) -> dict[str, Any]:
    arms: Mapping[str, Any] = run.summary["arms"]
    metrics = list(dict.fromkeys(metric for arm in arms.values() for metric in arm["task"]))
    return {
        "run": run,
        "sentences": over_seeds(run.summary),
        "arms": arms,
        "metrics": metrics,
        "tasks": [strip(f"test {words.title(m)}", _entries(arms, m), m) for m in metrics[:1]],
        "trials": [t for t in _trial_strips(arms) if t.lines],
    }


def _entries(arms: Mapping[str, Any], metric: str) -> list[Entry]:
    tasks = {name: arm["task"].get(metric, {}) for name, arm in arms.items()}
    return [
        Entry(name, t["mean"], [t["low"], t["high"]], None, interval=True)
        for name, t in tasks.items()
        if t.get("mean") is not None
    ]


def _trial_strips(arms: Mapping[str, Any]) -> list[Any]:
    """A strip for each attack at each victim, over all arms."""
    found: dict[tuple[Any, ...], list[Entry]] = {}
    for name, trial in ((name, trial) for name, arm in arms.items() for trial in arm["trials"]):
        key = tuple(trial[k] for k in ("trial", "label", "seat", "victim", "metric"))
        entries, score = found.setdefault(key, []), trial["score"]
        if score["mean"] is not None:
            ends = [score["low"], score["high"]]
            entries.append(Entry(name, score["mean"], ends, trial["chance"]["mean"], interval=True))
    return [
        strip(f"{attack} at {seat} against {victim}: {words.title(metric)}", entries, metric)
        for (_, attack, seat, victim, metric), entries in found.items()
    ]
