"""The wheel, installed into an environment of its own, in folders that hold what a user may have there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch

from fedsim import distribution
from fedsim.cli import examining
from fedsim.plugins import GROUPS, names

ROOT = Path(__file__).parent.parent
ATTACK = "{attack: {kind: cosine, iterations: 2, restarts: 1}, seat: server, victim: south_east, knows: [rows, bottom]}"
FEW = (
    *("--set", "scenario.steps=3", "--set", "scenario.window.rounds=3", "--set", "scenario.batch=4"),
    *("--set", "scenario.data.rows=60", "--set", "scenario.data.test=20", "--set", "compare={}"),
    *("--set", f"trials=[{ATTACK}]"),
)


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FEDSIM_DATA")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**clean, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    made = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    if made.returncode:
        pytest.skip(f"NOT TESTED, no wheel could be built: {made.stderr.strip().splitlines()[-1]}")
    (path,) = folder.glob("fedsim_vfl-*.whl")
    return path


def install(programs: Path, wheel: Path, *options: str) -> None:
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-deps", "--no-index")
    done = run(*pip, "--no-compile", *options, wheel, cwd=programs)
    assert done.returncode == 0, done.stderr


def make_environment(folder: Path, wheel: Path) -> Path:
    """The programs of a new environment with the wheel, which borrows the libraries of this one."""
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    install(folder / "bin", wheel)
    return folder / "bin"


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("installed") / "venv", wheel)


@pytest.fixture
def own(wheel: Path, tmp_path: Path) -> Path:
    """An environment that the test may change."""
    return make_environment(tmp_path / "venv", wheel)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder in which the user's own things have the names of ours."""
    folder = tmp_path / "crowded"
    for name in ("parties", "scenarios", "data", "leakage"):
        (folder / name).mkdir(parents=True)
    for name in ("parties", "scenarios"):
        (folder / name / "__init__.py").write_text("raise RuntimeError('this is the package of a user')\n")
    (folder / "data" / "table.csv").write_text("a,b\n1,2\n")
    (folder / "fedsim.yaml").write_text("mine: true\n")
    return folder


