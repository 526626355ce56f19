"""The container engine of this machine: is there one, and calls of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINNED = re.findall(r"^ARG BASE=(.+)$", (ROOT / "docker" / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)[0]
BASE = PINNED.partition("@")[0]
"""The base image of fedsim's: by its digest, and by the name that a stand-in has where no registry can be reached."""
PROJECT = f"fedsim{os.getpid()}"
"""How the names begin under which compose knows what this process has started."""


def docker(*words: str, given: str = "") -> str:
    """What ``docker WORDS`` prints, called in the root of the project."""
    return _call(["docker", *words], given)


def compose(folder: Path, *words: str, project: str) -> str:
    """What compose, of either version, prints for the file in ``folder``."""
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    return _call([*program, "-f", str(folder / "compose.yaml"), "-p", project, *words], "")


def why_no_engine() -> str:
    """Why containers cannot be run here, or nothing."""
    if shutil.which("docker") is None:
        return "no docker"
    try:
        _call(["docker", "version"], "")
        compose(ROOT, "version", project=PROJECT)
    except RuntimeError as error:
        return f"no container engine, or no compose: {error}"
    try:
        base_image()
    except RuntimeError as error:
        return f"no image {BASE}: {error}"
    return ""


def base_image() -> str:
    """The base image as the build is to name it: a stand-in of this machine has no digest.

    Raises:
        RuntimeError: there is none here, and none can be pulled.
    """
    for name in (PINNED, BASE):
        try:
            _call(["docker", "image", "inspect", name], "")
        except RuntimeError:
            continue
        return name
    _call(["docker", "pull", "-q", PINNED], "")
    return PINNED


def _call(command: list[str], given: str) -> str:
    environment = {**os.environ, "DOCKER_BUILDKIT": os.environ.get("DOCKER_BUILDKIT", "0")}
    said = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, errors="replace"
    )
    if said.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]}: {(said.stdout + said.stderr).strip()[-2000:]}")
    return said.stdout
