"""A federation in containers: who runs where, with what in its folder, as a compose file that docker-compose 1.29 reads, too.

Every seat has a folder with its settings and its data, and its container mounts that folder and no other.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedsim.config import ScenarioFile
from fedsim.errors import ConfigError
from fedsim.files import SHARED, create_file
from fedsim.message import RoleId
from fedsim.plan import Plan
from fedsim.report.fresh import fresh_folder
from fedsim.report.writing import scenario_text
from fedsim.runtime._deployment import APP, SWITCHES
from fedsim.runtime._isolation import (
    FEDERATION,
    OUTSIDE,
    close_networks,
    limit_service,
    name_networks,
    publish_port,
    reachable_network,
)
from fedsim.transport.certificates import HOST, Authority, node_keys

LINK, HUB, RUN, REGISTER, GATE = "superlink", "hub", "run", "register", "gate"
"""The services beside those of the parties, which are called ``party-`` and their name."""
PORT, DATA_PORT, NODE_PORT = 8000, 7000, 9094
"""Where SuperLink, the hub and (inside its container only) each SuperNode listen."""
UNPROXIED = ",".join(("localhost", "127.0.0.1", "::1", LINK, HUB))
"""Hosts that containers reach without a proxy; Docker hands them that of its own configuration."""
LASTING = {"restart": "unless-stopped"}
"""Of a container: the engine starts it again when it has ended by itself, and after the machine has."""
USER = 10001
"""Whose processes they are, and whose files, if root asks for them; else they are of the user that asks."""
SHARING = b"""\
# What this seat hands to the hub when a run is over, beside metrics and the scores and claims of attacks.
# It is for the operator of the seat to decide; everything else stays in the folder runs.
samples: 0            # rows of truth beside each claim, at most
share_model: false    # the trained parameters
share_schema: false   # names of columns, categories and scale
"""
CONNECTION = """\
[superlink]
default = "here"

