"""Four parties in containers, from what ``fedsim compose`` has written: the same numbers, and nothing to be found."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from engine import PROJECT, ROOT, base_image, compose, docker
from listening import children, words
from marked_tables import marks_of, read_folder, search
from safetensors import safe_open
from safetensors.torch import load_file
from terminal import fedsim

from fedsim import config, experiment
from fedsim.state import digest

pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

IMAGE = "fedsim:test"
PARTIES = ("north", "east", "south", "west")
NUMBERS = itertools.count()
"""So that each set of containers has a project, and with it a network, of its own."""
SCENARIO = """\
seed: 5
scenario:
  kind: leakage
  exchange: shared
  data: {kind: tables, id: who, label: outcome, test: 0.25}
  parties: {north: {columns: "north*"}, east: {columns: "east*"}, south: {columns: "south*"}, west: {columns: "west*"}}
  bottom: {kind: linear}
  embedding: 4
  batch: 10
  steps: 12
  evaluate: 6
  window: {from: 0, rounds: 12}
trials:
  - {attack: {kind: cafe}, seat: server, victim: "*", knows: [rows, bottom]}
"""
SEARCH = """\
import json, os, sys
words = [bytes.fromhex(word) for word in json.load(sys.stdin)]
for folder, inside, files in os.walk("/"):
    inside[:] = [name for name in inside if os.path.join(folder, name) not in ("/proc", "/sys", "/dev")]
    for path in (os.path.join(folder, name) for name in files):
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            continue
        found = [word.hex() for word in words if word in content]
        if found:
            print(path, *found)
"""


def write_tables(folder: Path) -> dict[str, str]:
    """A table a seat, in which some rows are missing; by seat what is to be found with that seat only."""
    draw, marks = random.Random(3), {}
    for i, party in enumerate(PARTIES):
        cells = [[f"{draw.gauss(row % 2, 1 + j):.12f}" for j in range(3)] for row in range(130)]
        lines = [f"person-{row:04}," + ",".join(values) for row, values in enumerate(cells) if row % 41 != i]
        (folder / f"{party}.csv").write_text(f"who,{party}1,{party}2,{party}3\n" + "\n".join(lines) + "\n")
        marks[party] = cells[50][0]
    outcomes = [f"person-{row:04},outcome{'gh'[row % 2]}" for row in range(130)]
    (folder / "server.csv").write_text("who,outcome\n" + "\n".join(outcomes) + "\n")
    return {**marks, "server": "outcomeg"}


@dataclass
class Played:
    """A run in containers that has ended, before they are taken down."""

    folder: Path
    project: str
    marks: dict[str, str]
    containers: dict[str, str]
    said: str = ""
    logs: str = ""
    seen: set[bytes] = field(default_factory=set)

    def compose(self, *words: str) -> str:
        """What compose prints for the hub's containers."""
        return compose(self.folder / "out", *words, project=self.project)

    @property
    def run(self) -> Path:
        """The run folder, at the hub."""
        return self.folder / "out" / "seats" / "server" / "runs" / "run"

    def own_run(self, party: str) -> Path:
        """The run folder of a party, at the party."""
        (found,) = (self.folder / "out" / "seats" / party / "runs").iterdir()
        return found

    def secrets(self) -> list[bytes]:
        """What nobody may see: tokens, keys, in the form in which a file has them."""
        paths = [path for path in (self.folder / "out").rglob("*") if path.name in SECRET]
        return [path.read_bytes().strip().splitlines()[1 if path.name in ("node", "key.pem") else 0] for path in paths]


ROWS = 20_000
"""Bytes of rows: a few hundred training steps."""
SECRET = ("secret", "ids_key", "superexec", "node", "key.pem")


@pytest.fixture(scope="module")
def _image() -> None:
    wheels = "--no-index" if (ROOT / "docker" / "wheelhouse").is_dir() else ""
    words = ("--build-arg", f"PIP_ARGS={wheels}", "--build-arg", f"BASE={base_image()}")
    docker("build", "-q", "-f", "docker/Dockerfile", *words, "-t", IMAGE, ".")


