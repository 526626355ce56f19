"""Every score is credited to the attack that made it, wherever variants with different attacks stand side by side."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from terminal import fine

from fedsim import config
from fedsim.cli.sweeping import print_sweep
from fedsim.cli.tables import print_results
from fedsim.config import ScenarioFile
from fedsim.report import manifest, page, reading
from fedsim.report.diff import diff
from fedsim.report.folder import RunFolder
from fedsim.report.headline import sentences
from fedsim.report.matching import match_attacks
from fedsim.report.scores import strips
from fedsim.report.seeds import over_seeds
from fedsim.report.summary import Arm
from fedsim.report.sweep_page import sentences as sweep_sentences
from fedsim.report.sweeps import by_leakage, over_cells
from fedsim.report.view import compare_attacks, views

SCENARIO = {
    "kind": "leakage",
    "exchange": "shared",
    "data": {"kind": "synthetic", "count": 120, "features": 8, "informative": 6, "test": 40},
    "parties": {"north": {"columns": "0:4"}, "east": {"columns": "4:8"}},
    "embedding": 4,
    "batch": 10,
    "steps": 8,
    "evaluate": 8,
    "bottom": {"kind": "linear"},
    "window": {"from": 0, "rounds": 8},
}
CAFE = {"attack": {"kind": "cafe"}, "seat": "server", "victim": "*", "knows": ["rows", "bottom"]}
COSINE = {**CAFE, "attack": {"kind": "cafe", "matching": "cosine"}}
SCORING = {"attack": {"kind": "norm_scoring"}, "seat": "north", "victim": "server", "knows": ["rows"]}
MEAN = {"attack": {"kind": "batch_mean"}, "seat": "server", "victim": "*", "knows": ["rows", "bottom"]}


def scenario(arms: dict[str, Any], **more: Any) -> ScenarioFile:
    return config.validate({"name": "credit", "scenario": SCENARIO, "compare": arms, **more}, "credit", {})


def play(path: Path, file: ScenarioFile) -> Path:
    with RunFolder.open_for(path, file) as run:
        run.write([Arm(name, arm, arm.runtime.run(arm, run.watch(name)), 1.0) for name, arm in file.arms().items()])
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Variants whose first attacks differ, in kind, order, settings and number."""
    arms = {
        "rebuilt": {"trials": [CAFE]},
        "scored": {"trials": [SCORING]},
        "turned": {"trials": [SCORING, CAFE]},
        "in front": {"trials": [COSINE, CAFE]},
        "quiet": {"trials": []},
    }
    return play(tmp_path_factory.mktemp("credit") / "mixed", scenario(arms))


def entry(
    number: int, attack: str = "cafe", seat: str = "server", victim: str = "north", **more: Any
) -> dict[str, Any]:
    """An entry of ``trials`` in a summary."""
    settings = {"kind": attack, "matching": "exact"} | more.pop("settings", {})
    metric, score = more.pop("metric", "psnr"), more.pop("score", 20.0)
    return {
        "trial": number,
        "attack": attack,
        "label": more.pop("label", attack),
        "settings": settings,
        "seat": seat,
        "victim": victim,
        "metric": metric,
        "score": score,
        "chance": 12.0,
        "knows": more.pop("knows", ["rows"]),
        "scores": {metric: score, **more.pop("scores", {})},
        "chances": {metric: 12.0},
    }


def test_position_does_not_matter() -> None:
    found = match_attacks({"a": [entry(0), entry(1, "dlg")], "b": [entry(0, "dlg", score=7.0), entry(1)]})
    assert [attack.name for attack in found] == ["cafe", "dlg"]
    assert {v: [e["attack"] for e in r] for v, r in found[0].results.items()} == {"a": ["cafe"], "b": ["cafe"]}
    assert found[1].results["b"][0]["score"] == 7.0