[superlink.here]
address = "{address}"
root-certificates = "/settings/ca.pem"
"""


@dataclass(frozen=True)
class Federation:
    """What containers are to play, and under which name they are reached.

    Attributes:
        file: a scenario file, with arms or without.
        host: under which other machines reach SuperLink and hub; None if all containers are on one.
        image: what they are made of.
        wait: seconds in which every party must have joined.
        days: how long the certificate of the SuperLink holds.
        simulate: whether seats have no secrets of their own: their noise then follows from the public seed.
    """

    file: ScenarioFile
    host: str | None
    image: str
    wait: float
    days: float
    simulate: bool = False

    def write(self, out: Path) -> Path:
        """Write all folders; returns where they lie.

        Raises:
            ConfigError: a seat has a name that no folder can have, or the host is none.
            OutputError: there is something at ``out`` already.
        """
        plans = [arm.plan() for arm in self.file.arms().values()]
        hub, parties = plans[0].hub, _parties(plans)
        if self.host is not None and (not re.fullmatch(HOST, self.host) or self.host == "0.0.0.0"):
            raise ConfigError(
                f"--host: expected a name or an address, such as hub.example.org; found '{self.host:.80}'"
            )
        if not re.fullmatch(r"[A-Za-z0-9][\w./:@-]*", self.image):
            raise ConfigError(f"--image: expected the name of an image, such as fedsim:1.0; found '{self.image:.80}'")
        with fresh_folder(out) as folder:
            self._write(folder, hub, parties)
            if os.geteuid() == 0:
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, USER, USER)
        return out

    def _write(self, out: Path, hub: RoleId, parties: Sequence[RoleId]) -> None:
        authority, shared = Authority(self.days), os.urandom(32).hex().encode()
        link = authority.identity(LINK, [LINK, "localhost", *([self.host] if self.host else [])])
        common = {"ids_key": os.urandom(32).hex().encode()} if self.apart else {}
        contents = {"ca.pem": link.ca, "cert.pem": link.certificate, "key.pem": link.key, "superexec": shared}
        _fill(out / LINK / "settings", contents)
        (out / LINK / "state").mkdir(mode=0o700)
        own = {"ca.pem": link.ca, **self._draw_secret(), **common}
        scenario = scenario_text(self.file.without_folder()).encode()
        _fill(out / "seats" / hub / "settings", {**own, "superexec": shared, "scenario.yaml": scenario})
        run = {"ca.pem": link.ca, "config.toml": CONNECTION.format(address=f"{LINK}:{PORT}").encode()}
        ways = name_networks(parties) if not self.host else {}
        services = {LINK: self._link(), HUB: self._hub(hub)}
        for name in (LINK, HUB):
            services[name]["networks"] = [*dict.fromkeys([FEDERATION, *ways.values()])]
        for party in parties:
            private, public = node_keys()
            run[f"{party}.pub"] = public
            own = {"ca.pem": link.ca, "node": private, **self._draw_secret(), **common}
            own |= {"scenario.yaml": scenario, "sharing.yaml": SHARING}
            _fill(out / "seats" / party / "settings", own)
            if self.host:
                there = {f"party-{party}": self._party(party, ".", FEDERATION), GATE: self._gate()}
                _compose(out / "seats" / party / "compose.yaml", there, {**close_networks([FEDERATION]), OUTSIDE: {}})
            else:
                services[f"party-{party}"] = self._party(party, f"./seats/{party}", ways[party])
        for seat in (hub, *parties):
            (out / "seats" / seat / "data").mkdir(mode=0o700)
            (out / "seats" / seat / "runs").mkdir(mode=0o700)
            if self.lasting and seat != hub:  # the hub's lie in its run folder
                (out / "seats" / seat / "checkpoints").mkdir(mode=0o700)
        _fill(out / RUN / "settings", run)
        _fill(out / RUN / "app", {"pyproject.toml": (APP + self._settings()).encode()})
        services[REGISTER] = self._submission(REGISTER, **_after(LINK))
        restarts = max(arm.restarts for arm in self.file.arms().values())
        services[RUN] = self._submission(RUN, str(restarts), **_after(LINK, REGISTER), profiles=[RUN])
        closed = close_networks([FEDERATION, *ways.values()])
        _compose(out / "compose.yaml", services, {FEDERATION: reachable_network()} if self.host else closed)

    def _draw_secret(self) -> dict[str, bytes]:
        """The file with a seat's own secret: another for each seat."""
        return {} if self.simulate else {"secret": os.urandom(32).hex().encode()}

    def _settings(self) -> str:
        """What the Flower app is told of the hub."""
        settings: dict[str, Any] = {
            "scenario": "/settings/scenario.yaml",
            "profile": "",
            "set": "",
            "out": "/runs/run",
            "resume": False,
            "listen": f"0.0.0.0:{DATA_PORT}",
            "advertise": HUB,
            "wait": self.wait,
            "transport": "stream",
            "data": "/data",
            "secret": "" if self.simulate else "/settings/secret",
            "ids_key": "/settings/ids_key" if self.apart else "",
            "simulate": self.simulate,
        }
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())

    def _link(self) -> dict[str, Any]:
        command = ["flower-superlink", "--host", "0.0.0.0", "--port", str(PORT), "--isolation", "process"]
        for option, name in (("ca-certfile", "ca"), ("certfile", "cert"), ("keyfile", "key")):
            command += [f"--ssl-{option}", f"/settings/{name}.pem"]
        command += ["--enable-supernode-auth", "--superexec-auth-secret-file", "/settings/superexec"]
        command += ["--database", "/state/flower.db"]
        mounted = {f"./{LINK}/settings": "/settings:ro", f"./{LINK}/state": "/state"}
        published = {"ports": [publish_port(self.host, PORT)]} if self.host else {}
        more: dict[str, Any] = {**LASTING, **_healthy(PORT), **published}
        return self._service(command, mounted, LINK, carries_data=True, **more)

    def _hub(self, hub: RoleId) -> dict[str, Any]:
        command = [
            "flower-superexec",
            "--runtime-api-address",
            f"{LINK}:{PORT}",
            "--root-certificates",
            "/settings/ca.pem",
        ]
        command += ["--superexec-auth-secret-file", "/settings/superexec"]
        command += ["--health-server-address", f"127.0.0.1:{NODE_PORT}"]
        folder = f"./seats/{hub}"
        mounted = {f"{folder}/settings": "/settings:ro", f"{folder}/data": "/data:ro", f"{folder}/runs": "/runs"}
        published = {"ports": [publish_port(self.host, DATA_PORT)]} if self.host else {}
        more: dict[str, Any] = {**LASTING, **_after(LINK), **_healthy(NODE_PORT), **published}
        return self._service(command, mounted, HUB, carries_data=True, **more)

    def _gate(self) -> dict[str, Any]:
        """The only way out of a party's machine, to the hub's: it answers to the names of what lies behind it."""
        command = ["python", "-m", "fedsim.runtime._gate", str(self.host), str(PORT), str(DATA_PORT)]
        networks = {FEDERATION: {"aliases": [LINK, HUB]}, OUTSIDE: {}}
        return self._service(command, {}, GATE, networks=networks, restart=LASTING["restart"])

    def _party(self, party: RoleId, folder: str, network: str) -> dict[str, Any]:
        tables = {"ids_key": "/settings/ids_key"} if self.apart else {}
        own = {"simulate": True} if self.simulate else {"secret": "/settings/secret"}
        node: dict[str, Any] = {"party": party, "data": "/data", **own, **tables}
        node |= {"agrees": "/settings/scenario.yaml", "runs": "/runs", "sharing": "/settings/sharing.yaml"}
        if self.lasting:
            node["checkpoints"] = "/checkpoints"
        command = ["flower-supernode", "--superlink", f"{LINK}:{PORT}", "--port", str(NODE_PORT)]
        command += ["--root-certificates", "/settings/ca.pem", "--auth-supernode-private-key", "/settings/node"]
        command += ["--node-config", " ".join(f"{name}={json.dumps(value)}" for name, value in node.items())]
        mounted = {f"{folder}/settings": "/settings:ro", f"{folder}/data": "/data:ro", f"{folder}/runs": "/runs"}
        if self.lasting:
            mounted[f"{folder}/checkpoints"] = "/checkpoints"
        after = {} if self.host else _after(LINK, REGISTER)
        more: dict[str, Any] = {**LASTING, **after, **_healthy(NODE_PORT), "networks": [network]}
        return self._service(command, mounted, f"party-{party}", carries_data=True, **more)

    def _submission(self, task: str, *words: str, **more: Any) -> dict[str, Any]:
        mounted = {f"./{RUN}/settings": "/settings:ro", f"./{RUN}/app": "/app:ro"}
        return self._service(["python", "-m", "fedsim.runtime._submission", task, *words], mounted, task, **more)

    @property
    def apart(self) -> bool:
        """Whether each seat has a table of its own, which no other container sees."""
        return any(seat.meet for arm in self.file.arms().values() for seat in arm.plan().seats.values())

    @property
    def lasting(self) -> bool:
        """Whether any arm takes checkpoints."""
        return any(arm.checkpoint for arm in self.file.arms().values())

    def _service(
        self, command: list[str], mounted: Mapping[str, str], name: str, carries_data: bool = False, **more: Any
    ) -> dict[str, Any]:
        """A container that may do nothing but its task, and write nowhere but to memory."""
        uid = os.geteuid() or USER
        return {
            "image": self.image,
            "command": command,
            "hostname": name,
            "user": f"{uid}:{os.getegid() or USER}",
            "init": True,
            **limit_service(carries_data),
            "environment": {**SWITCHES, "no_proxy": UNPROXIED, "NO_PROXY": UNPROXIED},
            "networks": [FEDERATION],
            "volumes": [f"{source}:{target}" for source, target in mounted.items()],
            **more,
        }


