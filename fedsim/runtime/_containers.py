"""A federation in containers: who runs where, with what in its folder, as a compose file that docker-compose 1.29 reads, too.

Every seat has a folder with its settings and its data, and its container mounts that folder and no other.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedsim.config import ScenarioFile
from fedsim.errors import ConfigError
from fedsim.files import create_file
from fedsim.message import RoleId
from fedsim.plan import Plan
from fedsim.report.fresh import fresh_folder
from fedsim.report.writing import scenario_text
from fedsim.runtime._deployment import APP, SWITCHES
from fedsim.transport.certificates import HOST, Authority, node_keys

LINK, HUB, RUN, REGISTER = "superlink", "hub", "run", "register"
"""The services beside those of the parties, which are called ``party-`` and their name."""
PORT, DATA_PORT, NODE_PORT = 8000, 7000, 9094
"""Where SuperLink, the hub and (inside its container only) each SuperNode listen."""
UNPROXIED = ",".join(("localhost", "127.0.0.1", "::1", LINK, HUB))
"""Hosts that containers reach without a proxy; Docker hands them that of its own configuration."""
LASTING = {"restart": "unless-stopped"}
"""Of a container: the engine starts it again when it has ended by itself, and after the machine has."""
USER = 10001
"""Whose processes they are, and whose files, if root asks for them; else they are of the user that asks."""
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
    """

    file: ScenarioFile
    host: str | None
    image: str
    wait: float
    days: float

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

    def _write(self, out: Path, hub: RoleId, parties: Iterable[RoleId]) -> None:
        authority, shared = Authority(self.days), os.urandom(32).hex().encode()
        link = authority.identity(LINK, [LINK, "localhost", *([self.host] if self.host else [])])
        secret = {"ids_key": os.urandom(32).hex().encode()} if self.apart else {}
        contents = {"ca.pem": link.ca, "cert.pem": link.certificate, "key.pem": link.key, "superexec": shared}
        _fill(out / LINK / "settings", contents)
        (out / LINK / "state").mkdir(mode=0o700)
        own = {"ca.pem": link.ca, "secret": os.urandom(32).hex().encode(), **secret}
        scenario = scenario_text(self.file.without_folder()).encode()
        _fill(out / "seats" / hub / "settings", {**own, "superexec": shared, "scenario.yaml": scenario})
        (out / "seats" / hub / "runs").mkdir(mode=0o700)
        run = {"ca.pem": link.ca, "config.toml": CONNECTION.format(address=f"{LINK}:{PORT}").encode()}
        services = {LINK: self._link(), HUB: self._hub(hub)}
        for party in parties:
            private, public = node_keys()
            run[f"{party}.pub"] = public
            own = {"ca.pem": link.ca, "node": private, "secret": os.urandom(32).hex().encode(), **secret}
            own["scenario.yaml"] = scenario
            _fill(out / "seats" / party / "settings", own)
            if self.host:
                there = {f"party-{party}": self._party(party, ".")}
                _compose(out / "seats" / party / "compose.yaml", there, internal=False)
            else:
                services[f"party-{party}"] = self._party(party, f"./seats/{party}")
        for seat in (hub, *parties):
            (out / "seats" / seat / "data").mkdir(mode=0o700)
            if self.lasting and seat != hub:  # the hub's lie in its run folder
                (out / "seats" / seat / "checkpoints").mkdir(mode=0o700)
        _fill(out / RUN / "settings", run)
        _fill(out / RUN / "app", {"pyproject.toml": (APP + self._settings()).encode()})
        services[REGISTER] = self._submission(REGISTER, **_after(LINK))
        restarts = max(arm.restarts for arm in self.file.arms().values())
        services[RUN] = self._submission(RUN, str(restarts), **_after(LINK, REGISTER), profiles=[RUN])
        _compose(out / "compose.yaml", services, internal=not self.host)

    def _settings(self) -> str:
        """What the Flower app is told of the hub."""
        settings: dict[str, Any] = {
            "scenario": "/settings/scenario.yaml",
            "profile": "",
            "set": "",
            "out": "/runs/run",
            "resume": False,
            "listen": f"0.0.0.0:{DATA_PORT}",
            "advertise": self.host or HUB,
            "wait": self.wait,
            "transport": "stream",
            "data": "/data",
            "secret": "/settings/secret",
            "ids_key": "/settings/ids_key" if self.apart else "",
        }
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())

    def _link(self) -> dict[str, Any]:
        command = ["flower-superlink", "--host", "0.0.0.0", "--port", str(PORT), "--isolation", "process"]
        for option, name in (("ca-certfile", "ca"), ("certfile", "cert"), ("keyfile", "key")):
            command += [f"--ssl-{option}", f"/settings/{name}.pem"]
        command += ["--enable-supernode-auth", "--superexec-auth-secret-file", "/settings/superexec"]
        command += ["--database", "/state/flower.db"]
        mounted = {f"./{LINK}/settings": "/settings:ro", f"./{LINK}/state": "/state"}
        published = {"ports": [f"{PORT}:{PORT}"]} if self.host else {}
        return self._service(command, mounted, LINK, **LASTING, **_healthy(PORT), **published)

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
        published = {"ports": [f"{DATA_PORT}:{DATA_PORT}"]} if self.host else {}
        return self._service(command, mounted, HUB, **LASTING, **_after(LINK), **_healthy(NODE_PORT), **published)

    def _party(self, party: RoleId, folder: str) -> dict[str, Any]:
        tables = {"ids_key": "/settings/ids_key"} if self.apart else {}
        node = {"party": party, "data": "/data", "secret": "/settings/secret", **tables}
        node["agrees"] = "/settings/scenario.yaml"
        if self.lasting:
            node["checkpoints"] = "/checkpoints"
        command = ["flower-supernode", "--superlink", f"{self.host or LINK}:{PORT}", "--port", str(NODE_PORT)]
        command += ["--root-certificates", "/settings/ca.pem", "--auth-supernode-private-key", "/settings/node"]
        command += ["--node-config", " ".join(f"{name}={json.dumps(value)}" for name, value in node.items())]
        mounted = {f"{folder}/settings": "/settings:ro", f"{folder}/data": "/data:ro"}
        if self.lasting:
            mounted[f"{folder}/checkpoints"] = "/checkpoints"
        after = {} if self.host else _after(LINK, REGISTER)
        return self._service(command, mounted, f"party-{party}", **LASTING, **after, **_healthy(NODE_PORT))

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

    def _service(self, command: list[str], mounted: Mapping[str, str], name: str, **more: Any) -> dict[str, Any]:
        """A container that may do nothing but its task, and write nowhere but to memory."""
        uid = os.geteuid() or USER
        return {
            "image": self.image,
            "command": command,
            "hostname": name,
            "user": f"{uid}:{os.getegid() or USER}",
            "init": True,
            "read_only": True,
            "tmpfs": ["/tmp:mode=1777"],
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "environment": {**SWITCHES, "no_proxy": UNPROXIED, "NO_PROXY": UNPROXIED},
            "networks": ["federation"],
            "volumes": [f"{source}:{target}" for source, target in mounted.items()],
            **more,
        }