@pytest.mark.parametrize(
    "other",
    [
        entry(0, "dlg"),
        entry(0, settings={"matching": "cosine"}, label="cafe (matching=cosine)"),
        entry(0, seat="east"),
        entry(0, metric="correlation", score=0.5),
    ],
)
def test_attacks_that_differ_in_kind_settings_attacker_or_metric_stay_apart(other: dict[str, Any]) -> None:
    one, two = match_attacks({"a": [entry(0)], "b": [other]})
    assert set(one.results), set(two.results) == ({"a"}, {"b"})
    assert (one.title, one.metric) != (two.title, two.metric)


def test_settings_tell_attacks_apart_though_their_labels_are_equal() -> None:
    """A default that has changed between two versions."""
    one, two = match_attacks({"a": [entry(0)], "b": [entry(0, settings={"matching": "cosine"})]})
    assert (one.name, two.name) == ("cafe (matching=exact)", "cafe (matching=cosine)")


def test_runs_that_did_not_record_settings_are_matched_by_their_labels() -> None:
    old = {key: value for key, value in entry(0).items() if key != "settings"}
    (found,) = match_attacks({"a": [old], "b": [entry(0)]})
    assert set(found.results) == {"a", "b"}


def test_two_attacks_alike_in_one_variant_are_told_apart_by_knowledge_then_victims_then_order() -> None:
    more, less = entry(0, knows=["rows", "bottom"]), entry(1, knows=["rows"])
    known = match_attacks({"a": [more, less], "b": [entry(0, knows=["rows"], score=3.0)]})
    assert [attack.name for attack in known] == ["cafe, knowing bottom and rows", "cafe, knowing rows"]
    assert [set(attack.results) for attack in known] == [{"a"}, {"a", "b"}]
    victims = match_attacks({"a": [entry(0, victim="north"), entry(1, victim="east")], "b": [entry(0, victim="east")]})
    assert [attack.name for attack in victims] == ["cafe, against north", "cafe, against east"]
    assert [set(attack.results) for attack in victims] == [{"a"}, {"a", "b"}]
    same = match_attacks({"a": [entry(0), entry(1)]})
    assert [attack.name for attack in same] == ["cafe, number 1 of its kind", "cafe, number 2 of its kind"]


def test_what_differs_between_variants_is_said() -> None:
    (found,) = match_attacks({"a": [entry(0)], "b": [entry(0, victim="east", knows=["rows", "bottom"])]})
    assert found.named("b") == "b (knowing bottom and rows, against east)"


def test_a_variant_that_scored_the_metric_too_is_shown_by_it() -> None:
    found = match_attacks(
        {"a": [entry(0)], "b": [entry(0, metric="correlation", score=0.4, scores={"psnr": 18.0})]},
    )
    assert [(attack.metric, list(attack.results)) for attack in found] == [("psnr", ["a", "b"]), ("correlation", ["b"])]
    assert found[0].results["b"][0]["score"] == 18.0


def test_no_picture_puts_two_attacks_on_one_axis(mixed: Path) -> None:
    shown = views([reading.read(mixed)])
    lines = {strip.title: [line.name for line in strip.lines] for strip in strips(shown)}
    assert lines == {
        "cafe at server: PSNR (dB)": ["rebuilt", "turned", "in front"],
        "norm_scoring at north: AUC": ["scored", "turned"],
        "cafe (matching=cosine) at server: PSNR (dB)": ["in front"],
    }


def test_the_headline_credits_each_attack(mixed: Path) -> None:
    text = " ".join(sentences(views([reading.read(mixed)])))
    for part in re.findall(r"[^.;]*(?:AUC|dB)[^.;]*", text):
        scoring = "AUC" in part
        assert ("dB" in part) is not scoring
        assert "“rebuilt”" not in part or not scoring
        assert "“scored”" not in part or scoring
    assert "“quiet”" not in text.partition("Test accuracy")[0]
    assert len(re.findall("told the classes apart|did no better than a blind guess", text)) == 2


def cells(text: str, heading: str) -> list[str]:
    """The cells of a line of an upright result table."""
    row = next(row for row in re.findall(r"<tr>.*?</tr>", text, re.S) if f"<th>{heading}</th>" in row)
    return [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in re.findall(r"<td.*?</td>", row, re.S)]