def _parties(plans: Iterable[Plan]) -> list[RoleId]:
    """Every seat of any arm but the hub's."""
    found = dict.fromkeys(role for plan in plans for role in plan.roster if role != plan.hub)
    for role in found:
        if not re.fullmatch(r"[a-zA-Z0-9][\w.-]*", role, re.ASCII):
            raise ConfigError(
                f"seat '{role:.80}': a container's name has letters of ASCII, digits, '_', '.' and '-' only"
            )
    return list(found)


def _fill(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir(mode=0o700, parents=True)
    for name, content in contents.items():
        create_file(folder / name, content)


def _compose(path: Path, services: Mapping[str, Any], networks: Mapping[str, Any]) -> None:
    whole = {"version": "3.8", "services": dict(services), "networks": dict(networks)}
    text = "# made by fedsim compose\n" + yaml.safe_dump(whole, sort_keys=False, width=120)
    create_file(path, text.encode(), SHARED)


def _after(*services: str) -> dict[str, Any]:
    """Start once the SuperLink listens, and once what is to be done first has been done."""
    states = {LINK: "service_healthy", REGISTER: "service_completed_successfully"}
    return {"depends_on": {service: {"condition": states[service]} for service in services}}


def _healthy(port: int) -> dict[str, Any]:
    knock = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
    check = {"test": ["CMD", "python", "-c", knock], "interval": "5s", "timeout": "5s", "retries": 24}
    return {"healthcheck": check}
