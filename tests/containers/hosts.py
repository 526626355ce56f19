"""Hosts of a network that this machine makes up: namespaces, joined by veth pairs to a bridge in a namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEAR, FAR = "10.77.0", "10.78.0"
"""The networks of the bridge, and of the switch with faults."""
PATIENCE = 300.0
"""Seconds after which what does not happen has failed, on a machine however busy."""


def ip(*words: str) -> None:
    """Call ip(8).

    Raises:
        OSError: it does not do as it is told; with its words.
    """
    said = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if said.returncode:
        raise OSError(f"ip {' '.join(words)}: {said.stderr.strip()}")


class Lab:
    """Hosts that reach each other by a bridge at once, and by `far` addresses through a switch with faults.

    Attributes:
        hosts: their names, as given; each has a namespace of another name.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = tuple(hosts)
        self._mark = f"fedsim{os.getpid()}"
        self._made: list[str] = []
        self._far: subprocess.Popen[str] | None = None

    def __enter__(self) -> Lab:
        try:
            self._make()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def namespace(self, host: str) -> str:
        """The namespace of a host."""
        return f"{self._mark}-{host}"

    def near(self, host: str) -> str:
        """A host's address on the bridge."""
        return f"{NEAR}.{self.hosts.index(host) + 1}"

    def far(self, host: str) -> str:
        """A host's address behind the switch with faults."""
        return f"{FAR}.{self.hosts.index(host) + 1}"

    def command(self, host: str, *words: str) -> list[str]:
        """The words of a command that runs on a host."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(host)}", *words]

    def cut(self, host: str) -> None:
        """Take the link of a host down; it notices nothing but silence."""
        ip("-n", self.namespace(""), "link", "set", f"v{self.hosts.index(host)}", "down")

    def mend(self, host: str) -> None:
        """Take it up again."""
        ip("-n", self.namespace(""), "link", "set", f"v{self.hosts.index(host)}", "up")

    def join(self, seed: int = 0) -> None:
        """Join the hosts a second time, by `far` addresses; what is drawn for `faults` follows from the seed."""
        places = [f"{self.namespace(host)}={self.far(host)}/24" for host in self.hosts]
        command = [sys.executable, str(HERE / "tapswitch.py"), str(seed), *places]
        self._far = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._far.stdout is not None
        assert self._far.stdout.readline() == "ready\n", "the switch with faults does not start"

    def faults(self, host: str, *ways: str, **faults: float) -> None:
        """From now on so much goes wrong with what leaves a `far` address (``up``), or comes to it (``down``)."""
        assert self._far is not None
        assert self._far.stdin is not None
        for way in ways:
            order = {"to": self.namespace(host), "way": way, "faults": faults}
            self._far.stdin.write(json.dumps(order) + "\n")
        self._far.stdin.flush()

    def delay(self, milliseconds: float) -> None:
        """Every frame between `far` addresses arrives so much later, and nothing else goes wrong."""
        for host in self.hosts:
            self.faults(host, "up", delay=milliseconds / 1000)
            self.faults(host, "down")

    def _make(self) -> None:
        for host in ("", *self.hosts):
            ip("netns", "add", self.namespace(host))
            self._made.append(self.namespace(host))
        middle = self.namespace("")
        ip("-n", middle, "link", "add", "br0", "type", "bridge")
        ip("-n", middle, "link", "set", "br0", "up")
        for i, host in enumerate(self.hosts):
            own = self.namespace(host)
            ip("-n", middle, "link", "add", f"v{i}", "type", "veth", "peer", "name", "eth0", "netns", own)
            ip("-n", middle, "link", "set", f"v{i}", "master", "br0", "up")
            ip("-n", own, "addr", "add", f"{self.near(host)}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", own, "link", "set", device, "up")

    def _end(self) -> None:
        if self._far is not None:
            self._far.kill()
            self._far.communicate()
        for namespace in self._made:
            ip("netns", "del", namespace)


@dataclass
class Ended:
    """How a command on a host has ended: its exit code, and what it said on both of its streams."""

    code: int
    said: str


@dataclass
class Running:
    """A command on a host."""

    pid: int
    log: Path
    host: Host

    def wait(self) -> Ended:
        """How it has ended, when it has."""
        deadline = time.monotonic() + PATIENCE
        while (code := self.host.tell(wait=self.pid)) is None:
            assert time.monotonic() < deadline, f"no end within {PATIENCE:g} s: {self.log.read_text()}"
            time.sleep(0.05)
        return Ended(code, self.log.read_text())


class Host:
    """A process on a host that has imported fedsim once, and forks for each of its commands."""

    def __init__(self, lab: Lab, name: str, folder: Path) -> None:
        self.name, self._folder, self._count = name, folder, 0
        words = lab.command(name, sys.executable, str(HERE / "_forks.py"))
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE.parent}"}
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=env
        )

    def start(self, *words: str | Path, **environment: str) -> Running:
        """Begin ``fedsim WORDS``, or if the first is ``hostile`` or ``loris`` what `_forks` has for that."""
        self._count += 1
        log = self._folder / f"{self.name}-{self._count}.log"
        return Running(self.tell(start=list(map(str, words)), environment=environment, log=str(log)), log, self)

    def tell(self, **order: Any) -> Any:
        """Give an order and take the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        """Leave nothing; what still runs is killed."""
        self._process.communicate(timeout=PATIENCE)


@contextlib.contextmanager
def hosts(lab: Lab, folder: Path) -> Iterator[dict[str, Host]]:
    """A process on each host of a lab."""
    all_: dict[str, Host] = {}
    try:
        for name in lab.hosts:
            all_[name] = Host(lab, name, folder)
        yield all_
    finally:
        for host in all_.values():
            host.end()


def why_no_namespaces() -> str:
    """Why this machine cannot make hosts up, or nothing; tried, not guessed."""
    if os.geteuid():
        return "not root"
    try:
        with Lab(["a", "b"]) as lab:
            subprocess.run(lab.command("a", "true"), check=True, capture_output=True)
            lab.join()
    except (OSError, subprocess.CalledProcessError, AssertionError) as error:
        return f"no network namespaces with veth, bridge and TAP: {error}"
    return ""
