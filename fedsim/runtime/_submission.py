"""What the containers ``register`` and ``run`` of `fedsim compose` do with Flower's own command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SETTINGS, APP = Path("/settings"), "/app"


def main() -> None:
    """``register`` makes the parties known to the SuperLink, which turns others away; else hand the app in and see it end."""
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_bytes((SETTINGS / "config.toml").read_bytes())
    sys.exit(_register() if sys.argv[1:] == ["register"] else _run())


def _register() -> int:
    """The exit code: 0 if the SuperLink knows all of them, those that it knew before as well."""
    for key in sorted(SETTINGS.glob("*.pub")):
        said = subprocess.run(["flwr", "supernode", "register", str(key)], capture_output=True, text=True, check=False)
        if said.returncode and "already" not in said.stdout + said.stderr:
            print(f"{key.stem}: not registered: {said.stdout}{said.stderr}", file=sys.stderr)
            return 1
        print(f"{key.stem}: registered")
    return 0


def _run() -> int:
    """The exit code: 0 if the run was completed. Flower's own says only that it was handed in."""
    if subprocess.run(["flwr", "run", APP, "--stream"], check=False).returncode:
        return 1
    listed = subprocess.run(["flwr", "list", "--format", "json"], capture_output=True, text=True, check=True).stdout
    last = max(json.loads(listed)["runs"], key=lambda run: str(run["pending-at"]))
    print(f"run {last['run-id']}: {last['status']} {last['status-details']}".rstrip())
    return int(last["status"] != "finished:completed")


if __name__ == "__main__":
    main()
