"""Flower on this machine: a SuperLink and a SuperNode for each party, on loopback, each with a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fedsim.config import ScenarioFile
from fedsim.errors import TransportBroken
from fedsim.message import RoleId
from fedsim.runtime._causes import SILENCE, find_cause
from fedsim.runtime._environment import (
    child_environment,
    describe_full_disk,
    describe_ignored,
    explained_writes,
    foreign_variables,
    make_short_folder,
    usable_home,
)
from fedsim.transport.addresses import find_loopback, free_port, join_address

KEEPER = "from fedsim.runtime import _keeper; _keeper.main()"
START = 120.0
"""Seconds in which a process of Flower must be at work on a busy machine; one that ends meanwhile is noticed at once."""
TICK = 0.05
"""Seconds between two looks at what cannot be waited for."""
PREFIX = "FLWR_"
"""How the names of the environment variables begin that Flower reads."""
VOICE = "FEDSIM_VOICE"
"""The environment variable that tells Flower's processes where the one that started them listens."""
SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",  # for the whole run, in a process a seat: less would slow the training down
    "GRPC_VERBOSITY": "NONE",
}
APP = """\
[project]
name = "fedsim-run"
version = "1.0.0"
description = "a scenario"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedsim"

[tool.flwr.app.components]
serverapp = "fedsim.flower_app:server"
clientapp = "fedsim.flower_app:client"

[tool.flwr.app.config]
"""
"""A Flower app that is nothing but fedsim's own; the settings of its run follow."""
CONNECTION = """\
[superlink]
default = "here"

[superlink.here]
address = "{address}"
insecure = true
"""


class Deployment:
    """A SuperLink and its SuperNodes, from start to `end`.

    Attributes:
        parties: who has a SuperNode, with the environment variables that are its own.
        voice: the path of the socket at which the processes are to tell how they are getting on.
        on_end: called with the name and the exit code of a process that has ended; from a thread.
    """

    def __init__(self, parties: Mapping[RoleId, Mapping[str, str]], verbose: bool) -> None:
        """Start all of it.

        Args:
            parties: for each the environment variables of its processes.
            verbose: let through what they print.

        Raises:
            TransportBroken: the SuperLink does not come up; with its last words.
        """
        self.parties, self._verbose = dict(parties), verbose
        self._begin()

    def _begin(self) -> None:
        self.on_end: Callable[[str, int], None] = lambda name, code: None
        self.ended: dict[str, int] = {}
        self._host = find_loopback()
        self._folder = make_short_folder("fedsim-flower-", len("/voice"))
        self.voice = self._folder / "voice"
        self._runs = 0
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-c", KEEPER, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment("keeper"),
            start_new_session=True,  # Ctrl-C is for the process that started all
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            with explained_writes(self._folder):
                self._start(self.parties)
        except BaseException:
            self.end()
            raise

    def mend(self) -> None:
        """Start all of it again if the SuperLink or a SuperNode has died: what has outlived it is ended first.

        Raises:
            TransportBroken: the SuperLink does not come up; with its last words.
        """
        if any(name.startswith("super") for name in self.ended):
            self.end()
            self._begin()

    def submit(self, file: ScenarioFile) -> str:
        """Hand in one arm as a Flower app; the name under which its submission may fail."""
        self._runs += 1
        app, arm = self._folder / f"app-{self._runs}", json.dumps(json.dumps(file.resolved()))
        with explained_writes(self._folder):
            app.mkdir()
            (app / "pyproject.toml").write_text(f"{APP}arm = {arm}\n", "utf-8")
        self._order(f"run-{self._runs}", "flwr", "run", str(app), home="run")
        return f"run-{self._runs}"

    def find_cause(self, name: str) -> str:
        """Find in what a process has printed why it ended."""
        if full := describe_full_disk(self._folder):
            return full
        with contextlib.suppress(OSError):
            return find_cause((self._folder / f"{name}.log").read_text("utf-8", errors="replace"))
        return "see above" if self._verbose else SILENCE

    def end(self) -> None:
        """Leave nothing behind."""
        self.on_end = lambda name, code: None
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()
        self._keeper.wait()
        self._listener.join()
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()

    def _start(self, parties: Mapping[RoleId, Mapping[str, str]]) -> None:
        host, port = self._host, free_port(self._host)
        address = join_address(host, port)
        (self._folder / "run").mkdir()
        (self._folder / "run" / "config.toml").write_text(CONNECTION.format(address=address), "utf-8")
        self._order("superlink", "flower-superlink", "--insecure", "--host", host, "--port", str(port))
        self._await_port(port)
        for i, (party, more) in enumerate(parties.items()):
            node = ("--superlink", address, "--host", host, "--port", str(free_port(host)))
            config = f"party={json.dumps(party)} simulate=true"
            self._order(f"supernode-{i}", "flower-supernode", "--insecure", *node, "--node-config", config, more=more)

    def _await_port(self, port: int) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and "superlink" not in self.ended:
            with contextlib.suppress(OSError), socket.create_connection((self._host, port), timeout=START):
                return
            time.sleep(TICK)
        raise TransportBroken(f"Flower's SuperLink does not start: {self.find_cause('superlink')}")

    def _order(
        self, name: str, program: str, *words: str, home: str = "", more: Mapping[str, str] | None = None
    ) -> None:
        command = [str(Path(sys.executable).with_name(program)), *words]
        environment = {**self._environment(home or name), **(more or {})}
        order = {"name": name, "command": command, "environment": environment, "verbose": self._verbose}
        assert self._keeper.stdin is not None
        try:
            self._keeper.stdin.write(json.dumps(order) + "\n")
            self._keeper.stdin.flush()
        except OSError as error:
            raise TransportBroken("the process that keeps those of Flower was killed") from error

    def _environment(self, home: str) -> dict[str, str]:
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        own = {"PATH": path, "FLWR_HOME": str(self._folder / home), VOICE: str(self.voice)}
        return child_environment({**SWITCHES, **own, **usable_home(self._folder)}, engine=PREFIX)

    def _listen(self) -> None:
        assert self._keeper.stdout is not None
        for line in self._keeper.stdout:
            name, code = json.loads(line)
            self.ended[name] = code
            self.on_end(name, code)


def describe_ignored_settings() -> str:
    """One line about variables for Flower that the processes started here do not get; empty if there are none."""
    return describe_ignored(foreign_variables(PREFIX, SWITCHES), "Flower")


def tell() -> socket.socket | None:
    """A connection to the process that started this one as a part of Flower; None if somebody else did."""
    if not os.environ.get(VOICE):
        return None
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[VOICE])
    return connection