@contextlib.contextmanager
def started(folder: Path, scenario: str, *more: str, host: str = "") -> Iterator[Played]:
    """The containers of a scenario, of which no run has been handed in yet.

    Args:
        folder: where all files go.
        scenario: the scenario file.
        more: options of `fedsim compose`.
        host: if there is one, each party's containers are as on a machine of its own.
    """
    (folder / "s.yaml").write_text(scenario)
    marks = write_tables(folder)
    more = (*more, *(["--host", host] if host else []))
    said = fedsim("compose", folder / "s.yaml", "--out", folder / "out", "--image", IMAGE, *more)
    assert said.code == 0, said.err
    project = f"{PROJECT}-{next(NUMBERS)}"  # of one module's tests, the network of the fixture is still there
    parties = {folder / "out" / "seats" / party: f"{project}{party}" for party in PARTIES if host}
    for seat in (*PARTIES, "server"):
        shutil.copy(folder / f"{seat}.csv", folder / "out" / "seats" / seat / "data")
    try:
        compose(folder / "out", "up", "-d", project=project)
        for place, party_project in parties.items():
            compose(place, "up", "-d", project=party_project)
        mine = ("--no-trunc", "--filter", f"label=com.docker.compose.project={project}")
        listed = docker("ps", *mine, "--format", '{{.Label "com.docker.compose.service"}} {{.ID}}')
        yield Played(folder, project, marks, dict(line.split() for line in listed.splitlines()))
    finally:
        for place, party_project in parties.items():
            compose(place, "down", "-t", "1", "-v", project=party_project)
        compose(folder / "out", "down", "-t", "1", "-v", project=project)


