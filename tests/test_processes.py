"""Seats in processes of their own: the same numbers, plain words when one dies, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from listening import addresses, children
from small import SMALL, small
from terminal import TABLE, fedsim, write_table

from fedsim import outcome
from fedsim.runtime.local import Local
from fedsim.runtime.processes import Processes
from fedsim.testing import check_runtime
from fedsim.testing.runtimes import _check_equal

PATIENCE = 300.0
ENDLESS = ("--set", "scenario.steps=1000000")
COMMAND = (sys.executable, "-m", "fedsim")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    return tmp_path


@pytest.mark.parametrize("name", ["baseline", "leakage"])
def test_the_same_numbers_as_on_one_event_loop(name: str) -> None:
    check_runtime(Processes(), small(name))


@pytest.mark.parametrize("name", SMALL)
def test_a_report_survives_the_way_to_another_process(name: str) -> None:
    file = small(name)
    plan = file.plan()
    for report in Local().run(file, lambda role, row: None):
        _check_equal(outcome.from_bytes(outcome.to_bytes(report, plan), plan), report, report.role)


def test_the_same_numbers_and_rows_are_shown_while_the_seats_play() -> None:
    shown: list[tuple[str, Any]] = []
    reports = Processes().run(small("labels"), lambda role, row: shown.append((role, row)))
    for mine, theirs in zip(reports, Local().run(small("labels"), lambda role, row: None), strict=True):
        _check_equal(mine, theirs, mine.role)
    logged = [("server", row) for row in reports[0].rows]
    assert [each for each in shown if "step" in each[1]] == logged
    assert len(logged) > 12
    assert ("north", {"claim": "norm_scoring against server", "done": 1.0}) in shown


def test_what_is_wrong_at_a_seat_is_said_as_on_one_event_loop(here: Path) -> None:
    (here / "table.csv").write_text("u,v\n1,2\n")
    alone = fedsim("run", "s.yaml")
    apart = fedsim("run", "s.yaml", "--runtime", "processes", "--out", "apart")
    assert (apart.code, apart.err.splitlines()[-1]) == (alone.code, alone.err.splitlines()[-1])
    assert json.loads((here / "apart/manifest.json").read_text())["status"] == "failed"


def until(happens: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
        time.sleep(0.05)


def trains(folder: Path) -> bool:
    log = folder / "metrics.jsonl"
    return log.exists() and '"step": 100,' in log.read_text()


def gone(pids: set[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@contextmanager
def training(here: Path) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """An endless run that is at work, and the processes of its seats; at the end nothing may be left."""
    (temporary := here / "temporary").mkdir()
    env = {**os.environ, "TMPDIR": str(temporary)}
    command = [*COMMAND, "run", "s.yaml", "--runtime", "processes", "--out", "one", *ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            until(lambda: trains(here / "one") or process.poll() is not None, "training")
            seats = children(process.pid)
            assert len(seats) == 3
            yield process, seats
        finally:
            process.kill()
    until(lambda: gone(seats), "the seats' end")
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor")] == []


def words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def test_a_seat_that_is_killed_ends_the_run_with_its_name_step_and_cause(here: Path) -> None:
    with training(here) as (process, seats):
        assert addresses(seats) == {"127.0.0.1"}
        (victim,) = [pid for pid in seats if words(pid)[-2:] == ["fedsim seat", "b"]]
        os.kill(victim, signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (1, "")
        line = err.splitlines()[-1]
        assert line.startswith("fedsim: the process of b was killed (SIGKILL) after training step ")
    manifest = json.loads((here / "one/manifest.json").read_text())
    assert (manifest["status"], manifest["cause"]) == ("failed", f"TransportBroken: {line.removeprefix('fedsim: ')}")


def test_an_interrupt_ends_every_process(here: Path) -> None:
    with training(here) as (process, _):
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err.splitlines()[-1]) == (130, "", "fedsim: interrupted")
        assert "Traceback" not in err
    assert json.loads((here / "one/manifest.json").read_text())["status"] == "interrupted"


def test_seats_do_not_outlive_who_started_them(here: Path) -> None:
    with training(here) as (process, _):
        process.kill()


def by_hand(role: str, where: str, out: str = "", token: str = "", **environment: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "seat", "s.yaml", "--role", role, *where.split(), "--out", out or role, "--simulate"]
    env = {**os.environ, "FEDSIM_TOKEN": token or Path(f"keys/{role}/token").read_text().strip(), **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_seats_by_hand_play_the_same_run_and_a_wrong_token_does_not(here: Path) -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    port = free_port()
    made = fedsim("keys", "s.yaml", "--out", "keys").out
    assert made == "keys: keys\nseats reach the hub at localhost with these; for other machines: --host NAME\n"
    assert {path.stat().st_mode & 0o777 for path in here.glob("keys/*/*")} == {0o600}
    files = {
        role: f"--ca keys/{role}/ca.pem --cert keys/{role}/cert.pem --key keys/{role}/key.pem" for role in ("a", "b")
    }
    files["server"] = files["a"].replace("/a/", "/server/")
    hub = by_hand("server", f"--listen 127.0.0.1:{port} {files['server']}")
    a = by_hand("a", f"--connect 127.0.0.1:{port} --token-file keys/a/token {files['a']}", FEDSIM_TOKEN="another")
    b = by_hand("b", f"--connect 127.0.0.1:{port} {files['b']}")
    token = (here / "keys/a/token").read_text().strip()
    wrong_token = f"server at 127.0.0.1:{port} refuses b: wrong token: not the one of this seat in this run"
    wrong_certificate = "seat b cannot use its certificate: it is that of a, not of b"
    for shown, code, why in ((files["b"], 1, wrong_token), (files["a"], 2, wrong_certificate)):
        stranger = by_hand("b", f"--connect 127.0.0.1:{port} {shown}", "elsewhere", token)
        said = stranger.communicate(timeout=PATIENCE)[1].splitlines()[-1]
        assert (stranger.returncode, said) == (code, f"fedsim: {why}")
    for role, process in (("server", hub), ("a", a), ("b", b)):
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, f"run folder: {role}\n"), err
    assert fedsim("run", "s.yaml", "--out", "all").code == 0
    whole = json.loads((here / "all/summary.json").read_text())
    parts = {role: json.loads((here / role / "summary.json").read_text()) for role in ("server", "a", "b")}
    assert {role: part["weights_sha256"][role] for role, part in parts.items()} == whole["weights_sha256"]
    assert parts["server"]["task"] == whole["task"]
    refused = fedsim("report", "a")
    assert (refused.code, refused.err) == (
        2,
        "fedsim: a: holds the part of a only; this takes those of b, server as well\n",
    )
    again = fedsim("keys", "s.yaml", "--out", "keys")
    assert (again.code, again.err) == (2, "fedsim: keys: cannot be written: File exists\n")


def test_keys_and_seats_take_a_profile(here: Path) -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    paper = ("uda_poisoning", "--profile", "paper")
    assert fedsim("keys", *paper, "--host", "hub.example.org", "--out", "keys").out == "keys: keys\n"
    assert {path.name for path in here.glob("keys/*")} == {"server", "upper", "lower"}
    seat = fedsim("seat", *paper, "--arm", "clean", "--role", "north", "--connect", "127.0.0.1:1", "--simulate")
    assert seat.err == "fedsim: no seat 'north'; allowed: lower, server, upper\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--role b --listen 127.0.0.1:1", "seat b connects to the hub, server: expected --connect HOST:PORT"),
        ("--role server --connect 127.0.0.1:1", "seat server is the hub, which listens: expected --listen HOST:PORT"),
        ("--role c --connect 127.0.0.1:1", "no seat 'c'; allowed: a, b, server"),
        ("--role a --connect nowhere", "--connect: expected HOST:PORT, such as 127.0.0.1:7000; found 'nowhere'"),
        ("--role a --connect h:1 --arm x", "--arm: no arm 'x'; allowed: s"),
        ("--role a --connect h:1 --token-file none", "--token-file none: cannot be read"),
        ("--role a --connect h:1 --ca s.yaml", "--ca, --cert, --key: expected all three, or none"),
        ("--role a --connect h:1 --ca s.yaml --cert s.yaml --key s.yaml", "s.yaml: this is no certificate in PEM"),
        ("--role a --connect h:1 --set compare.x={} --set compare.y={}", "--arm: a seat plays one arm"),
    ],
)
def test_a_seat_by_hand_refuses_what_cannot_be(monkeypatch: pytest.MonkeyPatch, words: str, why: str) -> None:
    monkeypatch.setenv("FEDSIM_TOKEN", "sesame")
    said = fedsim("seat", "s.yaml", "--simulate", *words.split())
    assert said.code == 2
    assert why in said.err


def test_a_seat_by_hand_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSIM_TOKEN", raising=False)
    assert "FEDSIM_TOKEN: no token" in fedsim("seat", "s.yaml", "--role", "a", "--connect", "h:1").err


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
