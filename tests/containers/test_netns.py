"""Seats on hosts of their own: the same numbers, whoever does not belong is refused by name, whoever is lost is named."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hosts import PATIENCE, Ended, Host, Lab, Running, hosts
from small import SMALL
from terminal import fine

from fedsim import config, experiment

pytest.importorskip("cryptography", reason="needs fedsim[flower]")
pytestmark = pytest.mark.netns

HUBS = {"baseline": "east", "leakage": "server", "labels": "server", "endless": "server", "lasting": "server"}
SEATS = ("server", "north", "east")
ENDLESS = {**SMALL["labels"], "scenario": {**SMALL["labels"]["scenario"], "steps": 1_000_000, "evaluate": 1_000_000}}
LASTING = {
    **SMALL["labels"],
    "scenario": {**SMALL["labels"]["scenario"], "steps": 1000, "evaluate": 500},
    "checkpoint": {"every": 10, "restarts": 4},
}
ESTABLISHED = "01"
SHORT = "3"
"""Seconds that a hub waits in the test of those that never come."""


@dataclass
class Place:
    """The hosts and the files of the tests here."""

    lab: Lab
    hosts: Mapping[str, Host]
    folder: Path
    ports: Iterator[int]

    def hub(self, name: str, *more: str, far: bool = False, out: str = "") -> tuple[str, Running]:
        """Start the hub of a scenario on its host; its address."""
        role = HUBS[name]
        host = self.lab.far(role) if far else self.lab.near(role)
        address = f"{host}:{next(self.ports)}"
        return address, self.seat(name, role, "--listen", address, *more, out=out)

    def seat(self, name: str, role: str, *words: str, on: str = "", keys: str = "", out: str = "") -> Running:
        """Start a seat, with its own keys or those of another folder, on its own host or another's."""
        files = {option: f"{keys or f'keys-{name}/{role}'}/{option}.pem" for option in ("ca", "cert", "key")}
        shown = [word for option, path in files.items() for word in (f"--{option}", path) if "--plain" not in words]
        words = tuple(word for word in words if word != "--plain")
        token = ("--token-file", f"{keys or f'keys-{name}/{role}'}/token")
        folder = ("--out", f"{out or name}/{on or role}")
        return self.hosts[on or role].start("seat", f"{name}.yaml", "--role", role, *shown, *token, *folder, *words)

    def others(self, name: str, address: str, *absent: str, out: str = "") -> dict[str, Running]:
        """Start every seat but the hub, on its own host."""
        roles = [role for role in SEATS if role not in (HUBS[name], *absent) and role in seats(name)]
        return {role: self.seat(name, role, "--connect", address, out=out) for role in roles}


def seats(name: str) -> tuple[str, ...]:
    return config.validate({"name": name, **settings(name)}, name, {}).plan().roster


def settings(name: str) -> dict[str, Any]:
    return SMALL.get(name) or {"endless": ENDLESS, "lasting": LASTING}[name]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hosts")
    with Lab([*SEATS, "stranger"]) as lab, hosts(lab, folder) as processes:
        lab.delay(25)
        for name in HUBS:
            source = folder / f"{name}.yaml"
            source.write_text(json.dumps(settings(name)))
            reach = [word for host in (lab.near(HUBS[name]), lab.far(HUBS[name])) for word in ("--host", host)]
            fine("keys", source, "--out", folder / f"keys-{name}", *reach)
        reach = ["--host", lab.near("server")]
        fine("keys", folder / "leakage.yaml", "--out", folder / "keys-others", *reach)
        yield Place(lab, processes, folder, iter(range(7000, 8000)))


def ended_well(running: Mapping[str, Running]) -> None:
    for role, each in running.items():
        end = each.wait()
        assert end.code == 0, f"{role}: {end.said}"


