"""What the containers ``register`` and ``run`` of `fedsim compose` do with Flower's own command."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fedsim.errors import FedsimError, TransportBroken
from fedsim.printable import print_text

SETTINGS, APP = Path("/settings"), "/app"
TOLD = "ServerApp failed with exception"
"""How the details of a run begin that ended by an error of the ServerApp's own, which would come again."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What Flower colours its log with."""
APART = 1.0
"""Seconds between two questions to a SuperLink that does not answer."""


def main() -> None:
    """``register`` makes the parties known to the SuperLink, which turns others away; ``run N`` hands the app in, sees it
    end, and hands it in again, to go on from the last checkpoint, as often as N times when its ServerApp is lost.
    """
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_bytes((SETTINGS / "config.toml").read_bytes())
    sys.exit(_register() if sys.argv[1] == "register" else _run(int(sys.argv[2])))


def _register() -> int:
    """The exit code: 0 if the SuperLink knows all of them, those that it knew before as well."""
    for key in sorted(SETTINGS.glob("*.pub")):
        said = subprocess.run(["flwr", "supernode", "register", str(key)], capture_output=True, text=True, check=False)
        if said.returncode and "already" not in said.stdout + said.stderr:
            print_text(f"{key.stem}: not registered: {said.stdout}{said.stderr}", err=True)
            return 1
        print(f"{key.stem}: registered")
    return 0


def _run(restarts: int) -> int:
    """The exit code: 0 if the run was completed. Flower's own says only that it was handed in."""
    from fedsim.supervision import supervised  # takes seconds, for which the parties need not wait

    before = itertools.count()
    try:
        return supervised(lambda: _played(resume=next(before) > 0), restarts, print_text)
    except FedsimError as error:
        print_text(error, err=True)
        return 1


def _played(resume: bool) -> int:
    """Hand the app in, anew or to go on with what lies in the run folder, and see it end; the exit code.

    Raises:
        TransportBroken: its ServerApp was lost.
        FedsimError: the SuperLink does not take it.
    """
    said = _flwr("run", APP, "--run-config", f"resume={json.dumps(resume)}", "--format", "json")
    if not said.get("success"):
        raise FedsimError(f"the run was not handed in: {said.get('error-message', 'see above')}")
    run = _followed(said["run-id"])
    outcome = f"run {run['run-id']}: {run['status']} {run['status-details']}".rstrip()
    if run["status"] == "finished:failed" and not run["status-details"].startswith(TOLD):
        raise TransportBroken(f"{outcome}: the ServerApp is gone")
    print_text(outcome)
    return int(run["status"] != "finished:completed")


def _followed(number: str) -> dict[str, Any]:
    """Show the log of a run until it has ended, also when the SuperLink goes and comes back; what is known of it then."""
    shown = 0
    while True:
        with subprocess.Popen(
            ["flwr", "log", number, "--stream"], stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
        ) as log:
            assert log.stdout is not None
            for nth, line in enumerate(log.stdout, 1):
                if nth > shown:
                    print_text(COLOURS.sub("", line.rstrip("\n")))
                    shown = nth
        for run in _flwr("list", "--run-id", number, "--format", "json").get("runs", ()):
            if run["status"].startswith("finished"):
                return dict(run)
        time.sleep(APART)


def _flwr(*words: str) -> dict[str, Any]:
    """What Flower's command says in JSON; nothing if it says anything else."""
    said = subprocess.run(
        ["flwr", *words], stdout=subprocess.PIPE, encoding="utf-8", errors="replace", check=False
    ).stdout
    try:
        return dict(json.loads(said))
    except ValueError:
        return {}


if __name__ == "__main__":
    main()
