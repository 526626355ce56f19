"""Sweeps: ordinary runs, many at once; kept when they are there, told when they fail, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from terminal import TABLE, Said, fedsim, fine, refused, write_table

from fedsim.sweep import tune

ATTACK = "{attack: {kind: norm_scoring}, seat: a, knows: [rows]}"
SWEEP = f"""\
trials: [{ATTACK}]
sweep:
  grid:
    scenario.batch: [8, 7]
    defence:
      none:
      clip: {{links: [{{from: server, message: Gradient, sender: [{{kind: clip, norm: 0.01, per: row}}]}}]}}
  seeds: 2
  at_once: 2
"""
CLIP = "links=[{from: server, message: Gradient, sender: [{kind: clip, norm: 0.01, per: row}]}]"
PROGRAM = "import sys; from fedsim.cli import main; sys.argv[0] = 'fedsim'; main()"
ROOT = Path(__file__).parent.parent
LISTENS = "0A"
"""The state of a socket in ``/proc/net/tcp``."""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same as IPv6 has it, and ::1, as they stand there."""


@pytest.fixture(scope="module")
def swept(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A folder with a file, its table and its sweep, ``out``; and what the command left on the terminal."""
    here = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        write_table(here / "table.csv")
        (here / "s.yaml").write_text(TABLE + SWEEP)
        said = fedsim("sweep", "s.yaml", "--out", "out")
    assert said.code == 0, said.err
    return here, said


@pytest.fixture
def copy(swept: tuple[Path, Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, to be changed by one test."""
    shutil.copytree(swept[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def results(path: Path) -> Any:
    """What must be equal to the bit if a run is played again."""
    summary = load(path / "summary.json")
    return {key: summary[key] for key in ("digest", "seed", "task", "trials", "weights_sha256", "traffic", "steps")}


def stamps(out: Path) -> dict[str, int]:
    """When each run was last written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("trials/*/manifest.json")}


def test_each_run_is_the_run_of_its_cell_to_the_bit(swept: tuple[Path, Said], monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = swept
    monkeypatch.chdir(here)
    assert len(list((here / "out/trials").iterdir())) == 8
    for batch, defence, seed in ((8, "none", 0), (7, "clip", 0), (7, "clip", 1)):
        links = CLIP if defence == "clip" else "links=[]"
        alone = ["--set", f"scenario.batch={batch}", "--set", links, "--set", f"seed={seed}"]
        fine("run", "s.yaml", *alone, "--out", f"alone-{batch}-{defence}-{seed}")
        mine = here / f"out/trials/batch-{batch}-{defence}-seed-{seed}"
        assert results(mine) == results(here / f"alone-{batch}-{defence}-{seed}")
        assert load(mine / "manifest.json")["status"] == "complete"
        assert (mine / "report.html").is_file()


def test_the_summary_has_each_cell_over_its_seeds(swept: tuple[Path, Said]) -> None:
    summary = load(swept[0] / "out/summary.json")
    assert (summary["axes"], summary["leakage"]) == ({"scenario.batch": ["7", "8"], "defence": ["none", "clip"]}, "auc")
    for cell in summary["cells"]:
        runs = [load(swept[0] / "out" / run / "summary.json") for run in cell["runs"]]
        assert [run["seed"] for run in runs] == cell["seeds"] == [0, 1]
        assert cell["figures"]["task"]["values"] == [run["task"]["accuracy"] for run in runs]
        assert cell["figures"]["leakage"]["values"] == [run["trials"][0]["scores"]["auc"] for run in runs]
        assert cell["figures"]["task"]["low"] <= cell["figures"]["task"]["mean"] <= cell["figures"]["task"]["high"]
    best = max(cell["figures"]["task"]["mean"] for cell in summary["cells"])
    assert best in [cell["figures"]["task"]["mean"] for cell in summary["cells"] if cell["front"]]


def test_what_the_terminal_says(swept: tuple[Path, Said]) -> None:
    _, said = swept
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-2:] == ["sweep folder: out", "report:       out/report.html"]
    assert [line.split()[:2] for line in lines[4:8]] == [["8", "none"], ["8", "clip"], ["7", "none"], ["7", "clip"]]
    first, *each = said.err.splitlines()
    assert first == "4 cells, 8 runs, 2 at a time"
    assert len(each) == 8
    assert all(re.search(r", seed [01]: accuracy \S+, AUC \S+ \(\d of 8\)$", line) for line in each)


def test_the_page_is_one_file_with_every_part(swept: tuple[Path, Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(swept[0])
    text = Path("out/report.html").read_text("utf-8")
    for section in ("matrix", "pareto", "along-1", "results", "runs", "reproduce"):
        assert f'<section id="{section}">' in text
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', text))
    for link in re.findall(r'<a href="([^"]*)"', text):
        assert (Path("out") / link).is_file()
    assert fine("report", "out", "--out", "again.html") == "report: again.html\n"
    assert Path("again.html").read_text("utf-8") == text
    assert refused("diff", "out", "out").startswith("out: a sweep; choose one of its runs")


def test_what_is_there_is_not_played_again(copy: Path) -> None:
    before, summary = stamps(copy / "out"), (copy / "out/summary.json").read_text()
    shutil.rmtree(copy / "out/trials/batch-8-none-seed-1")
    half = copy / "out/trials/batch-7-clip-seed-0"  # as a killed process leaves it
    manifest = load(half / "manifest.json")
    manifest |= {"status": "running", "ended": None, "process": manifest["process"] | {"pid": 2**22 + 1}}
    (half / "manifest.json").write_text(json.dumps(manifest))
    (half / "summary.json").unlink()
    said = fedsim("sweep", "s.yaml", "--out", "out")
    assert (said.code, said.err.splitlines()[0]) == (0, "4 cells, 8 runs, 6 there already, 2 at a time")
    after = stamps(copy / "out")
    assert {name for name in before if after[name] != before[name]} == {"batch-8-none-seed-1", "batch-7-clip-seed-0"}
    again, first = json.loads((copy / "out/summary.json").read_text()), json.loads(summary)
    assert [cell["figures"] for cell in again["cells"]] == [cell["figures"] for cell in first["cells"]]


def test_more_seeds_add_to_what_is_there_and_another_sweep_is_refused(copy: Path) -> None:
    before = stamps(copy / "out")
    said = fedsim("sweep", "s.yaml", "--out", "out", "--set", "sweep.seeds=3", "--set", "sweep.budget.trials=9")
    assert said.err.splitlines()[0] == "4 cells, 9 runs, 8 there already, 2 at a time"
    assert {name: stamp for name, stamp in stamps(copy / "out").items() if name in before} == before
    other = refused("sweep", "s.yaml", "--out", "out", "--set", "scenario.steps=7")
    assert other.startswith("out: holds another run, of experiment ")


def test_nothing_begins_once_the_time_is_over(copy: Path) -> None:
    shutil.rmtree(copy / "out/trials/batch-8-none-seed-1")
    said = fedsim("sweep", "s.yaml", "--out", "out", "--set", "sweep.budget.time=1e-9")
    assert said.code == 0
    assert said.err.splitlines()[1:] == ["batch 8, none, seed 1: left out (1 of 1)"]
    assert load(copy / "out/manifest.json")["cause"] == "1 of 8 runs left out: the time of the budget was over"
    assert [cell["left_out"] for cell in load(copy / "out/summary.json")["cells"]] == [1, 0, 0, 0]


def test_a_run_that_fails_ends_only_itself(copy: Path) -> None:
    words = ["--set", "sweep.grid={scenario.optimiser.lr: [0.01, 1e30]}", "--set", "sweep.seeds=1", "--out", "two"]
    said = fedsim("sweep", "s.yaml", *words)
    assert (said.code, said.out) == (1, "")
    last = said.err.splitlines()[-1]
    assert last.startswith("fedsim: two: 1 of 2 runs failed; trials/lr-1e-30-seed-0: DivergedError: ")
    manifest = load(copy / "two/manifest.json")
    assert (manifest["status"], load(copy / "two/trials/lr-1e-30-seed-0/manifest.json")["status"]) == ("failed",) * 2
    first, second = load(copy / "two/summary.json")["cells"]
    assert (first["seeds"], second["seeds"], second["figures"]) == ([0], [], None)
    assert "DivergedError" in (copy / "two/report.html").read_text("utf-8")


def test_by_the_files_own_runtime_one_at_a_time(copy: Path) -> None:
    words = ["--set", "sweep.pack=false", "--set", "sweep.at_once=1", "--set", "sweep.seeds=1"]
    said = fedsim("sweep", "s.yaml", *words, "--out", "own")
    assert said.err.splitlines()[0] == "4 cells, 4 runs, 1 at a time"
    for path in (copy / "own/trials").iterdir():
        assert results(path) == results(copy / "out/trials" / path.name)


def test_without_ray_it_says_what_is_missing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "find_spec", lambda name: None)
    assert refused("sweep", "s.yaml", "--out", "new").startswith("sweep.pack: needs Ray, which is not installed: pip")
    assert not (copy / "new").exists()


def test_a_terminal_shows_a_table_while_runs_go_on(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = fedsim("sweep", "s.yaml", "--out", "out", "--set", "sweep.seeds=3", "--set", "sweep.budget.trials=10")
    assert said.code == 0
    err = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.err)
    assert re.search(r"batch 8, clip +3 of 3 ", err)
    assert re.search(r"\d of 2 runs over, \d at work, \d:\d\d", err)
    assert max(map(len, err.splitlines())) <= 100


class Apart:
    """``fedsim sweep`` in a process of its own, with a Ray of its own and its own place for temporary files."""

    def __init__(self, here: Path, *words: str) -> None:
        self.temporary = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
        environment = {**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "sweep", *words],
            cwd=here,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def members(self) -> list[Path]:
        """The folders in ``/proc`` of every process that was started from it, and of itself."""
        found = []
        for path in Path("/proc").iterdir():
            try:
                if path.name.isdecimal() and f"TMPDIR={self.temporary}".encode() in (path / "environ").read_bytes():
                    found.append(path)
            except OSError:  # another user's, or just gone
                continue
        return found

    def listening(self) -> set[str]:
        """The addresses, as the kernel writes them, at which they wait for connections."""
        inodes = set()
        for member in self.members():
            for descriptor in (member / "fd").iterdir():
                try:
                    inodes.add(os.readlink(descriptor))
                except OSError:
                    continue
        lines = [
            line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()
        ]
        return {line[1].partition(":")[0] for line in lines if line[3] == LISTENS and f"socket:[{line[9]}]" in inodes}


@pytest.fixture
def apart(copy: Path) -> Iterator[Apart]:
    words = ["s.yaml", "--out", "long", "--set", "scenario.steps=1000000", "--set", "sweep.budget.trials=2"]
    started = Apart(copy, *words)
    try:
        yield started
    finally:
        for member in started.members():
            os.kill(int(member.name), signal.SIGKILL)
        started.process.communicate()
        shutil.rmtree(started.temporary, ignore_errors=True)


def wait(apart: Apart, done: Callable[[], bool]) -> None:
    """Until something is so; a sweep that ends before is an error."""
    until = time.monotonic() + 300
    while not done() and time.monotonic() < until:
        assert apart.process.poll() is None, apart.process.communicate()
        time.sleep(0.05)
    assert done()


def test_a_process_that_is_killed_and_an_interrupt_leave_nothing_behind(copy: Path, apart: Apart) -> None:
    one, other = (copy / f"long/trials/batch-8-{defence}-seed-0" for defence in ("none", "clip"))
    wait(apart, lambda: all((run / "metrics.jsonl").exists() for run in (one, other)))
    addresses = apart.listening()
    assert addresses
    assert addresses <= LOOPBACK
    os.kill(load(one / "manifest.json")["process"]["pid"], signal.SIGKILL)
    assert apart.process.stderr is not None
    told = [apart.process.stderr.readline().rstrip() for _ in range(2)]  # the manifest says so some time before
    assert load(one / "manifest.json")["status"] == "failed"
    apart.process.send_signal(signal.SIGINT)
    out, err = apart.process.communicate(timeout=300)
    assert (apart.process.returncode, out) == (130, "")
    killed = "batch 8, none, seed 0: failed: its process ended before the run did (1 of 2)"
    assert [*told, *err.splitlines()] == ["2 cells, 2 runs, 2 at a time", killed, "fedsim: interrupted"]
    until = time.monotonic() + 120  # processes that were told to end
    while apart.members() and time.monotonic() < until:
        time.sleep(0.05)
    assert apart.members() == []
    assert [
        path for path in apart.temporary.iterdir() if "torchinductor" not in path.name
    ] == []  # torch leaves one, empty
    assert [load(path / "manifest.json")["status"] for path in (copy / "long", other)] == ["interrupted"] * 2