def test_the_page_shows_a_gap_where_an_attack_was_not_run(mixed: Path) -> None:
    text = html.unescape(page.render([reading.read(mixed)]))
    scored = cells(text, "norm_scoring, AUC")
    assert [cell == "not run" for cell in scored[:5]] == [True, False, False, True, True]
    assert [cell == "not run" for cell in cells(text, "cafe, PSNR (dB)")[:5]] == [False, True, False, False, True]
    cosine = cells(text, "cafe (matching=cosine), PSNR (dB)")
    assert [cell == "not run" for cell in cosine[:5]] == [True, True, True, False, True]
    audit = text.partition("What the attacker knew")[2].partition("<h3>")[0]
    assert audit.count("<th>norm_scoring at north") == 1
    assert re.search(r"norm_scoring at north<small>scored and turned</small>", audit)


def test_the_scores_on_the_page_are_those_of_the_attack(mixed: Path) -> None:
    arms = json.loads((mixed / "summary.json").read_text())["arms"]
    compared = {attack.matched.name: attack for attack in compare_attacks(views([reading.read(mixed)]))}
    for name, kind in (("cafe", "cafe"), ("norm_scoring", "norm_scoring")):
        for arm, group in compared[name].groups.items():
            own = [t["score"] for t in arms[arm]["trials"] if t["label"] == kind]
            assert group.score() == pytest.approx(sum(own) / len(own))


@pytest.mark.parametrize("width", [60, 80, 100, 300])
def test_the_terminal_credits_each_attack(
    mixed: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_results(mixed)
    text = capsys.readouterr().out
    if width < 300:
        scoring = next(block for block in re.split(r"\n *\n", text) if block.startswith("norm_scoring"))
        rows = {line.strip().split("  ")[0]: line for line in scoring.splitlines()[1:] if line.startswith("  ")}
        assert [("not run" in rows[arm]) for arm in ("rebuilt", "scored", "turned", "in front", "quiet")] == [
            True, False, False, True, True,
        ]  # fmt: skip
    else:
        row = next(line for line in text.splitlines() if line.startswith("rebuilt"))
        assert row.count("not run") == 2


def test_seeds_are_credited_alike(tmp_path: Path) -> None:
    arms = {"rebuilt": {"trials": [CAFE]}, "scored": {"trials": [SCORING]}, "turned": {"trials": [SCORING, CAFE]}}
    runs = [play(tmp_path / f"seed-{seed}", scenario(arms, seed=seed)) for seed in (0, 1)]
    summary = over_seeds({path.name: json.loads((path / "summary.json").read_text()) for path in runs})
    turned = summary["arms"]["turned"]["trials"]
    for trial in turned:
        alone = summary["arms"]["scored" if trial["attack"] == "norm_scoring" else "rebuilt"]["trials"]
        twin = next(t for t in alone if t["victim"] == trial["victim"])
        assert trial["score"]["values"] == twin["score"]["values"]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "manifest.json").write_text((runs[0] / "manifest.json").read_text())
    (tmp_path / "scenario.yaml").write_text((runs[0] / "scenario.yaml").read_text())
    text = html.unescape(page.render([reading.read(tmp_path)]))
    strips_of = re.findall(r"<h3>([^<]*: (?:PSNR \(dB\)|AUC))</h3>", text)
    assert strips_of == [
        "cafe at server against north: PSNR (dB)",
        "cafe at server against east: PSNR (dB)",
        "norm_scoring at north against server: AUC",
    ]
    assert text.count("not run") == 2
    assert re.search(r"Norm_scoring, AUC: [^;]*“scored”[^;]*; [^;]*“turned”[^;.]*\.", text)


def test_diff_compares_an_attack_with_itself(tmp_path: Path) -> None:
    one = play(tmp_path / "one", scenario({"only": {"trials": [CAFE, SCORING]}}))
    other = play(tmp_path / "other", scenario({"only": {"trials": [SCORING, COSINE, CAFE]}}))
    found = diff(reading.read(one), reading.read(other))
    assert found.trials  # the cosine variant is there in one of them only
    assert all("matching=cosine" in change.where and change.one == "(not there)" for change in found.trials)


