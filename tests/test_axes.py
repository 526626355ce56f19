"""The sweep block of a scenario file: which cells it spans, what each changes, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import TABLE, fine, refused, write_table

from fedsim import config
from fedsim.config import ScenarioFile

ATTACK = "{attack: {kind: norm_scoring}, seat: a, knows: [rows]}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    return tmp_path


def read(sweep: str, *overrides: str) -> ScenarioFile:
    Path("s.yaml").write_text(f"{TABLE}sweep: {sweep}\n")
    return config.read("s.yaml", overrides)


def names(sweep: str) -> list[str]:
    return [cell.name for cell, _ in read(sweep).cells()]


def test_a_grid_has_every_value_beside_every_other() -> None:
    file = read(f"{{grid: {{scenario.batch: [8, 7], who: {{nobody: , scorer: {{trials: [{ATTACK}]}}}}}}}}")
    cells = file.cells()
    assert [cell.name for cell, _ in cells] == [
        "batch 8, nobody",
        "batch 8, scorer",
        "batch 7, nobody",
        "batch 7, scorer",
    ]
    assert [one.resolved()["scenario"]["batch"] for _, one in cells] == [8, 8, 7, 7]
    assert [len(one.trials) for _, one in cells] == [0, 1, 0, 1]
    assert [cell.numbers for cell, _ in cells] == [{"scenario.batch": n} for n in (8, 8, 7, 7)]
    assert file.sweep is not None
    assert file.sweep.attackers == ["who"]


def test_a_cell_is_the_experiment_that_set_makes(here: Path) -> None:
    links = "[{message: Gradient, sender: [{kind: clip, norm: 1}]}]"
    file = read(f"{{grid: {{scenario.batch: [7], defence: {{clip: {{links: {links}}}}}}}}}")
    ((_, cell),) = file.cells()
    assert cell.digest() == read("null", "scenario.batch=7", f"links={links}").digest()
    assert file.digest() == read("null").digest()


def test_a_path_leads_into_what_another_axis_puts_there() -> None:
    links = "[{message: Gradient, sender: [{kind: gaussian_noise, sigma: 1}]}]"
    file = read(f"{{grid: {{links.0.sender.0.sigma: [1, 2], defence: {{noise: {{links: {links}}}}}}}}}")
    found = [one.resolved()["links"][0]["sender"][0]["sigma"] for _, one in file.cells()]
    assert found == [1, 2]


def test_another_kind_has_settings_of_its_own() -> None:
    cells = read("{grid: {scenario.bottom.kind: [mlp, linear]}}").cells()
    assert [one.resolved()["scenario"]["bottom"]["kind"] for _, one in cells] == ["mlp", "linear"]
    assert cells[0][1].resolved()["scenario"]["bottom"]["hidden"] == [8]


def test_numbers_are_drawn_within_their_range_and_the_same_every_time() -> None:
    axis = "scenario.optimiser.lr: {low: 0.001, high: 0.1, log: true}, scenario.batch: {low: 2, high: 9, whole: true}"
    few, more = (names(f"{{random: {{{axis}}}, budget: {{samples: {n}}}}}") for n in (5, 20))
    assert more[:5] == few
    cells = read(f"{{random: {{{axis}}}, budget: {{samples: 20}}}}").cells()
    rates = [cell.numbers["scenario.optimiser.lr"] for cell, _ in cells]
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    assert sum(rate < 0.01 for rate in rates) >= 5
    assert {type(cell.numbers["scenario.batch"]) for cell, _ in cells} == {int}
    assert names(f"{{random: {{{axis}}}, budget: {{samples: 5}}}}") == few


def test_what_is_drawn_stands_beside_the_whole_grid() -> None:
    found = names(
        "{grid: {scenario.batch: [8, 7]}, random: {seats: [{}], scenario.steps: {low: 2, high: 900, whole: true}}}"
    )
    assert len(found) == 2 * 8
    assert {name.removeprefix("batch 8, ") for name in found[:8]} == {
        name.removeprefix("batch 7, ") for name in found[8:]
    }


def test_what_is_drawn_twice_is_one_cell() -> None:
    assert sorted(names("{random: {scenario.batch: [8, 7]}, budget: {samples: 40}}")) == ["batch 7", "batch 8"]


def test_seeds_and_budgets_leave_the_sweep_what_it_is() -> None:
    base = "grid: {scenario.batch: [8, 7]}"
    digest = read(f"{{{base}}}").sweep_digest()
    assert read(f"{{{base}, seeds: 9, at_once: 3, budget: {{trials: 4, time: 3}}}}").sweep_digest() == digest
    assert read("{grid: {scenario.batch: [8, 6]}}").sweep_digest() != digest
    assert read(f"{{{base}}}", "scenario.steps=7").sweep_digest() != digest


def test_a_resolved_sweep_reads_back() -> None:
    file = read(
        "{grid: {defence: {none: }}, seeds: 2, "
        "random: {scenario.batch: {low: 2, high: 5, whole: true}, scenario.steps: [3, 4]}}"
    )
    again = config.validate(file.resolved(), "t", {})
    assert again.sweep_digest() == file.sweep_digest()
    assert again.cells()[0][1].digest() == file.cells()[0][1].digest()


@pytest.mark.parametrize(
    ("sweep", "line"),
    [
        ("{}", "nothing to vary; expected an axis under grid or random"),
        ("{grids: {}}", "unknown key 'grids'; did you mean 'grid'?"),
        ("{grid: {scenario.batch: 5}}", "sweep.grid.scenario.batch: expected a list, found 5"),
        ("{grid: {scenario.batch: []}}", "sweep.grid.scenario.batch: expected at least 1 of them"),
        ("{grid: {scenario.batch: [5, 5]}}", "axis scenario.batch: value 5 stands twice"),
        ("{grid: {scenario.batch: [0]}}", "cell 'batch 0': scenario.batch: expected at least 1, found 0"),
        ("{grid: {scenario.bacth: [5]}}", "cell 'bacth 5': scenario.bacth: unknown key 'bacth'; did you mean 'batch'?"),
        ("{grid: {links.0.message: [Model]}}", "cell 'message Model': axis links.0.message: '0' leads nowhere"),
        (
            "{grid: {seed: [1, 2]}}",
            "axis seed: 'seed' cannot be varied; how many seeds each cell has stands under seeds",
        ),
        ("{grid: {x: {y: {runtime: {kind: local}}}}}", "axis x: 'runtime' cannot be varied"),
        ("{grid: {x: {y: {links: [{from: q}]}}}}", "cell 'y': links.0.from: no seat 'q'"),
        (f"{{grid: {{x: {{y: {{trials: [{ATTACK}]}}}}}}, leakage: acu}}", "no attack has 'acu'; did you mean 'auc'?"),
        ("{grid: {x: {y: {trials: [{attack: {kind: cafe}, seat: server}]}}}}", "cell 'y': trials.0: attack 'cafe'"),
        ("{grid: {scenario.batch: [5]}, task: acuracy}", "did you mean 'accuracy'?"),
        ("{grid: {scenario.batch: [5]}, random: {scenario.batch: [5]}}", "stands under grid and under random"),
        ("{random: {scenario.batch: {low: 5, high: 2}}}", "expected low < high; found 5.0 to 2.0"),
        ("{random: {scenario.batch: {low: 0, high: 2, log: true}}}", "with log, low > 0; found 0.0 to 2.0"),
        ("{random: {scenario.batch: {low: 5}}}", "high: missing, and it has no default"),
        ("{random: {scenario.batch: [5]}, budget: {samples: 0}}", "sweep.budget.samples: expected at least 1, found 0"),
        (
            f"{{grid: {{scenario.batch: {list(range(2, 60))}, scenario.steps: {list(range(2, 60))}}}}}",
            "58 x 58 = 3,364 cells",
        ),
        (
            "{grid: {scenario.batch: [5]}, pack: false, at_once: 2}",
            "expected 1 with pack: false (one run at a time), found 2",
        ),
        ("{grid: {a: {x: , 'x, y': }, b: {'y, z': , z: }}}", "two cells have the same name"),
    ],
)
def test_what_is_wrong_is_one_line(here: Path, sweep: str, line: str) -> None:
    (here / "s.yaml").write_text(f"{TABLE}sweep: {sweep}\n")
    for command in ("check", "sweep"):
        said = refused(command, "s.yaml")
        assert said.startswith("s.yaml:9: ")
        assert line in said
    assert not (here / "runs").exists()


def test_a_file_with_arms_and_one_without_a_sweep_are_refused(here: Path) -> None:
    (here / "s.yaml").write_text(f"{TABLE}compare: {{a: {{}}}}\nsweep: {{grid: {{scenario.batch: [5]}}}}\n")
    assert "a file with arms cannot be swept; make them an axis, or set compare={}" in refused("sweep", "s.yaml")
    (here / "s.yaml").write_text(f"{TABLE}compare: {{a: {{sweep: {{grid: {{scenario.batch: [5]}}}}}}}}\n")
    assert "an arm cannot have a sweep" in refused("check", "s.yaml")
    (here / "s.yaml").write_text(TABLE)
    assert refused("sweep", "s.yaml").startswith("sweep: missing; expected axes to vary")


def test_check_shows_the_cells(here: Path) -> None:
    who = f"who: {{nobody: , scorer: {{trials: [{ATTACK}]}}}}"
    sweep = f"{{grid: {{scenario.batch: [8, 7], {who}}}, seeds: 3, budget: {{trials: 9}}}}"
    (here / "s.yaml").write_text(f"{TABLE}sweep: {sweep}\n")
    out = fine("check", "s.yaml")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    assert f"s: sweep, digest {config.read('s.yaml').sweep_digest()[:8]}" in lines
    start = next(i for i, line in enumerate(lines) if line.startswith("4 cells, 3 seeds each: 9 runs of 12"))
    assert [line.split()[:3] for line in lines[start + 3 : start + 7]] == [
        ["8", "nobody", "none"],
        ["8", "scorer", "norm_scoring"],
        ["7", "nobody", "none"],
        ["7", "scorer", "norm_scoring"],
    ]