def _parties(plans: Iterable[Plan]) -> list[RoleId]:
    """Every seat of any arm but the hub's."""
    found = dict.fromkeys(role for plan in plans for role in plan.roster if role != plan.hub)
    for role in found:
        if not re.fullmatch(r"[a-zA-Z0-9][\w.-]*", role):
            raise ConfigError(f"seat '{role:.80}': a container's name has letters, digits, '_', '.' and '-' only")
    return list(found)


def _fill(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir(mode=0o700, parents=True)
    for name, content in contents.items():
        create_file(folder / name, content, 0o600)


def _compose(path: Path, services: Mapping[str, Any], internal: bool) -> None:
    whole = {"version": "3.8", "services": dict(services), "networks": {"federation": {"internal": internal}}}
    text = "# made by fedsim compose\n" + yaml.safe_dump(whole, sort_keys=False, width=120)
    create_file(path, text.encode())


def _after(*services: str) -> dict[str, Any]:
    """Start once the SuperLink listens, and once what is to be done first has been done."""
    states = {LINK: "service_healthy", REGISTER: "service_completed_successfully"}
    return {"depends_on": {service: {"condition": states[service]} for service in services}}


def _healthy(port: int) -> dict[str, Any]:
    knock = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
    check = {"test": ["CMD", "python", "-c", knock], "interval": "5s", "timeout": "5s", "retries": 24}
    return {"healthcheck": check}
