"""Writes a run over another one and is killed just before its nth change to a file, for many n; a script of its own.

Usage: ``python killing.py FOLDER STEP``. It plays a small run, writes it to FOLDER, and then, for every STEPth n until a
process comes to its end, starts a process that writes the same run again and is killed. After each it reads the folder as
anybody would, and prints a line of JSON: which of the two runs it found, and how often it found which in the end. The runs
are told apart by the command in their manifest.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from small import small

from fedsim.report import manifest, page, reading
from fedsim.report.folder import RunFolder
from fedsim.report.summary import Arm
from fedsim.runtime.local import Local

CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "shutil.rmtree"}
FILE = small("labels")
PAGE: list[str] = []


def write(folder: Path, arms: list[Arm], name: str) -> None:
    with RunFolder.open_for(folder, FILE, [name]) as run:
        run.write(arms)
        run.write_page(render(run.conclude()))


def render(run: reading.Run) -> str:
    """The page, drawn once: that takes longer than all the rest."""
    if not PAGE:
        PAGE.append(page.render([run]))
    return PAGE[0]


def kill_before(nth: int) -> None:
    """From now on, die before the nth change to a file."""
    left = nth

    def look(event: str, arguments: Any) -> None:
        nonlocal left
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or opened:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def examine(folder: Path, inodes: dict[str, int]) -> str:
    """Which run a reader finds in the folder, after looking at all of its files."""
    run = reading.read(folder)
    assert run.manifest["status"] == "complete", run.manifest
    assert reading.load_seats(folder).keys() == {"server", "north", "east"}
    assert run.rows
    (name,) = run.manifest["command"]
    found = {path: (folder / path).stat().st_ino for path in inodes}  # every file is there
    assert set(found) == {str(path.relative_to(folder)) for path in visible(folder)}
    if name == "old":
        assert found == inodes
    else:
        assert not {path for path in found if path != "notes.txt" and found[path] == inodes[path]}
    assert (folder / "notes.txt").read_text() == "mine"
    return name


def visible(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def main(folder: Path, step: int) -> None:
    manifest.versions = functools.cache(manifest.versions)
    manifest.revision = functools.cache(manifest.revision)
    arms = [Arm(FILE.name, FILE, Local().run(FILE, lambda role, row: None), 1.0)]
    found = {"old": 0, "new": 0}
    for nth in range(1, 1000, step):
        shutil.rmtree(folder, ignore_errors=True)
        write(folder, arms, "old")
        (folder / "notes.txt").write_text("mine")
        inodes = {str(path.relative_to(folder)): path.stat().st_ino for path in visible(folder)}
        child = os.fork()
        if not child:
            kill_before(nth)
            write(folder, arms, "new")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        name = examine(folder, inodes)
        found[name] += 1
        print(json.dumps({"nth": nth, "code": code, "found": name}))
        if code == 0:
            assert name == "new"
            break
        write(folder, arms, "newer")  # whatever was left behind is no hindrance
        assert reading.read_manifest(folder)["command"] == ["newer"]
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
