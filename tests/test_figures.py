"""Figures that roles bring: plain data that comes back as it was, and pictures on the page of any run."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedsim.parties.wrappers
from fedsim.config import validate
from fedsim.errors import OutputError
from fedsim.experiment import run
from fedsim.figure import Figure, Grid, Line, Lines, figure, plain
from fedsim.report import page

LINES = Lines(
    "Cost", "rounds", "dollars", [Line("north $x$", [1, 2], [0.5, 0.25]), Line("b", [1], [0.1], dashed=True)], log=True
)
GRID = Grid("Heat", ["one", "two"], ["0", "1"], [[0.1, 0.2], [0.3, float("nan")]], along="bit", note="A note.")
TABLE = Grid("Counts", ["one"], ["pulls", "regret"], [[1234.0, 1.5e-6]], shaded=False)

DRAWS = '''
from fedsim.figure import Grid, Line, Lines
from fedsim.threat import Wrapper
from fedsim.parties.wrappers._around import Around


class Drawing(Around):
    async def run(self, net):
        await super().run(net)
        net.draw(Lines("Cost", "rounds", "dollars", [Line("north $x$", (1, 2), (0.5, float("nan")))], log=True))
        net.draw(Grid("Heat", ("one",), ("0", "1"), ((0.1, float("nan")),), note="A note."))
        net.draw(Grid("Counts", ("one",), ("pulls", "regret"), ((1234.0, 1.5e-6),), shaded=False))


class Draws(Wrapper):
    """Brings figures."""

    def wrap(self, role, rng):
        return Drawing(role, lambda inside: lambda: {"kind": "draws", "numbers": {"drawn": 3}, "changes": []})
'''
SCENARIO = {
    "kind": "baseline",
    "data": {"kind": "synthetic", "count": 60, "features": 4, "informative": 4},
    "parties": {"a": {"columns": "0:2"}, "b": {"columns": "2:4"}},
    "batch": 10,
    "steps": 4,
}


@pytest.mark.parametrize("each", [LINES, GRID, TABLE])
def test_plain_values_and_back(each: Figure) -> None:
    again = figure(json.loads(json.dumps(plain(each))))
    assert json.dumps(plain(again)) == json.dumps(plain(each))


@pytest.mark.parametrize("values", [{}, {"form": "pie"}, {"form": "lines", "title": "x"}, {"form": "grid", "odd": 1}])
def test_what_is_no_figure_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a figure"):
        figure(values)


def test_the_page_shows_them_for_every_arm(tmp_path: Path, add_kind: Callable[[Any, str, str], str]) -> None:
    kind = add_kind(fedsim.parties.wrappers, "draws", DRAWS)
    arms = {"one": {}, "two": {"scenario": {"steps": 5}}}
    file = validate({"scenario": SCENARIO, "seats": {"a": [{"kind": kind}]}, "compare": arms}, "test", {})
    path = run(file, tmp_path / "run")
    html = (path / "report.html").read_text("utf-8")
    pictures = {
        title: base64.b64decode(found[1]).decode()
        for title in ("Cost", "Heat")
        if (found := re.search(rf'<img class="curves" src="data:image/svg\+xml;base64,([^"]*)" alt="{title}"', html))
    }
    assert all(word in pictures["Cost"] for word in ("north $x$", "rounds", "dollars", ">one<", ">two<"))
    assert ">one<" in pictures["Heat"]
    assert "A note." in html
    assert html.count("1,234.0") == html.count("1.50e-06") == 2
    assert "What befell the seats" in html
    assert "drawn 3" in html
    seats = json.loads((path / "seats.json").read_text())
    seats["arms"]["one"]["figures"][0]["form"] = "pie"
    (path / "seats.json").write_text(json.dumps(seats))
    with pytest.raises(OutputError, match=r"seats\.json: not a figure: of form 'pie'"):
        page.write([path])


def test_a_run_without_figures_has_no_such_part(tmp_path: Path) -> None:
    html = (run(validate({"scenario": SCENARIO}, "test", {}), tmp_path / "run") / "report.html").read_text("utf-8")
    assert "What was measured besides" not in html
    assert "What befell the seats" not in html
