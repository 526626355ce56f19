"""Results are never lost: a run is replaced by a complete one only, one process at a time writes a folder, and a process
that is killed at any moment leaves the old results or the new ones."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from terminal import TABLE, fedsim, fine, refused, write_table

from fedsim import config, experiment
from fedsim.config import ScenarioFile
from fedsim.errors import OutputError
from fedsim.files import atomic_write, create_file
from fedsim.net import Watch
from fedsim.report import reading
from fedsim.report.lock import FolderLock
from fedsim.report.replacing import MOVING, NEXT, READY

HERE = Path(__file__).parent
CHECKPOINT = "checkpoint: {every: 2, keep: 3}\n"
SEAT = ("seat", "one.yaml", "--role", "b", "--connect", "127.0.0.1:9", "--wait", "0", "--simulate")
"""A seat whose hub is not there."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with scenarios over a small table: one without checkpoints, one with, and one with a sweep."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_TOKEN", "a token")
    write_table(tmp_path / "table.csv")
    (tmp_path / "one.yaml").write_text(TABLE)
    (tmp_path / "kept.yaml").write_text(TABLE + CHECKPOINT)
    (tmp_path / "seats.yaml").write_text(TABLE + CHECKPOINT.replace("}", ", restarts: 0}"))
    sweep = "sweep: {grid: {scenario.batch: [8, 7]}, seeds: 1, pack: false}\n"
    (tmp_path / "swept.yaml").write_text(TABLE + sweep)
    return tmp_path


def contents(folder: str | Path) -> dict[str, bytes]:
    """What every file in a folder holds that a user sees, by its path."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    named = {str(path.relative_to(folder)): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if not f"/{name}".count("/.")}


def hidden(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).rglob(".*")}


def status(folder: str | Path) -> str:
    return str(json.loads(Path(folder, "manifest.json").read_text())["status"])


def stopping(at: int, error: BaseException | None = None, title: str = "") -> experiment.Started:
    """Who watches a run that ends by an error at a step: by Ctrl-C, unless another is given."""

    def started(name: str, file: ScenarioFile) -> Watch:
        def watch(role: str, row: Mapping[str, Any]) -> None:
            if row.get("step") == at and name.startswith(title):
                raise error or KeyboardInterrupt

        return watch

    return started


def stop(source: str, out: str, at: int, **more: Any) -> str:
    """Run a scenario that is interrupted at a step; what the user is told of what is left."""
    with pytest.raises(KeyboardInterrupt) as caught:
        experiment.run(config.read(source), Path(out), started=stopping(at), **more)
    return getattr(caught.value, "__notes__", [""])[-1]


SEATS = """
import os, signal, sys
from pathlib import Path
from fedsim import config, experiment
from fedsim.transport.grpc import token_of

file, port, last = config.read("seats.yaml"), sys.argv[1], int(sys.argv[2])

def started(title, arm):
    def watch(role, row):
        if "notice" in row:
            print(row["notice"], flush=True)
        if row.get("step") == last:
            os.kill(os.getpid(), signal.SIGKILL)
    return watch

role = sys.argv[3]
if role == file.plan().hub:
    experiment.run_seat(file, role, "t" * 64, listen=f"127.0.0.1:{port}", simulate=True, out=Path(role), started=started)
else:
    token = token_of("t" * 64, role)
    experiment.run_seat(file, role, token, connect=f"127.0.0.1:{port}", simulate=True, out=Path(role), started=started)
"""
"""Plays a seat of seats.yaml, whose run folder has the seat's name; the hub is killed after a step."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def play_seats(port: int, last: int) -> list[subprocess.CompletedProcess[str]]:
    plan = config.read("seats.yaml").plan()
    words = [[sys.executable, "-P", "-c", SEATS, str(port), str(last), role] for role in plan.seats]
    seats = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in words]
    said = [seat.communicate() for seat in seats]
    return [
        subprocess.CompletedProcess(each.args, each.returncode, *out) for each, out in zip(seats, said, strict=True)
    ]