def the_same_as_alone(folder: Path, name: str, played: str = "") -> None:
    """The parts of the seats, put together, are the run of one process: weights, metrics, scores, bytes."""
    file = config.read(str(folder / f"{name}.yaml"))
    whole = experiment.run(file, folder / f"alone-{played or name}", pages=False)
    summary = _json(whole / "summary.json")
    parts = {role: _json(folder / (played or name) / role / "summary.json") for role in file.plan().roster}
    hub = file.plan().hub
    assert {role: part["weights_sha256"][role] for role, part in parts.items()} == summary["weights_sha256"]
    assert parts[hub]["task"] == summary["task"]
    assert (folder / (played or name) / hub / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    for what in ("frames", "bytes"):
        assert sum(part["traffic"][what] for part in parts.values()) == summary["traffic"][what]
    found = [trial for part in parts.values() for trial in part["trials"]]
    assert [_timeless(trial) for trial in found] == [_timeless(trial) for trial in summary["trials"]]


def _timeless(trial: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in trial.items() if key != "seconds"}


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["baseline", "labels"])
def test_the_same_numbers_on_separate_hosts(place: Place, name: str) -> None:
    address, hub = place.hub(name)
    ended_well({"hub": hub, **place.others(name, address)})
    the_same_as_alone(place.folder, name)


def test_the_same_numbers_with_25_ms_each_way(place: Place) -> None:
    address, hub = place.hub("labels", far=True, out="late")
    ended_well({"hub": hub, **place.others("labels", address, out="late")})
    the_same_as_alone(place.folder, "labels", "late")


STRANGERS: dict[str, tuple[str, str]] = {
    "the token of another seat": ("--token-file keys-leakage/east/token", "refuses north: wrong token: not the one of"),
    "no token": ("--token-file empty", "--token-file empty: no token; "),
    "the certificate of another seat": (
        "--cert keys-leakage/east/cert.pem --key keys-leakage/east/key.pem",
        "refuses north: wrong certificate: it names east, not north",
    ),
    "a certificate of another authority": (
        "--cert keys-others/north/cert.pem --key keys-others/north/key.pem",
        "it does not take this seat's certificate: of another authority, or out of date",
    ),
    "another authority": ("--ca keys-others/north/ca.pem", "its certificate does not hold: "),
    "plain text": ("--plain", "plain text"),
    "another file": ("--set seed=3", "refuses north: it plays scenario "),
    "a role that is taken": ("--role east", "refuses east: seat east is taken: another process has joined as it"),
}


@pytest.fixture(scope="module")
def refused(place: Place) -> dict[str, Ended]:
    """A run that waits for north; strangers try to be north, from a host of their own; then north comes, and all is well."""
    (place.folder / "empty").touch()
    address, hub = place.hub("leakage")
    east = place.others("leakage", address, "north")
    until(lambda: connected(place, address), "east")
    trying = {}
    for what, (words, _) in STRANGERS.items():
        keys = "keys-leakage/" + ("east" if "taken" in what else "north")
        more = ("--connect", address, *words.split())
        trying[what] = place.seat("leakage", "north", *more, on="stranger", keys=keys, out=what)
    ends = {what: each.wait() for what, each in trying.items()}
    ended_well({"hub": hub, **east, **place.others("leakage", address, "east")})
    return ends


def connected(place: Place, address: str) -> bool:
    """Whether anybody is connected to the hub, by the kernel's own table."""
    port, pid = f":{int(address.rpartition(':')[2]):04X}", place.hosts["server"].tell(pid=True)
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
    return any(line.split()[1].endswith(port) and line.split()[3] == ESTABLISHED for line in lines)


def until(happens: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:g} s"
        time.sleep(0.05)


@pytest.mark.parametrize("what", STRANGERS)
def test_who_does_not_belong_is_refused_by_name(refused: dict[str, Ended], what: str) -> None:
    end = refused[what]
    assert end.code == (2 if what == "no token" else 1), end.said
    assert STRANGERS[what][1] in end.said.splitlines()[-1]
    assert "Traceback" not in end.said


