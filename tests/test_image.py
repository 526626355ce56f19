"""What the container image is made of: each part is named by its content, and by the versions that are tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = ("docker/requirements.txt", "docker/cuda.txt")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: str) -> dict[str, str]:
    """By package, its version."""
    text = (ROOT / path).read_text("utf-8")
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.+!]+)", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("path", FILES)
def test_every_package_is_pinned_by_version_and_by_hash_and_nothing_else_stands_there(path: str) -> None:
    lines = (ROOT / path).read_text("utf-8").replace(" \\\n", " ").splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert len(packages) > 10
    one = re.compile(r"[\w.-]+==[\w.+!]+( ; [^-]+)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line[:80] for line in packages if not one.fullmatch(line)] == []


def test_the_image_has_the_versions_that_are_tested() -> None:
    tested, installed = pinned("constraints.txt"), pinned(FILES[0]) | pinned(FILES[1])
    different = {name: version for name, version in installed.items() if tested.get(name, version) != version}
    assert different == {}
    untested = {name for name in installed if name not in tested}
    assert {name for name in untested if not re.match("nvidia-|cuda-", name)} <= {"setuptools", "triton"}


def test_everything_that_fedsim_asks_for_in_the_image_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["flower"], *extras["parquet"]]
    names = {normal(re.split(r"[\[<>=!~; ]", each)[0]) for each in asked}
    assert names - pinned(FILES[0]).keys() == set()


def test_the_base_image_is_named_by_its_digest_and_no_other_is_used() -> None:
    text = (ROOT / "docker/Dockerfile").read_text("utf-8")
    (base,) = re.findall(r"^ARG BASE=(.*)$", text, flags=re.MULTILINE)
    assert re.fullmatch(r"python:3\.11-slim@sha256:[0-9a-f]{64}", base)
    assert set(re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)) == {"${BASE}"}


def test_pip_installs_nothing_in_the_image_that_is_not_named_by_its_hash() -> None:
    text = (ROOT / "docker/Dockerfile").read_text("utf-8").replace("\\\n", " ")
    calls = re.findall(
        r"pip (?:install|wheel|download)[^&\n]*", "\n".join(line for line in text.splitlines() if line[:1] != "#")
    )
    assert len(calls) == 3
    assert [call for call in calls if "--require-hashes" not in call and "--no-index" not in call] == []
    assert [call for call in calls if "--no-deps" not in call] == []


def test_what_the_image_is_made_of_is_in_the_build_context() -> None:
    context = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    text = (ROOT / "docker/Dockerfile").read_text("utf-8")
    copied = [part for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, flags=re.MULTILINE) for part in line.split()]
    assert {"LICENSE", "docker/requirements.txt", "fedsim"} <= {*copied}
    assert {part.replace("[e]", "e") for part in copied} == context
