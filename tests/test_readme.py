"""The README's code blocks, run as a reader would run them, in its order and in one folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedsim import cli
from fedsim.scenarios import attacks, defences

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Iterator[Path]:
    """A folder to work in, and the reader's plugins dropped into their packages."""
    path = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.delenv("FEDSIM_DATA", raising=False)
        for language, text in BLOCKS:
            if language in ("python", "yaml"):
                (path / text.partition("\n")[0].removeprefix("# ")).write_text(text, encoding="utf-8")
        for package, plugin in ((attacks, "direction.py"), (defences, "rounding.py")):
            dropped = path / package.__name__
            dropped.mkdir()
            (dropped / plugin).write_text((path / plugin).read_text("utf-8"), encoding="utf-8")
            patch.setattr(package, "__path__", [*package.__path__, str(dropped)])
        yield path


def commands() -> list[str]:
    """Every command of the README's shell blocks."""
    return [line.partition("  #")[0].strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]


def fedsim(line: str) -> int:
    """Run one command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"console", "bash", "python", "yaml"}
    assert len(commands()) >= 10


def test_every_scenario_that_ships_is_named() -> None:
    ships = {path.stem for path in (Path(__file__).parent.parent / "scenarios").glob("*.yaml")}
    assert ships - set(re.findall(r"`(\w+)`", README)) == set()


def test_all_commands_work_in_their_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run([sys.executable, "make_table.py"], cwd=folder, check=True)
    printed = {}
    for line in commands():
        assert fedsim(line) == 0, f"{line}: {capsys.readouterr().err}"
        printed[line] = capsys.readouterr().out
    predictions = printed["fedsim predict runs/wine new.csv"].splitlines()
    assert len(predictions) == 6
    assert predictions[0].startswith("row,prediction,p(barbera)")
    assert (folder / "runs/direction/report.html").stat().st_size > 10_000


def test_the_pictures_and_pages_it_points_to_are_there() -> None:
    root = Path(__file__).parent.parent
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).is_file(), target


def test_the_makefile_has_its_two_commands() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text("utf-8")
    for name in re.findall(r"^\$ make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{name}:", makefile, flags=re.MULTILINE), name
