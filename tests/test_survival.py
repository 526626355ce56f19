"""Seats that are killed while they train: the run goes on by itself and ends with the numbers of one in which nobody died."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from listening import children, words
from small import SMALL

from fedsim import config, experiment
from fedsim.config import ScenarioFile
from fedsim.errors import TransportBroken
from fedsim.net import Watch
from fedsim.runtime import _crew
from fedsim.runtime._crew import starved
from fedsim.runtime._deployment import SWITCHES
from fedsim.seeding import Rng
from fedsim.supervision import supervised

STEPS, EVERY = 300, 20
LAST = 200
"""The last step at which a seat is killed: what is shown of a run is up to 50 ms old."""
KILLS = {"processes": 12, "ray": 6, "flower": 4}
"""How often seats are killed in the slow tests, two of them at once every third time."""


def made(runtime: str, steps: int = STEPS) -> ScenarioFile:
    scenario = {**SMALL["labels"]["scenario"], "steps": steps, "evaluate": 50}
    links = [*SMALL["labels"]["links"], {"from": "east", "sender": [{"kind": "gaussian_noise", "sigma": 0.01}]}]
    checkpoint = {"every": EVERY, "restarts": 4}
    settings = {**SMALL["labels"], "scenario": scenario, "links": links, "checkpoint": checkpoint}
    return config.validate({"name": "labels", **settings, "runtime": {"kind": runtime}}, "labels", {})


def seats(runtime: str) -> list[int]:
    """The processes of seats, the hub's first where they can be told apart."""
    mark = {"processes": "fedsim seat", "ray": "_Actor", "flower": "flwr-clientapp"}[runtime]
    found = [pid for pid in children(os.getpid()) if mark in words(pid) and "keeper" not in words(pid)]
    hubs = [pid for pid in children(os.getpid()) if "flwr-serverapp" in words(pid)] if runtime == "flower" else []
    return [*hubs, *sorted(found, key=lambda pid: ("server" not in words(pid), pid))]


Victims = Callable[[int], Sequence[int]]
"""Whom to kill the first time, the second, and so on: the processes."""


def some_seats(runtime: str, first: Callable[[int], int], together: int = 1) -> Victims:
    """From a place in the list of seats on so many, and two every third time."""

    def victims(nth: int) -> Sequence[int]:
        alive = seats(runtime)
        assert len(alive) == 3, [words(pid) for pid in children(os.getpid())]
        return alive[first(nth) :][: 2 if nth % 3 == 2 else together]

    return victims


class Reaper:
    """Kills processes at steps, and notes after how many seconds each time the training goes on."""

    def __init__(self, steps: Sequence[int], victims: Victims) -> None:
        self.left, self.victims = list(enumerate(steps)), victims
        self.killed = 0
        self.notices: list[str] = []
        self.delays: list[float] = []
        self.waits, self.died = False, 0.0

    @property
    def restarts(self) -> int:
        """How often all seats were started again."""
        return sum("all seats are started again" in line for line in self.notices)

    def watch(self, title: str, file: ScenarioFile) -> Watch:
        def watch(role: str, row: Mapping[str, Any]) -> None:
            if "notice" in row:
                self.notices.append(row["notice"])
                self.waits = self.waits and "started again" not in row["notice"]
            elif "loss" in row and not self.waits:
                if self.died:
                    self.delays.append(time.monotonic() - self.died)
                    self.died = 0.0
                if self.left and row["step"] >= self.left[0][1]:
                    (nth, _), self.waits = self.left.pop(0), True  # rows of before the death may still come
                    for pid in self.victims(nth):
                        os.kill(pid, signal.SIGKILL)
                        self.killed += 1
                    self.died = time.monotonic()

        return watch


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    return undisturbed(made("local"), tmp_path_factory.mktemp("calm"))


def undisturbed(file: ScenarioFile, folder: Path) -> Mapping[str, Any]:
    return _numbers(experiment.run(file.model_copy(update={"checkpoint": None}), folder / "calm", pages=False))


def _numbers(path: Path) -> Mapping[str, Any]:
    summary = json.loads((path / "summary.json").read_text())
    kept = {key: summary[key] for key in ("weights_sha256", "task", "trials", "traffic", "steps")}
    return kept | {"metrics": (path / "metrics.jsonl").read_text()}


def survives(
    file: ScenarioFile, steps: Sequence[int], calm: Mapping[str, Any], folder: Path, victims: Victims
) -> Reaper:
    reaper = Reaper(steps, victims)
    path = experiment.run(file, folder / "run", started=reaper.watch, pages=False)
    assert reaper.left == []
    assert _numbers(path) == calm
    assert reaper.restarts == len(steps) == len(reaper.delays), reaper.notices
    assert [line for line in reaper.notices if line.startswith("all go on after training step ")]
    return reaper


def test_the_hub_and_a_party_are_killed_at_once(calm: Mapping[str, Any], tmp_path: Path) -> None:
    reaper = survives(made("processes"), [70], calm, tmp_path, some_seats("processes", lambda nth: 0, together=2))
    (line,) = (line for line in reaper.notices if "killed" in line)
    assert line.startswith(
        ("the process of server was killed (SIGKILL) after", "the process of north was killed (SIGKILL) af")
    )


