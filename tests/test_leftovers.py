"""A process that is killed leaves its temporary folder; the next one removes it, and nothing that is anybody else's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedsim.runtime._leftovers import OWNER, make_owned_folder, remove_leftovers

MAKE = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from fedsim.runtime._leftovers import make_owned_folder
folder = make_owned_folder("fedsim-test-", 0)
(folder / "inner").mkdir()
(folder / "inner/rows").write_text("rows of somebody")
print(folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def start(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", MAKE, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_has_left_is_removed_and_nothing_else(place: Path) -> None:
    killed, left = start(place)
    alive, used = start(place)
    others = [place / "fedsim-test-unmarked", place / "fedsim-test-elsewhere", place / "other-1"]
    for other in others:
        other.mkdir()
    (others[1] / OWNER).write_text("1 another-machine pid:[1] 5")
    (others[2] / OWNER).write_text((left / OWNER).read_text())
    (target := place / "target").mkdir()
    (target / OWNER).write_text((left / OWNER).read_text())
    (place / "fedsim-test-link").symlink_to(target)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    mine = make_owned_folder("fedsim-test-", 0)
    assert not left.exists()
    assert all(path.is_dir() for path in (mine, used, target, *others))
    assert mine.stat().st_mode & 0o777 == 0o700
    assert (mine / OWNER).stat().st_mode & 0o777 == 0o600
    alive.kill()
    alive.wait()
    remove_leftovers(place, "fedsim-test-")
    assert (used.exists(), mine.exists()) == (False, True)
    for process in (killed, alive):
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def test_a_number_that_another_process_has_now_is_no_owner(place: Path) -> None:
    folder = make_owned_folder("fedsim-test-", 0)
    words = (folder / OWNER).read_text().split(" ")
    (folder / OWNER).write_text(" ".join([*words[:-1], "5"]))
    assert int(words[0]) == os.getpid()
    remove_leftovers(place, "fedsim-test-")
    assert not folder.exists()