@pytest.mark.usefixtures("refused")
def test_a_run_that_strangers_knocked_at_gives_the_same_numbers(place: Place) -> None:
    the_same_as_alone(place.folder, "leakage")


def test_who_is_missing_is_told_to_all_that_wait(place: Place) -> None:
    address, hub = place.hub("endless", "--wait", SHORT, out="missing")
    east = place.others("endless", address, "north", out="missing")["east"]
    why = f"north did not connect within {SHORT} s"
    for each, found in ((hub, f"fedsim: {why}"), (east, f"server is gone: {why}")):
        end = each.wait()
        assert (end.code, end.said.splitlines()[-1].endswith(found)) == (1, True), end.said


def training(place: Place, out: str, name: str = "endless") -> dict[str, Running]:
    address, hub = place.hub(name, out=out)
    running = {"server": hub, **place.others(name, address, out=out)}
    log = place.folder / out / "server" / "metrics.jsonl"
    until(lambda: log.exists() and '"step": 20,' in log.read_text(), f"training: {hub.log}")
    return running


def all_named(running: Mapping[str, Running], why: Mapping[str, str]) -> None:
    for role, words in why.items():
        end = running[role].wait()
        assert end.code == 1, end.said
        assert words in end.said.splitlines()[-1], end.said
        assert "Traceback" not in end.said


def test_a_party_that_is_killed_is_named_to_all(place: Place) -> None:
    running = training(place, "killed")
    os.kill(running["north"].pid, signal.SIGKILL)
    all_named(running, dict.fromkeys(("server", "east"), "north is gone: its connection broke"))


def test_a_party_whose_link_is_cut_is_named_to_all_and_knows_it(place: Place) -> None:
    running = training(place, "cut")
    place.lab.cut("north")
    try:
        lost = dict.fromkeys(("server", "east"), "north is gone: its connection broke")
        all_named(running, {**lost, "north": "server is gone: "})
    finally:
        place.lab.mend("north")


def test_a_partition_of_five_seconds_is_survived_with_the_same_numbers(place: Place) -> None:
    """Both sides take each other for lost, meet again, and go on from the last checkpoint."""
    running = training(place, "parted", "lasting")
    place.lab.cut("north")
    time.sleep(5)  # that is the partition
    place.lab.mend("north")
    ends = {role: each.wait() for role, each in running.items()}
    assert {role: end.code for role, end in ends.items()} == dict.fromkeys(SEATS, 0), ends
    said = ends["server"].said
    assert "all seats are started again (1 of at most 4 times)" in said
    assert "all go on after training step " in said
    the_same_as_alone(place.folder, "lasting", "parted")


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("4 GiB frame", "north broke the protocol: a frame in 512 parts; at most 1073741824 bytes are allowed"),
        ("4 GiB header", "header of 4294967295 bytes in a frame of 20, at most 1048576 are allowed"),
    ],
)
def test_a_party_that_announces_4_gib_is_named_to_all(place: Place, head: str, why: str) -> None:
    address, hub = place.hub("endless", out=head)
    east = place.others("endless", address, "north", out=head)["east"]
    digest = config.read(str(place.folder / "endless.yaml")).digest()
    north = place.hosts["north"].start("hostile", head, "north", "server", address, digest, "keys-endless/north")
    all_named({"server": hub, "east": east}, {"server": why, "east": why})
    assert north.wait().code == 0


def test_no_key_and_no_token_is_in_what_the_seats_leave(place: Place) -> None:
    """Reads all that the runs of this module have written."""
    secrets = [path.read_text().strip() for path in place.folder.glob("keys-*/*/token")]
    left = [path for path in place.folder.rglob("*") if path.is_file() and not path.parts[-3].startswith("keys-")]
    assert len(secrets) > 10
    assert any(path.name == "manifest.json" for path in left)
    for path in left:
        content = path.read_bytes()
        assert b"PRIVATE KEY" not in content, path
        assert [secret for secret in secrets if secret.encode() in content] == [], path
