"""The page of one seat, in the run folder of its own: what it holds, and what attacks have made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim.errors import OutputError
from fedsim.report import words
from fedsim.report.page import environment
from fedsim.report.page_file import write_page
from fedsim.report.paths import PathFilter
from fedsim.report.pictures import own_galleries
from fedsim.report.reading import Run, read
from fedsim.report.view import View, part_views


def write(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Make the page of a seat again; returns where it lies.

    Args:
        folders: the run folder of the seat, and no other.
        out: default: ``report.html`` in that folder.

    Raises:
        OutputError: several folders, one that is no run or holds a run over several seeds, or the page cannot be written.
    """
    if len(folders) != 1:
        raise OutputError(f"--own: expected the run folder of one seat; found {len(folders)}")
    return write_page(out or folders[0] / "report.html", lambda: render(read(folders[0])), folders)


def render(run: Run) -> str:
    """The page as HTML.

    Raises:
        OutputError: the run is a summary over several seeds.
    """
    if run.over_seeds:
        raise OutputError(f"{run.path}: a summary over seeds; choose one of its runs: {', '.join(run.summary['runs'])}")
    templates, paths, shown = environment(), PathFilter([run]), part_views(run)
    content = {
        "run": run,
        "views": shown,
        "seats": [_describe_seat(view, role) for view in shown for role in view.record["seats"]],
        "tasks": [{"view": view, "task": view.numbers["task"]} for view in shown if view.numbers["task"]],
        "judged": [{**judged, "view": view} for view in shown for judged in view.record.get("judged", ())],
        "made": [{**trial, "view": view} for view in shown for trial in view.numbers["trials"]],
        "galleries": own_galleries(shown),
    }
    return paths.finish(templates.get_template("seat.html").render(**content, paths=paths))


def _describe_seat(view: View, role: str) -> dict[str, Any]:
    """What sits at a seat, by name, as texts."""
    facts: Mapping[str, Any] = view.record["seats"][role]["describe"]
    return {"view": view, "role": role, "facts": {name: _spell(value) for name, value in facts.items()}}


def _spell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_spell(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_spell(each) for each in value)
    return words.number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
