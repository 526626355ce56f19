"""``fedsim card``: a model card of a run, in Markdown and HTML, with nothing of any row in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from people import FAIR, SCENARIO, table
from terminal import fine, refused

from fedsim.figure import Bars, Grid, Line, Lines
from fedsim.report.card import Section, Sheet, markdown
from fedsim.report.words import number

TRIAL = {"attack": {"kind": "norm_scoring"}, "seat": "dice", "victim": "server", "knows": ["rows"]}
NOISE = {"from": "server", "message": "Gradient", "sender": [{"kind": "gaussian_noise", "sigma": 0.02}]}
FEW = {
    "missing": [0.5],
    "noisy": [1.0],
    "shifted": [],
    "quantise": [4],
    "bitflip": [9],
    "draws": 2,
    "labels": [0.1, 0.4],
}
PARTS = (
    "What it is",
    "Data",
    "How good it is",
    "Whom it treats how",
    "What each party is worth",
    "What it bears",
    "What leaks",
    "Made with",
    "What this card does not say",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two arms in a folder of its own."""
    path = tmp_path_factory.mktemp("card")
    table().to_csv(path / "people.csv", index=False)
    scenario = {**SCENARIO, "resilience": FEW, "steps": 40, "evaluate": 40}
    file = {"seed": 3, "scenario": scenario, "trials": [TRIAL], "compare": {"open": {}, "noisy": {"links": [NOISE]}}}
    (path / "people.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    return path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    if not (folder / "run").exists():
        fine("run", "people.yaml", "--out", "run")
    return folder


def values(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def figures(card: Any) -> dict[str, Any]:
    return {each["title"]: each for each in card["figures"]}


def test_a_card_says_everything_in_its_order(here: Path) -> None:
    pytest.importorskip("fairlearn", reason="needs fedsim-vfl[card]")
    told = fine("card", "run", "--by", "sex", "--no-training")
    assert re.findall(r"card: (\S+)", told) == ["run/card.md", "run/card.html", "run/card.json"]
    text, page = (here / "run/card.md").read_text("utf-8"), (here / "run/card.html").read_text("utf-8")
    assert text.startswith("# Model card: people: open\n")
    assert tuple(re.findall(r"^## (.+)$", text, flags=re.MULTILINE)) == PARTS
    assert [part for part in PARTS if f"<h2>{part}</h2>" not in page] == []
    card, summary = values(here / "run/card.json"), values(here / "run/summary.json")["arms"]["open"]
    task = {name: value for name, value in card["task"].items() if "sex" not in name}
    assert task == summary["task"]  # the model that is appraised is the one that was trained
    assert "| Fairness by sex" not in text
    assert "### Fairness by sex" in text
    assert summary["digest"] in text
    score = number(summary["trials"][0]["score"])
    assert f"| norm_scoring at dice against server | rows | AUC | {score} |" in text
    assert "Defences: none." in text
    assert "3 columns, 7 inputs: age, sex, region" in text
    assert "| What it bears" not in text


def test_no_value_of_any_row_is_in_it(here: Path) -> None:
    fine("card", "run", "--no-training")
    text = (here / "run/card.md").read_text("utf-8")
    cells = {str(cell) for name in ("age", "hours", "r1", "r2") for cell in table()[name]}
    unlikely = {cell for cell in cells if len(cell) >= 5}
    assert len(unlikely) > 500
    assert not [cell for cell in unlikely if re.search(rf"(?<![\d.]){re.escape(cell)}(?![\d.])", text)]
    assert not [name for name in ("umber", "zaffre", "islet") if name in text]  # nobody asked by these
    assert "Not asked" in text


def test_it_opens_offline_and_names_every_wrapper_and_seed(here: Path) -> None:
    fine("card", "run", "--no-training")
    page = (here / "run/card.html").read_text("utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("data:image/svg+xml;base64,") == 3  # two measures of worth, one of resilience
    card = values(here / "run/card.json")
    rows = card["resilience"]["rows"]
    assert {row["seat"] for row in rows} == {"town", "office", "dice", "top model at server"}
    assert all(row["made"] and row["seeds"] for row in rows)
    assert [row["seeds"] for row in rows if row["axis"] == "missing"] == [[0, 1]] * 3
    assert "office: missing (rate=0.5), seeds 0 to 1" in page


def test_another_arm_has_a_card_of_its_own(here: Path) -> None:
    fine("card", "run", "--arm", "noisy", "--no-training")
    card, arms = values(here / "run/card.json"), values(here / "run/summary.json")["arms"]
    assert card["task"] == arms["noisy"]["task"] != arms["open"]["task"]
    text = (here / "run/card.md").read_text("utf-8")
    assert "Defences: gaussian_noise (sigma 0.02, scale absolute) on server -> town; " in text
    assert arms["noisy"]["digest"] in text


def test_wrong_labels_are_trained_with(here: Path) -> None:
    fine("card", "run")
    card = values(here / "run/card.json")
    wrong = [row for row in card["resilience"]["rows"] if row["axis"] == "wrong labels"]
    assert [(row["level"], row["seat"], row["seeds"]) for row in wrong] == [(0.1, "server", [3]), (0.4, "server", [3])]
    assert [row["made"] for row in wrong] == [f"wrong_labels (rate={rate}) in training" for rate in (0.1, 0.4)]
    seats = "seats.server=[{kind: wrong_labels, rate: 0.4}]"
    fine("run", "people.yaml", "--set", "compare={open: {}}", "--set", "trials=[]", "--set", seats, "--out", "wrong")
    task = values(here / "wrong/summary.json")["task"]
    assert wrong[1]["accuracy"] == task["accuracy"] < card["resilience"]["accuracy"]
    assert wrong[1]["log_loss"] == pytest.approx(task["log_loss"])
    assert "| wrong labels |" in (here / "run/card.md").read_text("utf-8")


def test_it_is_the_same_card_from_processes(here: Path) -> None:
    pytest.importorskip("fairlearn", reason="needs fedsim-vfl[card]")
    fine("card", "run", "--by", "sex", "--no-training")
    local = values(here / "run/card.json")
    fine("card", "run", "--by", "sex", "--no-training", "--runtime", "processes")
    apart = values(here / "run/card.json")
    assert {**local, "digest": ""} == {**apart, "digest": ""}
    assert "Fairness by sex" in figures(apart)


def test_what_the_file_asks_is_on_the_card_and_in_the_report(here: Path) -> None:
    pytest.importorskip("fairlearn", reason="needs fedsim-vfl[card]")
    asked = f"scenario.fairness={json.dumps(FAIR)}"
    fine("run", "people.yaml", "--set", "compare={}", "--set", asked, "--set", "scenario.worth={}", "--out", "asked")
    seats = values(here / "asked/seats.json")["arms"]["people"]
    fine("card", "asked", "--no-training")
    reported = {figure["title"]: {**figure, "seat": ""} for figure in seats["figures"]}
    assert {title: {**f, "seat": ""} for title, f in figures(values(here / "asked/card.json")).items()} == reported
    page = (here / "asked/report.html").read_text("utf-8")
    for title in ("Fairness by sex", "What each party is worth: accuracy", "Resilience by seat"):
        assert title in page
    fine("run", "people.yaml", "--set", "compare={}", "--set", asked, "--set", "scenario.worth={}", "--out", "asked")
    assert not (here / "asked/card.md").exists()  # a new run has no card yet


def test_what_has_no_card_is_refused(here: Path) -> None:
    assert "nix: no such folder" in refused("card", "nix")
    assert "no arm 'opn'; did you mean 'open'?" in refused("card", "run", "--arm", "opn")
    fine("run", "baseline", "--set", "scenario.steps=3", "--seeds", "2", "--out", "both")
    assert "both: a summary over seeds; choose one of its runs: seed-7, seed-8" in refused("card", "both")
    assert "--runtime: unknown kind 'lokal'" in refused("card", "run", "--runtime", "lokal")
    fine("run", "best_arm", "--set", "scenario.steps=3", "--set", "scenario.search.max_pulls=2100", "--out", "arms")
    told = refused("card", "arms")
    assert (
        "a model card is of one model; there is one of runs of baseline, leakage, minmax_slice and weight_faults"
        in told
    )


def test_a_scenario_without_cards_is_refused_before_anything_is_played(here: Path) -> None:
    few = ("scenario.steps=3", "scenario.finetuning.steps=3", "scenario.robustness={rows: 5, long: 1, auto_steps: 1}")
    fine("run", "contrastive", *(f"--set={each}" for each in ("compare={}", *few)), "--out", "late")
    fine("run", "uda_poisoning", "--set", "compare={}", "--set", "scenario.steps=3", "--out", "two")
    assert "late: no model card of contrastive: its labels come" in refused("card", "late")  # one line: nothing began
    assert "two: no model card of uda_poisoning: it trains for two domains" in refused("card", "two")


def test_markdown_keeps_cells_whole() -> None:
    grid = Grid("A | B", ["x<y"], ["k"], [[float("nan")]], shaded=False)
    lines = Lines("L", "x", "y", [Line("one", [1], [0.5])])
    bars = Bars("V", ["a"], [0.25], [0.125], "nats", "A note.")
    text = markdown("n*m", [Section("P", ["Words."], [Sheet(["", "c"], [["a|b", "two\nlines"]])], [grid, lines, bars])])
    assert text.splitlines()[0] == "# Model card: n\\*m"
    for line in (
        "| a\\|b | two lines |",
        "### A \\| B",
        "| x&lt;y | – |",
        "| one | 1 | .500 |",
        "| a | .250 | .125 |",
        "A note.",
    ):
        assert line in text.splitlines()
