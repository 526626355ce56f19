"""A run folder may come from a stranger: no command follows a link in it, waits at a pipe, or touches anything elsewhere; and
a run folder of one's own is for nobody else to see."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from file_server import serve
from terminal import TABLE, fedsim, fine, write_table

from fedsim import config, experiment
from fedsim.download import DownloadError, download
from fedsim.errors import ContentError, OutputError
from fedsim.fetch import _alone
from fedsim.files import atomic_write, create_file, make_folder, open_plain, read_file, write_files
from fedsim.report import reading
from fedsim.report.fresh import fresh_folder
from fedsim.report.inspection import inspect_folder
from fedsim.report.lock import FolderLock

CHECKPOINT = "checkpoint: {every: 2}\n"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scenario, a complete run of it, and one with checkpoints that was stopped."""
    home = tmp_path_factory.mktemp("played")
    write_table(home / "table.csv")
    text = TABLE.replace("path: table.csv", f"path: {home / 'table.csv'}")
    (home / "s.yaml").write_text(text)
    (home / "kept.yaml").write_text(text + CHECKPOINT)
    experiment.run(config.read(str(home / "s.yaml")), home / "whole")

    def stopped(title: str, file: Any) -> Any:
        def watch(role: str, row: Any) -> None:
            if row.get("step") == 4:
                raise KeyboardInterrupt

        return watch

    with pytest.raises(KeyboardInterrupt):
        experiment.run(config.read(str(home / "kept.yaml")), home / "cut", started=stopped)
    return home