def test_diff_leaves_alone_variants_that_have_nothing_in_common(tmp_path: Path) -> None:
    one = play(tmp_path / "one", scenario({"a": {"trials": [CAFE]}, "b": {}}))
    other = play(tmp_path / "other", scenario({"c": {"trials": [SCORING]}, "d": {"seed": 3}}))
    found = diff(reading.read(one), reading.read(other))
    assert found.alone == (["a", "b"], ["c", "d"])
    assert not found.trials
    assert not found.same_results


def test_diff_finds_the_same_experiment_under_another_name(tmp_path: Path) -> None:
    one = play(tmp_path / "one", scenario({"a": {"trials": [CAFE]}, "b": {"trials": [SCORING]}}))
    other = play(tmp_path / "other", scenario({"x": {"trials": [SCORING]}, "y": {"seed": 3}}))
    found = diff(reading.read(one), reading.read(other))
    assert found.alone == (["a"], ["y"])
    assert not found.trials
    assert not found.task


def test_two_runs_of_different_attacks_are_compared_side_by_side(tmp_path: Path) -> None:
    one = play(tmp_path / "one", scenario({}, trials=[CAFE], name="one"))
    other = play(tmp_path / "other", scenario({}, trials=[SCORING], name="other"))
    text = html.unescape(page.render([reading.read(one), reading.read(other)]))
    headline = text.partition('class="headline">')[2].partition("</p>")[0]
    assert re.search(r"With “one” cafe [^“]*dB", headline)
    assert re.search(r"With “other” norm scoring [^“]*AUC", headline)
    assert "“other” it" not in headline
    assert text.count("<small>not run</small>") == 3