@pytest.fixture(scope="module")
def played(_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Two runs with secrets of the seats, of which the first is set aside; looked at from outside while they go on."""
    with started(tmp_path_factory.mktemp("containers"), SCENARIO) as result:
        with watching(result):
            result.compose("run", "--rm", "-T", "run")
            shutil.copytree(result.run, result.folder / "before")
            result.said = result.compose("run", "--rm", "-T", "run")
        result.logs = result.compose("logs")
        yield result


@contextlib.contextmanager
def watching(played: Played) -> Iterator[None]:
    """Note the command lines and the environments of all processes in the containers, ten times a second."""
    roots = [int(docker("inspect", "-f", "{{.State.Pid}}", number)) for number in played.containers.values()]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for pid in {each for root in roots for each in (root, *children(root))}:
                for what in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):  # it has ended
                        played.seen.add(Path(f"/proc/{pid}/{what}").read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def same_as_in_one_process(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "finished:completed" in played.said
    monkeypatch.setenv("FEDSIM_DATA", str(played.folder))
    alone = experiment.run(config.read(str(played.folder / "s.yaml")), played.folder / "alone", pages=False)
    here, there = (json.loads((path / "summary.json").read_text()) for path in (played.run, alone))
    for what in ("digest", "weights_sha256", "task", "traffic"):
        assert here[what] == there[what], what
    assert (played.run / "metrics.jsonl").read_text() == (alone / "metrics.jsonl").read_text()
    assert [trial["scores"] for trial in here["trials"]] == [trial["scores"] for trial in there["trials"]]
    for party in PARTIES:  # what the hub reports of a party is what lies in the party's own folder
        own = json.loads((played.own_run(party) / "summary.json").read_text())
        weights = load_file(played.own_run(party) / "model" / f"{party}.safetensors")
        assert own["weights_sha256"] == {party: digest(weights)} == {party: there["weights_sha256"][party]}
        assert weights.keys() == load_file(alone / "model" / f"{party}.safetensors").keys()


@pytest.mark.usefixtures("_image")
def test_the_same_numbers_as_in_one_process_where_seats_simulate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path, SCENARIO, "--simulate") as simulated:
        simulated.said = simulated.compose("run", "--rm", "-T", "run")
        same_as_in_one_process(simulated, monkeypatch)
        assert {*json.loads((simulated.run / "manifest.json").read_text())["noise_source"].values()} == {"seed"}


def test_with_secrets_of_the_seats_two_runs_have_in_common_what_does_not_depend_on_noise(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_DATA", str(played.folder))
    alone = experiment.run(config.read(str(played.folder / "s.yaml")), played.folder / "alone", pages=False)
    before = played.folder / "before"
    runs = [json.loads((path / "summary.json").read_text()) for path in (before, played.run, alone)]
    for what in ("digest", "traffic", "baseline", "steps"):
        assert runs[0][what] == runs[1][what] == runs[2][what], what
    for seat in (*PARTIES, "server"):
        assert len({run["weights_sha256"][seat] for run in runs}) == 3, seat
    assert {*json.loads((played.run / "manifest.json").read_text())["noise_source"].values()} == {"secret"}


def tensors(path: Path) -> list[bytes]:
    with safe_open(path, "np") as file:
        return [file.get_tensor(name).tobytes()[:64] for name in file.keys()]  # noqa: SIM118 (it is no mapping)


def test_a_party_has_its_own_data_and_nothing_else(played: Played) -> None:
    """Searched from inside, on all of its disk: other tables, labels, the top model."""
    tops = tensors(played.run / "model" / "server.safetensors")
    others = [mark.encode() for seat, mark in played.marks.items() if seat != "north"]
    own = played.marks["north"].encode()
    assert len(tops) > 1
    words = json.dumps([word.hex() for word in (own, *others, *tops)])
    search = ("exec", "-i", played.containers["party-north"], "python", "-c", SEARCH)
    assert docker(*search, given=words) == f"/data/north.csv {own.hex()}\n"


def test_no_key_no_label_and_no_id_is_in_a_log_a_report_or_the_list_of_processes(played: Played) -> None:
    secrets = played.secrets()
    assert len(secrets) == 5 + 5 + 2 + 4 + 1
    assert any(b"flwr-clientapp" in each for each in played.seen)
    assert any(b"flwr-serverapp" in each for each in played.seen)
    left = {str(path): path.read_bytes() for path in played.run.rglob("*") if path.is_file()}
    places = {**left, "logs": (played.logs + played.said).encode(), "processes": b"\n".join(played.seen)}
    for place, content in places.items():
        assert [secret for secret in (*secrets, b"PRIVATE KEY", b"person-0") if secret in content] == [], place
    assert [mark for mark in played.marks.values() if mark.encode() in places["processes"] + places["logs"]] == []


def test_rows_of_truth_models_and_categories_lie_with_their_parties_and_not_at_the_hub(played: Played) -> None:
    at_hub = {str(path): path.read_bytes() for path in played.run.rglob("*") if path.is_file()}
    assert [path for path in at_hub if path.endswith("-shown.safetensors")] == []
    at_hub = {path: content for path, content in at_hub.items() if "/claims/" not in path}  # an attacker may be right
    for party in PARTIES:
        own = played.own_run(party)
        (shown,) = own.rglob("*-shown.safetensors")
        owned = {"cell": played.marks[party].encode(), **marks_of("truth", load_file(shown)["truth"])}
        for tensor in load_file(own / "model" / f"{party}.safetensors").values():
            owned |= marks_of(f"weights {tuple(tensor.shape)}", tensor)
        assert search(at_hub, owned) == set()
        assert search(read_folder(own), owned) != set()
        assert "Truth and reconstruction" in (own / "report.html").read_text()


def test_a_container_may_do_nothing_but_its_task(played: Played) -> None:
    try_ = (
        "import os\nassert os.getuid() != 0\n"
        "for path in ('/x', '/data/x', '/settings/x', '/opt/venv/x'):\n"
        "    try:\n        open(path, 'w')\n    except OSError:\n        continue\n    print(path)\n"
        "print(open('/proc/self/status').read().split('CapBnd:')[1].split()[0])"
    )
    for name in ("party-north", "hub", "superlink"):
        assert docker("exec", played.containers[name], "python", "-c", try_) == f"{0:016}\n", name


def test_a_party_reaches_the_superlink_and_no_other_party_and_nobody_outside(played: Played) -> None:
    inspect = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    east = docker("inspect", "-f", inspect, played.containers["party-east"]).split()
    assert len(east) == 1
    docker("exec", "-d", played.containers["party-east"], "python", "-m", "http.server", "8123", "--directory", "/tmp")
    reach = (
        "import socket, sys\n"
        "for place in sys.argv[1:]:\n"
        "    host, _, port = place.rpartition(':')\n"
        "    try:\n        socket.create_connection((host, int(port)), 3).close()\n"
        "    except OSError:\n        continue\n    print(place)\n"
    )
    there = (f"{east[0]}:8123", "party-east:8123")
    at_hub = ("exec", played.containers["hub"], "python", "-c", reach, *there)
    until = time.monotonic() + 60
    while docker(*at_hub).split() != [*there]:  # it listens, for those that may come
        assert time.monotonic() < until
    places = ("superlink:8000", *there, "192.0.2.1:443", "8.8.8.8:53")
    said = docker("exec", played.containers["party-north"], "python", "-c", reach, *places)
    assert said.split() == ["superlink:8000"]


def test_limits_are_in_force(played: Played) -> None:
    for name, number in played.containers.items():
        found = json.loads(docker("inspect", "-f", "{{json .HostConfig}}", number))
        assert (found["Memory"], found["PidsLimit"]) == (8 << 30, 4096), name
        assert found["ReadonlyRootfs"]
        assert not found["Privileged"]
        assert found["CapDrop"] == ["ALL"]
        assert found["SecurityOpt"] == ["no-new-privileges:true"]
        assert [(each["Name"], each["Soft"], each["Hard"]) for each in found["Ulimits"]] == [("core", 0, 0)]
        assert found["PortBindings"] in ({}, None)
        fill = "file = open('/tmp/large', 'wb')\nfor _ in range(1100):\n    file.write(bytes(1 << 20))"
        with pytest.raises(RuntimeError, match="No space left on device"):
            docker("exec", number, "python", "-c", fill)
        docker("exec", number, "rm", "-f", "/tmp/large")


@pytest.mark.usefixtures("_image")
def test_on_several_machines_parties_come_through_their_gates_to_open_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each party in a project of its own, which knows no more of the hub's than an address of this machine."""
    here = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge").strip()
    with started(tmp_path, SCENARIO, "--simulate", host=here) as played:
        ports = docker("port", played.containers["superlink"]) + docker("port", played.containers["hub"])
        assert ports.split() == ["8000/tcp", "->", f"{here}:8000", "7000/tcp", "->", f"{here}:7000"]
        played.said = played.compose("run", "--rm", "-T", "run")
    same_as_in_one_process(played, monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("_image")
def test_who_is_killed_comes_back_and_nobody_does_anything_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``kill -9``, one after the other: a SuperNode, the ServerApp, the SuperLink."""
    steps = SCENARIO.replace("steps: 12", "steps: 3000").replace("evaluate: 6", "evaluate: 1500")
    lasting = steps + "checkpoint: {every: 100}\n"
    with started(tmp_path, lasting, "--simulate") as played, ThreadPoolExecutor(1) as pool:
        running = pool.submit(played.compose, "run", "--rm", "-T", "run")
        still_for(played.run, running)
        pauses = []
        for service, program in (
            ("party-north", "flower-supernode"),
            ("hub", "flwr-serverapp"),
            ("superlink", "flower-superlink"),
        ):
            kill(played.containers[service], program)
            pauses.append(f"{program} {still_for(played.run, running):.0f} s")
        played.said = running.result()
        restarted = [docker("inspect", "-f", "{{.RestartCount}}", each) for each in played.containers.values()]
    assert sum(count != "0\n" for count in restarted) == 2, restarted  # those of the SuperNode and of the SuperLink
    for line, times in (("all seats are started again (1 of", 2), ("all go on after", 2), ("the ServerApp is gone", 1)):
        assert played.said.count(line) == times, played.said
    same_as_in_one_process(played, monkeypatch)
    with capsys.disabled():
        print(f"\nkilled (SIGKILL), and how long training stood still: {', '.join(pauses)}", file=sys.__stdout__)


def kill(container: str, program: str) -> None:
    """Kill a program in a container from outside, so that the engine takes it for one that ended by itself."""
    root = int(docker("inspect", "-f", "{{.State.Pid}}", container))
    (pid,) = (pid for pid in children(root) if f"/{program}" in words(pid))
    os.kill(pid, signal.SIGKILL)


def still_for(run: Path, running: Future[str]) -> float:
    """The longest pause between two rows of the run, until so many have come; seconds."""
    log, longest = run / "metrics.jsonl", 0.0
    size = log.stat().st_size if log.exists() else 0
    since, enough = time.monotonic(), size + ROWS
    while size < enough:
        assert not running.done(), running.result()
        time.sleep(0.02)
        now, grown = time.monotonic(), log.stat().st_size if log.exists() else 0
        if grown > size:
            longest, since, size = max(longest, now - since), now, grown
    return longest