@pytest.mark.usefixtures("ray_session")
def test_an_actor_of_ray_is_killed(tmp_path: Path) -> None:
    """Seats do not wait for whoever shows their rows: where that process is slow, a short run is over before the kill.

    The run is then made longer, until the kill comes while it trains.
    """
    for steps in (STEPS, 10 * STEPS, 100 * STEPS):
        folder = tmp_path / str(steps)
        folder.mkdir()
        reaper, calm = Reaper([70], some_seats("ray", lambda nth: 1)), undisturbed(made("local", steps), folder)
        path = experiment.run(made("ray", steps), folder / "run", started=reaper.watch, pages=False)
        assert _numbers(path) == calm
        assert reaper.left == []
        if reaper.restarts and reaper.delays:
            break
    assert (reaper.restarts, len(reaper.delays)) == (1, 1), reaper.notices
    assert [line for line in reaper.notices if line.startswith("all go on after training step ")]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("runtime", KILLS)
def test_whoever_is_killed_whenever(
    runtime: str, calm: Mapping[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if runtime == "flower":
        pytest.importorskip("flwr", reason="needs fedsim-vfl[flower]")
    rng, done, runs, delays = Rng.root(11).child(runtime).numpy(), 0, 0, list[float]()
    while done < KILLS[runtime]:
        steps = sorted(int(step) for step in EVERY + rng.choice(LAST - EVERY, size=3, replace=False))
        firsts = [int(first) for first in rng.integers(2, size=3)] if runtime != "flower" else [0, 1, 0]
        victims = some_seats(runtime, firsts.__getitem__)
        reaper = survives(made(runtime), steps, calm, tmp_path / str(runs), victims)
        done, runs, delays = done + reaper.killed, runs + 1, delays + reaper.delays
    with capsys.disabled():
        print(
            f"\n{runtime}: {done} seats killed (SIGKILL) in {runs} runs; all ended with the numbers of the calm run;"
            f" {seconds(delays)}",
            file=sys.__stdout__,
        )


def seconds(delays: Sequence[float]) -> str:
    return f"from a death to the next training step {', '.join(f'{delay:.0f}' for delay in delays)} s"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("program", "who"), [("flower-superlink", "Flower's SuperLink"), ("flower-supernode", "(north|east)'s SuperNode")]
)
def test_a_part_of_flower_is_killed_and_all_of_flower_is_started_again(
    program: str, who: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those who train outlive it for a moment, so the training is a long one."""
    pytest.importorskip("flwr", reason="needs fedsim-vfl[flower]")

    def part(nth: int) -> Sequence[int]:
        return [next(pid for pid in children(os.getpid()) if f"/{program}" in words(pid))]

    calm = undisturbed(made("local", steps=3000), tmp_path)
    reaper = survives(made("flower", steps=3000), [100, 1500], calm, tmp_path, part)
    (one, other) = (line for line in reaper.notices if "started again" in line)
    for line in (one, other):
        assert re.match(rf"the process of {who} was killed \(SIGKILL\) after training step \d+; all", line), line
    assert [words(pid) for pid in children(os.getpid()) if "flower" in words(pid)] == []
    with capsys.disabled():
        print(f"\n{program} killed (SIGKILL): {seconds(reaper.delays)}", file=sys.__stdout__)


def test_a_seat_that_dies_while_memory_runs_out_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert starved() >= 0
    (source := tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 3\nballoon 0\n")
    assert (starved(source), starved(tmp_path / "none")) == (3, 0)
    kills = iter((3, 3, 4))
    monkeypatch.setattr(_crew, "starved", lambda: next(kills))
    crew = _crew.Crew(made("local"), lambda role, row: None)
    assert str(crew.died("north", "was killed (SIGKILL)")).endswith("before the first training step")
    said = str(crew.died("north", "was killed (SIGKILL)"))
    assert said.endswith("before the first training step; out of memory: give it more, or a smaller batch")


def test_restarts_are_counted_and_what_is_no_loss_is_not_tried_again() -> None:
    said: list[str] = []
    tries = iter(range(10))

    def lost() -> None:
        raise TransportBroken(f"b is gone, {next(tries)}")

    with pytest.raises(TransportBroken, match="b is gone, 2"):
        supervised(lost, 2, said.append)
    assert said == [f"b is gone, {n}; all seats are started again ({n + 1} of at most 2 times)" for n in (0, 1)]
    with pytest.raises(TransportBroken, match="b is gone, 3"):
        supervised(lost, 0, said.append)

    def wrong() -> None:
        next(tries)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        supervised(wrong, 3, said.append)
    assert next(tries) == 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_party_at_a_node_of_its_own_is_killed_and_the_server_app_goes_on(
    calm: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a deployment: nodes name a folder for their parts, and nothing is handed in again."""
    pytest.importorskip("flwr", reason="needs fedsim-vfl[flower]")
    from test_flower import ROOT, nodes

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "s.yaml").write_text(json.dumps(made("local").resolved()))
    config_ = {role: f'party="{role}" checkpoints="{tmp_path}/{role}"' for role in ("north", "east")}
    with nodes(tmp_path, config_) as (deployed, _):
        settings = f"scenario='{tmp_path}/s.yaml' out='{tmp_path}/led'"
        command = [Path(sys.executable).with_name("flwr"), "run", ROOT, "--run-config", settings, "--stream"]
        env = {**os.environ, "FLWR_HOME": str(deployed.voice.parent / "run"), **SWITCHES}
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            log, deadline = tmp_path / "led/metrics.jsonl", time.monotonic() + 300
            while not (log.exists() and '"step": 60,' in log.read_text()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.kill(next(pid for pid in children(os.getpid()) if "flwr-clientapp" in words(pid)), signal.SIGKILL)
            said = process.communicate(timeout=600)[0]
    assert f"run folder: {tmp_path}/led" in said, said
    assert _numbers(tmp_path / "led") == calm