def test_runs_of_the_same_name_stay_apart_on_the_page(tmp_path: Path) -> None:
    one = play(tmp_path / "first" / "run", scenario({}, trials=[CAFE]))
    other = play(tmp_path / "second" / "run", scenario({}, trials=[SCORING]))
    shown = views([reading.read(one), reading.read(other)])
    assert [view.name for view in shown] == ["first/run", "second/run"]
    twice = views([reading.read(one), reading.read(one)])
    assert len({view.name for view in twice}) == 2


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants on different data."""
    arms = {"here": {}, "there": {"scenario": {"data": {**SCENARIO["data"], "seed": 5}}}}  # type: ignore[dict-item]
    return play(tmp_path_factory.mktemp("credit") / "unlike", scenario(arms, trials=[CAFE]))


def test_variants_on_other_data_are_said_to_be_so_and_not_subtracted(
    unlike: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "“there” is scored on other data or other classes than “here”: their numbers do not compare."
    text = html.unescape(page.render([reading.read(unlike)]))
    assert said in text
    assert "went from" not in text
    results = text.partition('<section id="results">')[2].partition("</table>")[0]
    row = next(row for row in re.findall(r"<tr><th>there</th>.*?</tr>", results, re.S))
    assert not re.findall(r"<small>[+−±]", row.partition('<td class="n group">')[0])
    print_results(unlike)
    assert said in " ".join(capsys.readouterr().out.split())


def test_more_training_rows_are_no_other_data(tmp_path: Path) -> None:
    data = {"data": {**SCENARIO["data"], "rows": 50}}  # type: ignore[dict-item]
    path = play(tmp_path / "run", scenario({"all": {}, "few": {"scenario": data}}))
    assert "do not compare" not in page.render([reading.read(path)])


def test_diff_does_not_subtract_across_data(tmp_path: Path) -> None:
    one = play(tmp_path / "one", scenario({}))
    data = {**SCENARIO["data"], "seed": 5}  # type: ignore[dict-item]
    other = play(tmp_path / "other", scenario({}, scenario={**SCENARIO, "data": data}))
    found = diff(reading.read(one), reading.read(other))
    assert found.unlike
    lines = "\n".join(found.lines())
    assert "scored on other data or other classes: numbers are shown, not subtracted" in lines
    assert "accuracy" in lines
    assert not re.search(r"accuracy: \S+ -> \S+ \(", lines)


def test_a_sweep_over_kinds_of_attack_has_an_axis_for_each_metric(tmp_path: Path) -> None:
    attackers = {"rebuilt": {"trials": [CAFE]}, "scored": {"trials": [SCORING]}}
    sweep = {"seeds": 1, "grid": {"attacker": attackers, "scenario.batch": [10, 20]}}
    file = config.validate({"name": "s", "scenario": SCENARIO, "sweep": sweep}, "s", {})
    runs = []
    for i, (cell, one) in enumerate(file.cells()):
        play(tmp_path / f"run-{i}", one)
        runs.append((cell, 0, f"run-{i}"))
    summary = over_cells(file, runs, {}, tmp_path)
    assert summary["leakages"] == ["psnr", "auc"]
    psnr, auc = by_leakage(summary)
    for facet, word in ((psnr, "rebuilt"), (auc, "scored")):
        known = [cell["name"] for cell in facet["cells"] if cell["figures"]["leakage"]["mean"] is not None]
        assert len(known) == 2
        assert all(word in name for name in known)
    assert [list(cell["attacks"]) for cell in psnr["cells"] if cell["attacks"]] == [["cafe at server"]] * 2
    text = " ".join(sweep_sentences(summary))
    psnr_said, auc_said = text.partition("Leakage by AUC")[::2]
    assert "rebuilt" in psnr_said
    assert "scored" not in psnr_said
    assert "rebuilt" not in auc_said.partition("Test accuracy")[0]
    assert "norm_scoring at north" in auc_said
    assert "from .500" not in text  # equal everywhere: there is no range


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_table_of_such_a_sweep_is_legible_at_any_width(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spread = {"mean": 0.512, "low": -4.557, "high": 5.601, "n": 2, "method": "student_t", "values": [0.4, 0.6]}
    none = {"mean": None, "low": None, "high": None, "n": 0, "method": "none", "values": [None, None]}
    cells = []
    for name, metric in (("rebuilt", "psnr"), ("scored", "auc")):
        ran = {"leakage": spread, "chance": spread, "attacks": {"x at server": 2}, "front": True}
        not_run = {"leakage": none, "chance": none, "attacks": {}, "front": False}
        figures = {"task": spread, "baseline": spread, "leakage": spread, "chance": spread}
        leakages = {m: ran if m == metric else not_run for m in ("psnr", "auc")}
        cell = {"name": name, "at": {"attacker": name}, "numbers": {}, "seeds": [0, 1], "runs": ["r0", "r1"]}
        cell |= {"failed": [], "left_out": 0, "results": None}
        cells.append({**cell, "figures": figures, "leakages": leakages})
    summary = {"schema": 1, "name": "s", "scenario": "leakage", "level": 0.95, "task": "accuracy", "leakage": "psnr"}
    summary |= {"leakages": ["psnr", "auc"], "axes": {"attacker": ["rebuilt", "scored"]}, "attackers": ["attacker"]}
    summary |= {"drawn": []}
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "cells": [{**c, "front": False} for c in cells]}))
    begun = manifest.begin(config.validate({"name": "s", "scenario": SCENARIO}, "s", {}), [])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest.end(begun, "complete")))
    monkeypatch.setenv("COLUMNS", str(width))
    print_sweep(tmp_path)
    text = capsys.readouterr().out.partition("sweep folder")[0]
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("not run") == 2
    assert {"rebuilt", "scored", "PSNR", "AUC", "-4.557"} <= set(re.findall(r"[\w.-]+", text))


def test_attacks_stay_credited_after_the_command(tmp_path: Path) -> None:
    """The whole way, as a user goes it."""
    import yaml

    arms = {"rebuilt": {"trials": [CAFE]}, "scored": {"trials": [SCORING]}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"scenario": SCENARIO, "compare": arms}))
    text = fine("run", tmp_path / "s.yaml", "--out", tmp_path / "run")
    assert text.count("not run") == 2
