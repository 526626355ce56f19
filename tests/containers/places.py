"""Hosts of their own with the files of a few scenarios, and seats that are started there as a user starts them."""

from __future__ import annotations

import json
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

HUBS = {"baseline": "east", "leakage": "server", "labels": "server", "endless": "server", "lasting": "server"}
SEATS = ("server", "north", "east")
ENDLESS = {**SMALL["labels"], "scenario": {**SMALL["labels"]["scenario"], "steps": 1_000_000, "evaluate": 1_000_000}}
LASTING = {
    **SMALL["labels"],
    "scenario": {**SMALL["labels"]["scenario"], "steps": 1000, "evaluate": 500},
    "checkpoint": {"every": 10, "restarts": 4},
}


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
        token = ("--token-file", f"{keys or f'keys-{name}/{role}'}/token")
        folder = ("--out", f"{out or name}/{on or role}")
        private = () if "--secret" in words else ("--simulate",)
        words = ("--role", role, *shown, *token, *folder, *private, *words)
        return self.hosts[on or role].start("seat", f"{name}.yaml", *words)

    def others(self, name: str, address: str, *absent: str, out: str = "") -> dict[str, Running]:
        """Start every seat but the hub, on its own host."""
        roles = [role for role in SEATS if role not in (HUBS[name], *absent) and role in seats(name)]
        return {role: self.seat(name, role, "--connect", address, out=out) for role in roles}


def seats(name: str) -> tuple[str, ...]:
    return config.validate({"name": name, **settings(name)}, name, {}).plan().roster


def settings(name: str) -> dict[str, Any]:
    return SMALL.get(name) or {"endless": ENDLESS, "lasting": LASTING}[name]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hosts")
    with Lab([*SEATS, "stranger"]) as lab, hosts(lab, folder) as processes:
        lab.join()
        for name in HUBS:
            source = folder / f"{name}.yaml"
            source.write_text(json.dumps(settings(name)))
            reach = [word for host in (lab.near(HUBS[name]), lab.far(HUBS[name])) for word in ("--host", host)]
            fine("keys", source, "--out", folder / f"keys-{name}", *reach)
        reach = ["--host", lab.near("server")]
        fine("keys", folder / "leakage.yaml", "--out", folder / "keys-others", *reach)
        yield Place(lab, processes, folder, iter(range(7000, 8000)))


def ended_well(running: Mapping[str, Running]) -> dict[str, Ended]:
    ends = {role: each.wait() for role, each in running.items()}
    assert {role: end.said for role, end in ends.items() if end.code} == {}
    return ends


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


def until(happens: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:g} s"
        time.sleep(0.05)


def training(place: Place, out: str, name: str = "endless", far: bool = False) -> dict[str, Running]:
    address, hub = place.hub(name, far=far, out=out)
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
