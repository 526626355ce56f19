"""Commands on terminals that cannot show everything, into pipes that close and onto disks that are full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from terminal import TABLE, refused, write_table

from fedsim.cli.streams import SPELLINGS, explain_machine_error, spell
from fedsim.errors import restore_text

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TERMINALS: Mapping[str, Mapping[str, str]] = {
    "C locale": ASCII,
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp437": {"PYTHONIOENCODING": "cp437"},
    "dumb": {"TERM": "dumb", "NO_COLOR": "1", "PYTHONIOENCODING": "ascii"},
}


def called(*words: str | bytes, env: Mapping[str, str], **more: object) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONIO", "PYTHONUTF8"))}
    command = [sys.executable, "-m", "fedsim", *words]
    return subprocess.run(command, env={**environment, **env}, capture_output=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    ("terminal", "words"),
    [
        *((terminal, "doctor") for terminal in TERMINALS),
        ("ascii", "check leakage"),
        ("C locale", "show cafe"),
        ("dumb", "run --help"),
    ],
)
def test_a_command_survives_the_terminal(terminal: str, words: str) -> None:
    done = called(*words.split(), env=TERMINALS[terminal])
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) > 500
    if terminal != "latin-1" and terminal != "cp437":
        assert done.stdout.isascii()
    done.stdout.decode("latin-1" if terminal == "latin-1" else "cp437")


@pytest.mark.parametrize("terminal", TERMINALS)
def test_an_error_survives_the_terminal(terminal: str, tmp_path: Path) -> None:
    done = called("check", "größe…日\udcff", env=TERMINALS[terminal], cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"fedsim: no file and no scenario '")


@pytest.mark.parametrize("runtime", ["local", "processes"])
def test_names_of_files_and_columns_with_accents_work_in_an_ascii_locale(tmp_path: Path, runtime: str) -> None:
    write_table(tmp_path / "größe.csv")
    (tmp_path / "größe.csv").write_text((tmp_path / "größe.csv").read_text().replace("u,v", "ü,v"), "utf-8")
    text = TABLE.replace("table.csv", "größe.csv").replace('"u, v"', '"ü, v"').replace("{a:", "{Köln:")
    (tmp_path / "größe.yaml").write_text(text, "utf-8")
    done = called("run", "größe.yaml", "--runtime", runtime, "--out", "öut", env=ASCII, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).isascii()
    assert "größe.yaml" in (tmp_path / "öut/manifest.json").read_text("utf-8")
    assert "Köln" in (tmp_path / "öut/scenario.yaml").read_text("utf-8")


def test_a_reader_that_goes_away_is_no_news() -> None:
    command = f"{sys.executable} -m fedsim list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")  # whether it was read to its end


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "fedsim", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("fedsim: no space left on device: make room there")


@pytest.mark.parametrize("home", ["/proc/none", ""])
def test_a_home_that_cannot_be_written_to_is_no_news(home: str, tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    done = called("run", "s.yaml", "--out", "o", env={"HOME": home, "MPLCONFIGDIR": ""}, cwd=tmp_path)
    assert (done.returncode, [line for line in done.stderr.splitlines() if not line.startswith(b"s: ")]) == (0, [])
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "s.yaml", "o"}


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&- 2>&-"])
def test_streams_may_be_closed(closed: str) -> None:
    command = f"{sys.executable} -m fedsim list {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert refused("list").startswith(
        "the current folder cannot be used (no such file or directory): change to another"
    )


def test_errors_of_the_machine_say_what_to_do_and_others_stay_what_they_are() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y")
    assert explain_machine_error(full).startswith("/x/y: no space left on device: make room there")
    assert "ulimit -n" in explain_machine_error(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert explain_machine_error(FileNotFoundError(errno.ENOENT, "x", "y")) == ""


def test_every_spelling_is_ascii() -> None:
    assert "".join(SPELLINGS.values()).isascii()
    assert "".join(map(spell, "größe … │ ╭ ⠋ 日 \udcff")) == "grosse ... | + * ? ?"


def test_an_argument_that_is_no_utf8_is_text_all_the_same() -> None:
    assert restore_text("größe") == "größe"
    assert restore_text("gr\udcc3\udcb6sse \udcff") == "grösse \N{REPLACEMENT CHARACTER}"
