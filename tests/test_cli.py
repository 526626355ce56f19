"""The command line when all goes well, and when it is interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from terminal import TABLE, fedsim, fine, write_table

from fedsim import plugins

PROGRAM = Path(sys.executable).with_name("fedsim")
ROOT = Path(__file__).parent.parent
SHORT = ("--set", "scenario.steps=6", "--set", "scenario.evaluate=3")
KINDS = [(group, kind) for group in plugins.GROUPS for kind in plugins.names(group)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    return tmp_path


def summary(path: Path) -> Any:
    return json.loads((path / "summary.json").read_text("utf-8"))


def results(path: Path) -> Any:
    """What must be equal if a run is played again."""
    return [
        {key: arm[key] for key in ("digest", "task", "trials", "weights_sha256", "traffic", "steps")}
        for arm in summary(path)["arms"].values()
    ]


def test_by_name_and_by_file_it_is_the_same_experiment(here: Path) -> None:
    out = fine("run", "baseline", *SHORT)
    (folder,) = (here / "runs").iterdir()
    assert folder.name.startswith("baseline-")
    assert out.splitlines()[-2:] == [
        f"run folder: {folder.relative_to(here)}",
        f"report:     {folder.relative_to(here)}/report.html",
    ]
    first = results(folder)
    fine("run", ROOT / "scenarios/baseline.yaml", *SHORT)
    assert [path.name for path in (here / "runs").iterdir()] == [folder.name]  # written over
    assert results(folder) == first


def test_the_resolved_file_of_a_run_plays_it_again(here: Path) -> None:
    fine("run", "labels", *SHORT, "--out", "one")
    fine("run", "one/scenario.yaml", "--out", "two")
    assert results(here / "one") == results(here / "two")
    lines = fine("diff", "one", "two").splitlines()
    assert lines[0] == "one -> two: the same experiment, equal results"
    assert lines[-1] == "weights: equal to the bit at all 9 seats"


def test_diff_names_what_differs(here: Path) -> None:
    fine("run", "s.yaml", "--out", "one")
    fine("run", "s.yaml", "--out", "two", "--set", "scenario.batch=7")
    lines = fine("diff", "one", "two").splitlines()
    assert lines[0] == "one -> two: different experiments, different results"
    assert lines[1:3] == ["settings: 1 differ", "  scenario.batch: 8 -> 7"]
    assert lines[-1] == "weights: differ at server, a, b"


def test_overrides_of_every_form(here: Path) -> None:
    changes = [
        "seed=3",
        "scenario.steps=4",
        "scenario.optimiser.lr=1e-2",
        "scenario.bottom.hidden=[5, 6]",
        "scenario.bottom.hidden.1=7",
        "scenario.parties.a.embedding=3",
        "scenario.data={kind: csv, path: table.csv, label: y, test: 9}",
        "links=[{message: Gradient, sender: [{kind: clip, norm: 1}]}]",
        "links.0.sender.0.norm=2",
        "compare.plain={links: []}",
        "compare.clipped={}",
    ]
    fine("run", "s.yaml", "--out", "one", "--runtime", "local", *(word for c in changes for word in ("--set", c)))
    command = json.loads((here / "one/manifest.json").read_text())["command"]
    assert command[-1] == "compare.clipped={}"
    found = fine("check", "one/scenario.yaml")
    assert "clip (norm=2.0) at the sender" in found
    seen = summary(here / "one")
    assert (seen["seed"], seen["steps"], seen["runtime"], list(seen["arms"])) == (3, 4, "local", ["plain", "clipped"])
    text = (here / "one/scenario.yaml").read_text()
    for line in ("lr: 0.01", "embedding: 3", "test: 9", "- 7"):
        assert line in text


def test_arms_stand_in_one_table_where_it_fits_and_in_two_where_it_does_not(here: Path) -> None:
    out = fine("run", "labels", *SHORT)
    table = out[: out.index("run folder")].splitlines()
    assert [line.split("  ")[0] for line in table[3:6]] == ["undefended", "noise", "clipped rows"]
    trials = [
        "{attack: {kind: norm_scoring, rounds: 3}, seat: shop, victim: server, knows: [rows]}",
        "{attack: {kind: norm_scoring, rounds: 4}, seat: bank, victim: server, knows: [rows]}",
        "{attack: {kind: norm_scoring, rounds: 5}, seat: bank, victim: server, knows: [rows]}",
    ]
    out = fine("run", "labels", *SHORT, "--set", f"trials=[{', '.join(trials)}]", "--set", "compare.none={trials: []}")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    start = lines.index(
        next(line for line in lines if line.startswith("norm_scoring (rounds=4) at bank against server: AUC"))
    )
    assert [line.strip().split("  ")[0] for line in lines[start + 1 : start + 4]] == [
        "undefended",
        "noise",
        "clipped rows",
    ]


def test_six_parties_and_three_arms_fit_a_terminal(here: Path) -> None:
    parties = ", ".join(f"party_number_{i}: {{columns: '{4 * i}:{4 * i + 4}'}}" for i in range(6))
    (here / "six.yaml").write_text(
        "scenario:\n  kind: leakage\n  data: {kind: synthetic, count: 200, features: 24, test: 0.25}\n"
        f"  exchange: shared\n  parties: {{{parties}}}\n  bottom: {{kind: linear}}\n  steps: 4\n  batch: 20\n"
        "trials: [{attack: {kind: cafe}, seat: server, victim: '*', knows: [rows, bottom]}]\n"
        "compare: {undefended: {}, noise on what parties send: "
        "{links: [{to: server, sender: [{kind: gaussian_noise, sigma: 0.1}]}]}, one is silent: {}}\n"
    )
    for words in (["check", "six.yaml"], ["run", "six.yaml"]):
        out = fine(*words)
        assert max(map(len, out.splitlines())) <= 100
        assert "…" not in out
    assert "6 seats" in out or "cafe" in out


def test_a_terminal_shows_progress_and_keeps_a_line_an_arm(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = fedsim("run", "labels", *SHORT)
    assert said.code == 0
    err = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.err)
    for arm in ("undefended", "noise", "clipped rows"):
        assert f"{arm}: training " in err
        assert re.search(rf"{arm}: 6 steps, loss \d\.\d+, test accuracy \S+, 1 attacks?, \d s", err)


def test_no_terminal_gets_a_line_when_an_arm_begins_and_when_it_ends(here: Path) -> None:
    lines = fedsim("run", "labels", *SHORT).err.splitlines()
    arms = ("undefended", "noise", "clipped rows")
    assert lines[::2] == [f"{arm}: started, 6 steps" for arm in arms]
    for arm, line in zip(arms, lines[1::2], strict=True):
        assert re.fullmatch(rf"{arm}: 6 steps, loss \d\.\d+, test accuracy \S+, 1 attacks?, \d+ s", line)


def test_seeds_make_a_folder_each_and_a_summary(here: Path) -> None:
    out = fine("run", "s.yaml", "--seeds", "2", "--set", "seed=5", "--out", "both")
    both = summary(here / "both")
    assert (both["seeds"], both["runs"]) == ([5, 6], ["seed-5", "seed-6"])
    fine("run", "s.yaml", "--set", "seed=6", "--out", "alone")
    assert results(here / "both/seed-6") == results(here / "alone")
    accuracy = both["arms"]["s"]["task"]["accuracy"]
    assert accuracy["values"] == [summary(here / f"both/seed-{n}")["task"]["accuracy"] for n in (5, 6)]
    assert accuracy["low"] <= accuracy["mean"] <= accuracy["high"]
    assert "s (seeds 5, 6)" in out
    assert "95 % confidence intervals (Student's t), n = 2; they are not clipped to possible values." in " ".join(
        out.split()
    )
    assert (here / "both/report.html").is_file()
    assert fine("run", "s.yaml", "--seeds", "2", "--set", "seed=5", "--out", "both") == out


def test_reports_of_one_and_of_several(here: Path) -> None:
    fine("run", "s.yaml", "--out", "one")
    fine("run", "s.yaml", "--out", "two", "--set", "scenario.batch=7")
    (here / "one/report.html").unlink()
    assert fine("report", "one") == "report: one/report.html\n"
    assert fine("report", "one", "two") == "report: one/comparison.html\n"
    assert fine("report", "one", "two", "--out", "both.html") == "report: both.html\n"
    assert "</html>" in (here / "both.html").read_text()


@pytest.mark.parametrize(
    "name", ["adult", "baseline", "labels", "leakage", "leakage_baselines", "sweep_leakage", "uda_poisoning"]
)
def test_every_shipped_scenario_passes_its_check(name: str) -> None:
    if name == "adult" and not (Path(os.environ.get("FEDSIM_DATA", "")) / "adult.csv.gz").is_file():
        pytest.skip("needs adult.csv.gz in $FEDSIM_DATA")
    out = fine("check", name)
    assert out.endswith("ok: nothing was trained\n")
    assert max(map(len, out.splitlines())) <= 100


def test_check_takes_a_plugin_of_the_users_own(here: Path) -> None:
    (here / "halve.py").write_text((ROOT / "scenarios/defences/clip.py").read_text())
    assert fine("check", "halve.py").startswith("halve.py: defence 'halve' keeps its contract")


@pytest.mark.parametrize("group", ["", *plugins.GROUPS])
def test_list_names_every_kind(group: str) -> None:
    out = fine("list", *([group] if group else []))
    for each in [group] if group else plugins.GROUPS:
        assert all(kind in out for kind in plugins.names(each))
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_show_tells_every_setting_of_every_kind(group: str, kind: str) -> None:
    out = fine("show", kind)
    assert f"{kind} ({group})" in out
    assert max(map(len, out.splitlines())) <= 100
    assert "typing." not in out
    assert "class '" not in out


def test_help_comes_at_once_and_without_torch() -> None:
    code = "import sys\nsys.argv[1:] = ['--help']\nfrom fedsim import cli\n"
    code += "try:\n    cli.main()\nfinally:\n    assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "predict" in done.stdout
    assert fedsim().code == 0


def test_the_version_is_that_of_the_installed_distribution() -> None:
    import fedsim as package

    assert fine("--version") == f"fedsim {version('fedsim-vfl')}\n"
    assert package.__version__ == version("fedsim-vfl")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("re", {"resume", "report"}), ("run leakage_c", {"leakage_cifar10"}), ("run x --pro", {"--profile"})],
)
def test_bash_completes_commands_options_and_shipped_scenarios(here: Path, typed: str, offered: set[str]) -> None:
    asked = {**os.environ, "_FEDSIM_COMPLETE": "source_bash"}  # --show-completion asks which shell it was started from
    script = subprocess.run([PROGRAM], env=asked, capture_output=True, text=True, check=True).stdout
    assert "complete -o default -F _fedsim_completion fedsim" in script
    words = ["fedsim", *typed.split()]
    asks = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _fedsim_completion {PROGRAM}; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{asks}"], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered


def interrupt(
    here: Path, words: list[str], log: str, signal_: signal.Signals = signal.SIGINT, deaf: bool = False
) -> None:
    """Send a signal once ``log`` stands in the log of the run; hold what is left against the promise."""
    command = [PROGRAM, "run", *words, "--out", "one"]
    if deaf:  # as in the background of a script
        command = ["sh", "-c", 'trap "" INT; exec "$0" "$@"', *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        path = here / "one/metrics.jsonl"
        while not (path.exists() and log in path.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal_)
        try:
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, out, err.splitlines()[-1]) == (130, "", "fedsim: interrupted")
    assert "Traceback" not in err
    there = json.loads((here / "one/manifest.json").read_text())
    assert (there["status"], there["cause"]) == ("interrupted", "stopped from outside")
    assert log in path.read_text()
    assert not (here / "one/summary.json").exists()


def test_an_interrupt_while_training(here: Path) -> None:
    interrupt(here, ["s.yaml", "--set", "scenario.steps=1000000"], '"step": 500,')
    said = fedsim("predict", "one", "table.csv")
    assert (said.code, said.err) == (2, "fedsim: one: has no results; the run is interrupted (stopped from outside)\n")


def test_a_polite_end_from_outside_is_an_interrupt_too(here: Path) -> None:
    interrupt(here, ["s.yaml", "--set", "scenario.steps=1000000"], '"step": 500,', signal.SIGTERM)


def test_a_polite_end_is_heard_where_ctrl_c_is_ignored(here: Path) -> None:
    interrupt(here, ["s.yaml", "--set", "scenario.steps=1000000"], '"step": 500,', signal.SIGTERM, deaf=True)


def test_an_interrupt_while_attacks_are_at_work(here: Path) -> None:
    words = ["leakage", "--set", "scenario.steps=20", "--set", "scenario.window.rounds=20", "--set", "compare={}"]
    interrupt(here, [*words, "--set", "trials.0.attack.iterations=1000000"], '"step": 20, "test"')


def test_a_ray_that_is_not_there_is_told_at_once(here: Path) -> None:
    command = [PROGRAM, "run", "s.yaml", "--runtime", "ray", "--set", "runtime.address=127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    said = "fedsim: runtime.address: no Ray at '127.0.0.1:9': nobody listens there: Connection refused\n"
    assert (done.returncode, done.stderr) == (2, said)