@pytest.fixture
def here(played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both, as somebody could hand them over, and a folder of the user's that has nothing to do with them."""
    shutil.copytree(played, tmp_path / "given")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("private")
    (tmp_path / "mine/.profile").write_text("private")
    (tmp_path / "mine/step-0000000004-x").write_text("private")
    monkeypatch.chdir(tmp_path / "given")
    return tmp_path


def snapshot(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Every file below a folder: what it holds, its permissions, its inode."""
    return {
        str(path.relative_to(folder)): (path.read_text(), path.stat().st_mode, path.stat().st_ino)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


COMMANDS = {
    "report": ("report", "whole"),
    "report of two": ("report", "other", "whole"),
    "diff": ("diff", "other", "whole"),
    "predict": ("predict", "whole", "table.csv", "--out", "whole/predictions.csv"),
    "card": ("card", "whole", "--no-training"),
    "run": ("run", "s.yaml", "--out", "whole"),
    "run anew": ("run", "s.yaml", "--out", "whole", "--force"),
    "resume": ("resume", "cut"),
}


NAMES = (
    "manifest.json", "summary.json", "seats.json", "metrics.jsonl", "scenario.yaml", "report.html", "comparison.html", "model",
    "predictions.csv", "card.md", ".lock", ".draft-0123456789abcdef", ".report.html.draft", "claims", "checkpoints", ".next",
    ".aside", ".ready", ".moving", ".old", "model/server.json", "model/server.safetensors", "trials", "seed-0",
)  # fmt: skip


@contextlib.contextmanager
def put(path: Path, make: Callable[[Path], object]) -> Iterator[None]:
    """Something else in the place of a file or a folder, for a while."""
    away = path.with_name("put-away")
    if path.exists():
        path.rename(away)
    make(path)
    yield
    path.unlink()
    if away.exists():
        away.rename(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_follows_a_link(here: Path, command: str) -> None:
    shutil.copytree("whole", "other")
    run, before = Path("cut" if command == "resume" else "whole"), snapshot(here / "mine")
    for name in NAMES:
        if not (run / name).parent.is_dir():  # an unfinished run has no models
            continue
        is_folder = "." not in name.removeprefix(".") and not name.startswith((".lock", ".draft"))
        target = here / "mine" if is_folder else here / "mine/notes.txt"
        with put(run / name, lambda path, target=target: path.symlink_to(target)):  # type: ignore[misc]
            said = fedsim(*COMMANDS[command])
            assert (run / name).is_symlink(), name
        told = "a symbolic link" in said.err or "holds files but no run of ours" in said.err
        assert (said.code, told, said.err.count("\n")) == (2, True, 1), (name, said)
        assert snapshot(here / "mine") == before, name


@pytest.mark.parametrize("name", ["", "/seat-a", "/seat-a/rows.jsonl"])
@pytest.mark.parametrize("target", ["mine", "mine/notes.txt"])
def test_resume_follows_no_link_among_checkpoints(here: Path, name: str, target: str) -> None:
    (arm,) = Path("cut/checkpoints").iterdir()
    before = snapshot(here / "mine")
    assert Path(f"{arm}{name}").exists()
    with put(Path(f"{arm}{name}"), lambda path: path.symlink_to(here / target)):
        said = fedsim("resume", "cut")
    assert (said.code, "a symbolic link; a run folder holds plain files" in said.err) == (2, True), said.err
    assert snapshot(here / "mine") == before


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, make_socket])
def test_no_command_waits_at_a_pipe(here: Path, make: Callable[[Path], object]) -> None:
    for name in ("manifest.json", "metrics.jsonl", "model/server.safetensors", ".lock", "report.html"):
        for words in (("report", "whole"), ("predict", "whole", "table.csv"), ("run", "s.yaml", "--out", "whole")):
            with put(Path("whole", name), make):
                signal.alarm(120)  # ends a test that waits
                said = fedsim(*words)
                signal.alarm(0)
            assert (said.code, said.err.count("\n")) == (2, 1), (name, said)


def test_a_file_with_another_name_is_not_written_to(here: Path) -> None:
    """Who may write beside a file of the user can give it a second name, and put that into a run folder."""
    for name in (".lock", "metrics.jsonl"):
        path = Path("cut", name)
        path.unlink(missing_ok=True)
        path.hardlink_to(here / "mine/notes.txt")
        said = fedsim("resume", "cut")
        assert (said.code, "hard links" in said.err) == (2, True), said.err
        assert (here / "mine/notes.txt").read_text() == "private"
        path.unlink()


def test_what_is_none_of_a_runs_own_is_not_entered(here: Path) -> None:
    """A run folder may be the folder somebody works in, with an environment full of links, or a mount point."""
    (bin := Path("whole/.venv/bin")).mkdir(parents=True)
    (bin / "python").symlink_to(sys.executable)
    Path("whole/lost+found").mkdir(mode=0)
    Path("whole/notes.txt").write_text("mine")
    fine("report", "whole")
    fine("run", "s.yaml", "--out", "whole")
    assert (bin / "python").is_symlink()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("manifest.json", 1 << 40),
        ("seats.json", 65 << 20),
        ("model/server.safetensors", 5 << 30),
        ("metrics.jsonl", 2 << 30),
    ],
)
def test_files_without_bounds_are_refused_unread(here: Path, name: str, size: int) -> None:
    os.truncate(Path("whole", name), size)  # takes no room on the disk
    said = fedsim("report", "whole")
    assert (said.code, "bytes" in said.err, said.err.count("\n")) == (2, True, 1), said.err


def test_too_many_files_or_folders_in_one_another_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model" / "/".join("x" * 20)).mkdir(parents=True)
    with pytest.raises(ContentError, match="holds more than a run does"):
        inspect_folder(tmp_path)
    shutil.rmtree(tmp_path / "model")
    monkeypatch.setattr("fedsim.report.inspection.MOST_ENTRIES", 10)
    for i in range(11):
        (tmp_path / f"{i}.txt").touch()
    with pytest.raises(ContentError, match="holds more than a run does"):
        inspect_folder(tmp_path)


def test_files_below_a_folder_are_opened_through_no_link(tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    (outside / "a").write_text("private")
    (root := tmp_path / "root").mkdir()
    (root / "in").symlink_to(outside)
    (root / "a").symlink_to(outside / "a")
    os.mkfifo(root / "pipe")
    for name in ("in/a", "a", "pipe", "../outside/a", str(outside / "a"), "missing"):
        with pytest.raises(OSError, match=r"symbolic|Not a directory|pipe|leads out|No such"):
            read_file(root, name, 100)
    for name in ("in/b", "../outside/b", "in/x/b"):
        with pytest.raises(OSError, match=r"symbolic|Not a directory|leads out"):
            write_files(root, {name: b"x"})
    write_files(root, {"a": b"new", "one/two/b": b"new"})
    assert (outside / "a").read_text() == "private"
    assert [path.name for path in outside.iterdir()] == ["a"]
    assert (read_file(root, "a", 3), read_file(root, "one/two/b", 3)) == (b"new", b"new")
    with pytest.raises(OSError, match="3 bytes, more than 2"):
        read_file(root, "a", 2)
    assert not list(root.rglob(".draft-*"))


def test_a_download_is_written_through_no_link(tmp_path: Path) -> None:
    (mine := tmp_path / "notes.txt").write_text("private")
    (down := tmp_path / "down").mkdir()
    (down / "lock").symlink_to(mine)
    with pytest.raises(OutputError, match="cannot be written"), _alone(down):
        pytest.fail("locked")
    (down / "data.part").symlink_to(mine)
    with serve(files={"/data": b"x" * 100}) as site, pytest.raises(DownloadError, match="broke off"):
        download([f"{site.url}/data"], down / "data", "", 1000, lambda have, whole: None)
    assert mine.read_text() == "private"


def test_a_draft_of_keys_is_not_made_in_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    (outside / "precious").write_text("mine")
    (tmp_path / ".keys.draft").symlink_to(outside)
    with pytest.raises(OutputError, match="a symbolic link"), fresh_folder(tmp_path / "keys"):
        pytest.fail("made")
    assert (outside / "precious").read_text() == "mine"


def test_a_saved_model_of_a_stranger_takes_no_memory_beyond_its_parameters(here: Path) -> None:
    path = Path("whole/model/a.json")
    saved = json.loads(path.read_text())
    saved["architecture"]["model"]["hidden"] = [1_000_000, 1_000_000]
    path.write_text(json.dumps(saved))
    said = fedsim("predict", "whole", "table.csv")
    assert (said.code, "far more parameters than were saved" in said.err) == (2, True), said.err
    assert torch.is_grad_enabled()  # which is off while networks are built


def _tear(folder: Path) -> None:
    (folder / "rows.jsonl").write_bytes(b"[]\n" + (folder / "rows.jsonl").read_bytes())


def _swap(folder: Path) -> None:
    parts = sorted(folder.glob("step-*"))
    parts[0].write_bytes(parts[-1].read_bytes())


@pytest.mark.parametrize("spoil", [_tear, _swap])
def test_parts_of_checkpoints_that_are_not_whole_are_left_out(here: Path, spoil: Callable[[Path], None]) -> None:
    (seat,) = Path("cut/checkpoints").glob("*/seat-a")
    spoil(seat)
    said = fedsim("resume", "cut")
    assert said.code == 0, said.err
    assert reading.read(Path("cut")).manifest["status"] == "complete"


# permissions


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of everything in a folder; seats may be writing there, whose drafts come and go."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found[str(path)] = stat.S_IMODE(path.lstat().st_mode)
    return found


def private(folder: Path) -> bool:
    """Whether nobody else can look at anything in a folder, and its owner at everything."""
    found = modes(folder)
    return set(found.values()) == {0o600, 0o700} and all(
        mode == (0o700 if Path(path).is_dir() else 0o600) for path, mode in found.items()
    )


def test_whatever_a_run_leaves_is_for_this_user_only(here: Path, umask: int) -> None:
    seen: dict[str, int] = {}

    def looking(title: str, file: Any) -> Any:
        def watch(role: str, row: Any) -> None:
            if row.get("step") == 5:
                seen.update(modes(Path("new/runs")))
                raise KeyboardInterrupt

        return watch

    with pytest.raises(KeyboardInterrupt):
        experiment.run(config.read("kept.yaml"), Path("new/runs/one"), started=looking)
    assert any("seat-a/step-" in path for path in seen)
    assert {mode for path, mode in seen.items()} == {0o600, 0o700}
    assert private(Path("new"))
    fine("resume", "new/runs/one")
    fine("predict", "new/runs/one", "table.csv", "--out", "new/runs/one/predictions.csv")
    fine("report", "new/runs/one")
    with pytest.raises(KeyboardInterrupt):  # a second run, beside the results of the first
        experiment.run(config.read("kept.yaml"), Path("new/runs/one"), started=looking)
    assert any("/.next/checkpoints/" in path for path in seen)
    assert private(Path("new"))
    fine("resume", "new/runs/one")
    assert private(Path("new"))


def test_runs_over_seeds_and_sweeps_are_for_this_user_only(here: Path, umask: int) -> None:
    fine("run", "s.yaml", "--seeds", "2", "--out", "seeds")
    Path("swept.yaml").write_text(
        Path("s.yaml").read_text() + "sweep: {grid: {scenario.batch: [8, 7]}, seeds: 1, pack: false}\n"
    )
    fine("sweep", "swept.yaml", "--out", "swept")
    fine("report", "whole", "seeds/seed-0", "--out", "seeds/both.html")
    assert private(Path("seeds"))
    assert private(Path("swept"))
    assert len(modes(Path("swept/trials"))) > 20


def test_a_folder_of_the_user_keeps_its_permissions(here: Path) -> None:
    Path("shared").mkdir()
    Path("shared").chmod(0o755)
    fine("run", "s.yaml", "--out", "shared")
    assert stat.S_IMODE(Path("shared").stat().st_mode) == 0o755
    assert {mode for path, mode in modes(Path("shared")).items() if path != "shared"} == {0o600, 0o700}


def test_what_was_open_to_others_is_closed_when_it_is_replaced(here: Path) -> None:
    for path in Path("whole").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    fine("run", "s.yaml", "--out", "whole")
    assert {mode for path, mode in modes(Path("whole")).items() if path != "whole"} == {0o600, 0o700}


def test_files_that_the_user_names_elsewhere_follow_the_umask(here: Path) -> None:
    before = os.umask(0o027)
    try:
        fine("report", "whole", "--out", "pages/page.html")
        fine("predict", "whole", "table.csv", "--out", "predictions.csv")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(Path(name).stat().st_mode) for name in ("pages/page.html", "predictions.csv")] == [
        0o640,
        0o640,
    ]


def test_the_lock_and_what_is_written_are_private_under_any_umask(tmp_path: Path, umask: int) -> None:
    make_folder(tmp_path / "a/b")
    lock = FolderLock.acquire(tmp_path / "a/b", "a test")
    atomic_write(tmp_path / "a/b/x", b"x")
    create_file(tmp_path / "a/b/y", b"y")
    os.close(open_plain(tmp_path / "a/b/z", os.O_WRONLY | os.O_CREAT))
    assert private(tmp_path / "a")
    lock.release()