def test_the_wheel_has_one_package_and_all_that_ships(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in files} == {"fedsim", "fedsim_vfl.py"}
    for group, package in GROUPS.items():
        folder = package.replace(".", "/")
        for kind in names(group):
            assert {f"{folder}/{kind}.py", f"{folder}/{kind}/__init__.py"} & files, f"{group}: {kind}"
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "scenarios").rglob("*.yaml")}
    assert {f"fedsim/{name}" for name in ours} <= files
    assert {f"{folder}/py.typed" for folder in ("fedsim", "fedsim/parties", "fedsim/scenarios")} <= files
    with zipfile.ZipFile(wheel) as archive:
        (text,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/licenses/LICENSE"))
        (about,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert text == (ROOT / "LICENSE").read_text()
    assert "\nLicense-Expression: Apache-2.0\n" in about
    assert "\nAuthor: The fedsim authors\n" in about


@pytest.mark.parametrize(
    ("place", "program"), [("empty", ("fedsim",)), ("crowded", ("python", "-m", "fedsim"))], ids=["empty", "crowded"]
)
def test_commands_find_what_ships_wherever_they_are_called(
    installed: Path, place: str, program: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    here = request.getfixturevalue(place)
    said = run(installed / program[0], *program[1:], "list", cwd=here)
    assert said.returncode == 0, said.stderr
    assert {"adaptive_cafe", "gaussian_noise", "leakage", "mnist5k"} <= set(said.stdout.split())
    played = run(installed / program[0], *program[1:], "run", "leakage", *FEW, "--out", "played", cwd=here)
    assert played.returncode == 0, played.stderr
    assert (here / "played" / "report.html").is_file()


def test_processes_and_a_sweep_find_them_too(installed: Path, crowded: Path) -> None:
    played = run(installed / "python", "-m", "fedsim", "run", "leakage", *FEW, "--runtime", "processes", cwd=crowded)
    assert played.returncode == 0, played.stderr
    grid = "sweep={grid: {scenario.embedding: [8]}, seeds: 1, pack: false}"
    swept = run(installed / "fedsim", "sweep", "leakage", *FEW, "--set", grid, "--out", "swept", cwd=crowded)
    assert swept.returncode == 0, swept.stderr
    assert (crowded / "swept" / "report.html").is_file()


def test_a_notebook_in_a_crowded_folder_finds_them_too(installed: Path, crowded: Path) -> None:
    code = "import fedsim; print(fedsim.read('leakage').scenario.kind(), fedsim.parties.__name__)"
    said = run(installed / "python", "-c", code, cwd=crowded)
    assert (said.stdout, said.stderr) == ("leakage fedsim.parties\n", "")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """The other project's wheel as far as it matters: its name, and files with the names of two of ours."""
    path = tmp_path / "fedsim-0.9.0-py3-none-any.whl"
    info = "fedsim-0.9.0.dist-info"
    files = {
        "fedsim/__init__.py": "import a_library_that_is_not_there\n",
        "fedsim/models/__init__.py": "",
        "fedsim/models/mcmahan_nets.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: fedsim\nVersion: 0.9.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [*(f"{name},," for name in files), f"{info}/RECORD,,"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": "\n".join(record) + "\n"}.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("program", [("fedsim",), ("python", "-m", "fedsim")], ids=["script", "module"])
def test_a_foreign_project_that_replaced_files_is_told_of_in_one_line(
    own: Path, foreign: Path, empty: Path, program: tuple[str, ...]
) -> None:
    install(own, foreign)
    if program[0] == "python":  # its own __init__ must let the call come as far as ours
        (replaced,) = own.parent.glob("lib/python*/site-packages/fedsim/__init__.py")
        replaced.write_text("")
    said = run(own / program[0], *program[1:], "list", cwd=empty)
    assert (said.returncode, said.stdout) == (2, "")
    (line,) = said.stderr.splitlines()
    assert line.startswith(
        "fedsim: the distribution 'fedsim' 0.9.0, another project with the same import name, has repl"
    )
    assert "fedsim/__init__.py" in line
    assert line.endswith("pip uninstall -y fedsim fedsim-vfl, then pip install fedsim-vfl")


def test_a_foreign_project_that_came_first_is_told_of_and_commands_work(
    own: Path, wheel: Path, foreign: Path, empty: Path
) -> None:
    install(own, foreign)
    install(own, wheel, "--force-reinstall")
    said = run(own / "fedsim", "list", "runtimes", cwd=empty)
    assert (said.returncode, "processes" in said.stdout) == (0, True)
    (line,) = said.stderr.splitlines()
    assert "another project with the same import name, is installed into the same folder" in line
    found = run(own / "fedsim", "doctor", cwd=empty)
    assert "another project with" in found.stdout


def test_a_package_of_the_same_name_that_comes_first_is_told_of(installed: Path, empty: Path) -> None:
    (empty / "fedsim").mkdir()
    (empty / "fedsim" / "__init__.py").write_text("raise RuntimeError('of a user')\n")
    said = run(installed / "fedsim", "list", cwd=empty, PYTHONPATH=str(empty))
    assert (said.returncode, said.stdout) == (2, "")
    (line,) = said.stderr.splitlines()
    assert f"'import fedsim' finds {empty}/fedsim/__init__.py instead of " in line


def test_the_doctor_tells_of_a_foreign_project_elsewhere(
    monkeypatch: pytest.MonkeyPatch, foreign: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(foreign) as archive:
        archive.extractall(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    (found,) = examining._name()
    assert (found.state, found.what) == ("note", "name")
    assert found.found.endswith(f"is installed at {tmp_path}/elsewhere/fedsim")
    assert found.do.startswith("pip uninstall fedsim")


def test_without_links_the_folders_beside_the_package_are_found(tmp_path: Path) -> None:
    """As in a bundle of Flower's, which leaves links out, and on Windows, where git makes files of them."""
    for name in ("fedsim", "parties", "scenarios"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("parties", "scenarios"):
        (tmp_path / "fedsim" / name).unlink()
    (tmp_path / "fedsim" / "parties").write_text("../parties")
    code = "from fedsim.config import read, shipped; print(len(shipped()), read('leakage').scenario.__module__)"
    said = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (said.stdout.split()[1:], said.stderr) == (["fedsim.scenarios.leakage"], "")
    assert int(said.stdout.split()[0]) == len(list((ROOT / "scenarios").rglob("*.yaml")))


def test_what_is_to_be_installed_is_written_in_one_place() -> None:
    assert distribution.format_install_command() == "pip install fedsim-vfl"
    assert distribution.format_install_command("ray") == "pip install 'fedsim-vfl[ray]'"
    told = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("fedsim", "parties", "scenarios", "docs", "docker", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".yaml", "")
        if path.is_file() and path.name != "distribution.py"
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"fedsim\[|pip install \W?fedsim(?!-vfl)", line)
    ]
    assert told == []