def test_seats_that_are_killed_beside_their_results_go_on_there(here: Path) -> None:
    roles = list(config.read("seats.yaml").plan().seats)
    assert [seat.returncode for seat in play_seats(free_port(), -1)] == [0] * len(roles)
    before = {role: contents(role) for role in roles}
    killed = play_seats(free_port(), 5)
    assert -signal.SIGKILL in [seat.returncode for seat in killed]
    assert {role: contents(role) for role in roles} == before
    again = play_seats(free_port(), -1)
    assert [seat.returncode for seat in again] == [0] * len(roles), [seat.stderr for seat in again]
    assert re.search(r"all go on after training step [24]\n", "".join(seat.stdout for seat in again))
    for role in roles:
        after = contents(role)
        assert (after.keys(), hidden(role)) == (before[role].keys(), set())
        assert after["manifest.json"] != before[role]["manifest.json"]
        models = [name for name in after if name.endswith(".safetensors")]
        assert {name: after[name] for name in models} == {name: before[role][name] for name in models}


@contextmanager
def busy(folder: str | Path, script: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that writes a run in a folder, and waits before its first step."""
    code = script or (
        "import sys; from pathlib import Path; from fedsim import config, experiment\n"
        "def started(title, file):\n"
        "    print('there', flush=True); sys.stdin.readline()\n"
        "    return lambda role, row: None\n"
        "experiment.run(config.read('one.yaml'), Path(sys.argv[1]), started=started)"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        try:
            yield process
        finally:
            if process.poll() is None:
                process.stdin.close()
                process.wait(60)


def test_a_run_that_cannot_start_leaves_the_results_as_they_are(here: Path) -> None:
    fine("run", "one.yaml", "--out", "x")
    before = contents("x")
    missing = "import sys; sys.modules['ray'] = None; from fedsim.cli import main; main()"
    words = ["run", "one.yaml", "--out", "x", "--runtime", "ray"]
    said = subprocess.run([sys.executable, "-P", "-c", missing, *words], capture_output=True, text=True, check=False)
    (line,) = said.stderr.splitlines()
    assert (said.returncode, line.count("Ray is not installed")) == (2, 1)
    assert (contents("x"), hidden("x")) == (before, set())


def test_a_seat_that_finds_no_hub_leaves_the_results_as_they_are(here: Path) -> None:
    path = experiment.run(config.read("one.yaml"), Path("x"))
    before = contents(path)
    said = fedsim(*SEAT, "--out", "x")
    ended = json.loads(before["manifest.json"])["ended"]
    assert said.code == 1
    assert said.err.splitlines()[-1].endswith(f"; x is as it was, with the run that ended {ended}")
    assert (contents("x"), hidden("x")) == (before, set())


def test_an_interrupted_run_leaves_the_results_and_lies_beside_them(here: Path) -> None:
    experiment.run(config.read("one.yaml"), Path("x"))
    before = contents("x")
    told = stop("one.yaml", "x", 3)
    assert told.endswith(f"; what there is of the new one lies in x/{NEXT}")
    assert contents("x") == before
    assert (status("x"), status(f"x/{NEXT}")) == ("complete", "interrupted")
    rows = map(json.loads, Path(f"x/{NEXT}/metrics.jsonl").read_text().splitlines())
    assert {row["step"] for row in rows} == {0, 1, 2, 3}
    assert fine("report", "x") == "report: x/report.html\n"
    fine("run", "one.yaml", "--out", "x")
    assert (contents("x")["manifest.json"] != before["manifest.json"], hidden("x")) == (True, set())


def test_with_checkpoints_the_new_run_is_resumed_and_then_replaces_the_old(here: Path) -> None:
    experiment.run(config.read("kept.yaml"), Path("x"))
    before = contents("x")
    told = stop("kept.yaml", "x", 5)
    assert told.endswith("; to go on with the new one from its last checkpoint: fedsim resume x")
    assert contents("x") == before
    said = fedsim("resume", "x")
    assert (said.code, "all go on after training step 4" in said.err) == (0, True), said.err
    after = reading.read_manifest(Path("x"))
    assert (len(after["resumed"]), after["status"], hidden("x")) == (1, "complete", set())
    assert (
        json.loads(contents("x")["summary.json"])["weights_sha256"]
        == json.loads(before["summary.json"])["weights_sha256"]
    )
    assert not Path("x/checkpoints").exists()
    assert refused("resume", "x") == "x: cannot be resumed: it is complete"


@pytest.mark.parametrize("complete", [True, False])
def test_a_run_that_cannot_start_leaves_checkpoints_to_resume(here: Path, complete: bool) -> None:
    if complete:
        experiment.run(config.read("kept.yaml"), Path("x"))
    stop("kept.yaml", "x", 5)
    for _ in range(2):
        with pytest.raises(OutputError, match="no"):
            experiment.run(config.read("kept.yaml"), Path("x"), started=stopping(0, OutputError("no")))
    said = fedsim("resume", "x")
    assert (said.code, "all go on after training step 4" in said.err) == (0, True), said.err
    assert (status("x"), hidden("x")) == ("complete", set())


def test_a_newer_run_with_checkpoints_of_its_own_is_the_one_that_is_resumed(here: Path) -> None:
    stop("kept.yaml", "x", 3)
    assert stop("kept.yaml", "x", 5).endswith("fedsim resume x")
    assert "all go on after training step 4" in fedsim("resume", "x").err
    assert (status("x"), hidden("x")) == ("complete", set())


def test_force_removes_what_there_is_at_once(here: Path) -> None:
    experiment.run(config.read("kept.yaml"), Path("x"))
    stop("kept.yaml", "x", 5)
    assert stop("kept.yaml", "x", 1, replace=True) == ""
    assert (status("x"), hidden("x"), Path("x/summary.json").exists()) == ("interrupted", set(), False)
    fine("run", "kept.yaml", "--out", "x", "--force")
    assert status("x") == "complete"


def test_force_is_for_runs_of_the_same_experiment_only(here: Path) -> None:
    fine("run", "one.yaml", "--out", "x")
    before = contents("x")
    assert "holds another run" in refused("run", "one.yaml", "--out", "x", "--force", "--set", "scenario.steps=5")
    Path("mine").mkdir()
    Path("mine/notes.txt").touch()
    assert "holds files but no run" in refused("run", "one.yaml", "--out", "mine", "--force")
    assert contents("x") == before


def test_files_of_the_user_stay_where_they_are(here: Path) -> None:
    fine("run", "one.yaml", "--out", "x")
    fine("predict", "x", "table.csv", "--out", "x/mine.csv")
    Path("x/notes").mkdir()
    Path("x/notes/a.txt").write_text("mine")
    inode = Path("x").stat().st_ino
    before, written = contents("x"), Path("x/manifest.json").stat().st_mtime_ns
    fine("run", "one.yaml", "--out", "x")
    after = contents("x")
    assert {name for name in before if after[name] == before[name]} >= {"mine.csv", "notes/a.txt", "scenario.yaml"}
    assert (
        Path("x/manifest.json").stat().st_mtime_ns > written
    )  # its text may be equal: a run may take less than a second
    assert Path("x").stat().st_ino == inode  # who works in it, or has mounted it, sees the new results


def test_a_diverged_arm_does_not_replace_a_complete_run(here: Path) -> None:
    file = config.validate({**config.read("one.yaml").resolved(), "compare": {"a": {}, "b": {"seed": 1}}}, "t", {})
    experiment.run(file, Path("x"))
    before = contents("x")
    from fedsim.errors import DivergedError

    with pytest.raises(DivergedError, match="1 of 2 arms diverged") as caught:
        experiment.run(file, Path("x"), started=stopping(2, DivergedError("gone"), "b"))
    assert caught.value.__notes__[-1].endswith(f"; what there is of the new one lies in x/{NEXT}")
    assert contents("x") == before
    assert list(reading.read(Path("x", NEXT)).summary["arms"]) == ["a"]
    assert Path("x", NEXT, "report.html").exists()
    experiment.run(file, Path("x"))
    assert hidden("x") == set()


def test_seeds_keep_the_rule_together_and_each_for_itself(here: Path) -> None:
    file = config.read("kept.yaml")
    experiment.run_seeds(file, 2, Path("x"))
    before = contents("x")
    with pytest.raises(KeyboardInterrupt) as caught:
        experiment.run_seeds(file, 2, Path("x"), started=stopping(5, title="seed 1"))
    assert caught.value.__notes__[-1].endswith("fedsim resume x")
    assert contents("x") == before
    said = fedsim("resume", "x")
    assert (said.code, "all go on after training step 4" in said.err) == (0, True), said.err
    after = contents("x")
    assert (after.keys(), hidden("x")) == (before.keys(), set())
    assert after["seed-0/manifest.json"] != before["seed-0/manifest.json"]

    Path("x/summary.json").unlink()  # a run over seeds that has not come to its end has complete seeds in it
    manifest = json.loads(Path("x/manifest.json").read_text()) | {"status": "interrupted"}
    Path("x/manifest.json").write_text(json.dumps(manifest))
    complete = contents("x/seed-0")
    with pytest.raises(KeyboardInterrupt):
        experiment.run_seeds(file, 2, Path("x"), started=stopping(3, title="seed 0"))
    assert contents("x/seed-0") == complete
    assert "all go on" not in fedsim("resume", "x").err
    assert (contents("x/seed-0"), hidden("x")) == (complete, set())


def test_a_sweep_that_is_stopped_leaves_its_report_and_its_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine("sweep", "swept.yaml", "--out", "x")
    before = contents("x")
    shutil.rmtree("x/trials/batch-7-seed-0")
    was = experiment._play_arm

    def stopped(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "_play_arm", stopped)
        assert fedsim("sweep", "swept.yaml", "--out", "x").code == 130
    assert experiment._play_arm is was
    kept = {name: content for name, content in before.items() if not name.startswith("trials/batch-7")}
    assert {name: content for name, content in contents("x").items() if name in kept} == kept
    fine("sweep", "swept.yaml", "--out", "x")
    assert (contents("x").keys(), hidden("x")) == (before.keys(), set())


@pytest.mark.parametrize(
    "words",
    [
        ("run", "one.yaml", "--out", "x"),
        ("run", "one.yaml", "--out", "x", "--force"),
        (*SEAT, "--out", "x"),
        ("card", "x"),
        ("report", "x"),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_while_a_run_is_written_nobody_else_writes_there(here: Path, words: tuple[str, ...], before: bool) -> None:
    if before:
        fine("run", "one.yaml", "--out", "x")
    elif words[0] in ("card", "report"):
        pytest.skip(f"there is nothing to write a {words[0]} of")
    with busy("x") as process:
        there = contents("x")
        line = refused(*words)
        assert line.startswith(f"x: process {process.pid} is writing a run there (on ")
        assert "wait for its end" in line
        if before:
            assert fine("report", "x", "--out", "page.html") == "report: page.html\n"
        assert contents("x") == there
    assert process.returncode == 0
    assert (status("x"), hidden("x")) == ("complete", set())


def test_while_a_run_goes_on_it_is_not_resumed(here: Path) -> None:
    stop("kept.yaml", "x", 5)
    holder = (
        "import sys; from pathlib import Path; from fedsim import experiment\n"
        "def started(title, file):\n"
        "    print('there', flush=True); sys.stdin.readline()\n"
        "    return lambda role, row: None\n"
        "experiment.resume(Path(sys.argv[1]), started=started)"
    )
    with busy("x", holder) as process:
        assert refused("resume", "x").startswith(f"x: process {process.pid} is writing a run there")
        assert refused("resume", f"x/{NEXT}" if Path("x", NEXT).exists() else "x/../x").count("is writing a run there")
    assert (process.returncode, status("x")) == (0, "complete")


def test_one_sweep_at_a_time(here: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from fedsim import config; from fedsim.sweep.play import sweep\n"
        "def begun(*args):\n"
        "    print('there', flush=True); sys.stdin.readline()\n"
        "    return lambda run, news: None\n"
        "sweep(config.read('swept.yaml'), Path(sys.argv[1]), begun=begun)"
    )
    with busy("x", holder) as process:
        said = fedsim("sweep", "swept.yaml", "--out", "x")
        assert (said.code, f"x: process {process.pid} is writing a run there" in said.err) == (2, True), said.err
    assert (process.returncode, status("x"), hidden("x")) == (0, "complete", set())


def test_a_card_keeps_others_out_as_well(here: Path) -> None:
    fine("run", "one.yaml", "--out", "x")
    lock = FolderLock.acquire(Path("x"), "writing a model card")
    assert f"process {os.getpid()} is writing a model card there" in refused("run", "one.yaml", "--out", "x")
    lock.release()
    fine("run", "one.yaml", "--out", "x")


def test_a_lock_ends_with_its_process(here: Path) -> None:
    with busy("x") as process:
        process.kill()
        process.wait()
        assert Path("x/.lock").exists()
        fine("run", "one.yaml", "--out", "x")
    assert (status("x"), hidden("x")) == ("complete", set())


def test_of_many_processes_that_begin_at_once_one_writes_at_a_time(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from fedsim.report.lock import FolderLock\n"
        "from fedsim.errors import OutputError\n"
        "folder, won = Path(sys.argv[1]), 0\n"
        "until = time.monotonic() + 4\n"
        "while time.monotonic() < until:\n"
        "    try: lock = FolderLock.acquire(folder, 'racing')\n"
        "    except OutputError: continue\n"
        "    (folder / 'alone').open('x').close(); (folder / 'alone').unlink(); won += 1\n"
        "    lock.release()\n"
        "print(won)"
    )
    words = [sys.executable, "-P", "-c", script, str(tmp_path)]
    racers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    won = [int(racer.communicate()[0] or -1) for racer in racers]
    assert ([racer.returncode for racer in racers], min(won) >= 0, sum(won) > 0) == ([0] * 4, True, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_process_that_is_killed_leaves_the_old_run_or_the_new_one(tmp_path: Path, step: int) -> None:
    words = [sys.executable, "-P", str(HERE / "killing.py"), str(tmp_path / "run"), str(step)]
    path = {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    said = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **path})
    assert said.returncode == 0, said.stdout[-2000:] + said.stderr[-2000:]
    found = json.loads(said.stdout.splitlines()[-1])
    assert min(found.values()) > 1  # it was killed before the exchange and after


@pytest.mark.parametrize("times", [3, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_command_that_is_killed_at_some_moment_leaves_results(here: Path, times: int) -> None:
    fine("run", "kept.yaml", "--out", "x")
    weights = reading.read(Path("x")).summary["weights_sha256"]
    words = [sys.executable, "-P", "-m", "fedsim", "run", "kept.yaml", "--out", "x"]
    start = time.monotonic()
    subprocess.run(words, check=True, capture_output=True)
    whole = time.monotonic() - start
    for nth in range(times):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(whole * (0.5 + 0.6 * nth / times))
            process.send_signal(signal.SIGKILL)
        run = reading.read(Path("x"))
        assert (run.manifest["status"], run.summary["weights_sha256"]) == ("complete", weights)
        assert len(reading.load_seats(Path("x"))) == 3
        assert Path("x/report.html").exists()
    fine("run", "kept.yaml", "--out", "x")
    assert hidden("x") == set()


@pytest.mark.parametrize("word", [READY, MOVING])
def test_a_reader_finishes_what_a_crash_has_left_half_done(here: Path, word: str) -> None:
    fine("run", "one.yaml", "--out", "x")
    fine("run", "one.yaml", "--out", "y")
    before = contents("y")
    Path("x/card.md").write_text("of the old run")
    shutil.copytree("y", f"x/{word}")
    shutil.rmtree("x/model")
    assert fine("report", "x", "--out", "page.html") == "report: page.html\n"
    after = contents("x")
    after.pop("card.md", None) if word == MOVING else None  # there it has been looked at before
    assert (after, hidden("x")) == (before, set())


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file gets larger than so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 1500, 8000])
def test_a_full_disk_ends_a_run_with_one_line_and_leaves_the_results(here: Path, size: int) -> None:
    fine("run", "one.yaml", "--out", "x")
    before = contents("x")
    with room_for(size):
        said = fedsim("run", "one.yaml", "--out", "x")
    (line,) = (line for line in said.err.splitlines() if line.startswith("fedsim:"))
    assert (said.code, "cannot be written: File too large" in line) == (2, True), said.err
    assert contents("x") == before
    with room_for(size):
        assert fedsim("run", "one.yaml", "--out", "new").code == 2
        assert "cannot be written: File too large" in refused("report", "x")
    with room_for(min(size, 100)):
        assert "cannot be written: File too large" in refused("predict", "x", "table.csv", "--out", "p.csv")
    assert (contents("x"), Path("p.csv").exists()) == (before, False)
    fine("run", "one.yaml", "--out", "x")
    fine("run", "one.yaml", "--out", "new")
    assert hidden("x") | hidden("new") == set()


@pytest.mark.parametrize("words", [("keys", "one.yaml"), ("compose", "one.yaml")])
def test_keys_and_containers_are_there_whole_or_not_at_all(here: Path, words: tuple[str, str]) -> None:
    pytest.importorskip("cryptography")
    kill = (
        "import os, signal, sys\n"
        "left = int(sys.argv.pop(1))\n"
        "def look(event, args):\n"
        "    global left\n"
        "    if event in ('os.mkdir', 'os.rename'):\n"
        "        left -= 1\n"
        "        if not left: os.kill(os.getpid(), 9)\n"
        "from fedsim.cli import main, composing, seating\n"
        "import fedsim.transport.certificates\n"
        "sys.addaudithook(look); main()"
    )
    with room_for(300):
        assert re.fullmatch(r"made\S*: cannot be written: File too large", refused(*words, "--out", "made"))
    assert not Path("made").exists()
    for nth in (2, 4):
        said = subprocess.run([sys.executable, "-P", "-c", kill, str(nth), *words, "--out", "made"], check=False)
        assert said.returncode == -signal.SIGKILL
        assert not Path("made").exists()
    fine(*words, "--out", "made")
    assert {path.name for path in here.iterdir() if path.name.startswith(".")} == set()
    assert Path("made").stat().st_mode & 0o777 == 0o700
    assert hidden("made") == set()
    before = contents("made")
    assert refused(*words, "--out", "made") == "made: cannot be written: File exists"
    assert contents("made") == before


def test_a_file_is_replaced_in_one_step_and_not_through_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    atomic_write(link, b"new", 0o600)
    assert (target.read_text(), link.read_text(), link.is_symlink()) == ("old", "new", False)
    assert link.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_file(target, b"new")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "dangling", b"new")
    with room_for(2), pytest.raises(OSError, match="File too large"):
        atomic_write(target, b"too much")
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "link", "target"]


def test_a_hidden_attempt_is_no_run_of_its_own_to_the_user(here: Path) -> None:
    experiment.run(config.read("kept.yaml"), Path("x"))
    stop("kept.yaml", "x", 5)
    fine("resume", f"x/{NEXT}")
    assert (status("x"), hidden("x")) == ("complete", set())


def test_the_folder_stays_out_of_the_way_of_another_seed(here: Path) -> None:
    fine("run", "one.yaml", "--out", "x")
    line = refused("run", "one.yaml", "--out", "x", "--seeds", "2")
    assert "holds another run, of seeds 0" in line
    assert hidden("x") == set()
