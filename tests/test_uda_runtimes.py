"""The quick profile of poisoned adaptation, and poison that every message of it is sent for: equal numbers everywhere."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest
from listening import children, words

from fedsim.config import ScenarioFile, read
from fedsim.runtime.flower import Flower, deployment
from fedsim.runtime.processes import Processes
from fedsim.runtime.ray import Ray
from fedsim.testing import check_runtime

PARTIES = ("north", "east", "south", "west")


def quick() -> ScenarioFile:
    """Of the quick profile the first steps and two evaluations, under poison, defended in every way."""
    defences = ["scenario.trim=0.1", "scenario.knn=5", "scenario.cap=0.5"]
    steps = ["scenario.steps=40", "scenario.evaluate=20"]
    return read("uda_poisoning", [*steps, *defences]).arms()["mislabelled target"]


def clean_label() -> ScenarioFile:
    """Every party tells its slice; rehearsals, pseudo-labels, crafted rows."""
    short = ["scenario.steps=12", "scenario.evaluate=12", "scenario.grants.server=[slices, pseudo_labels]"]
    file = read("uda_clean_label", short).arms()["target base"].resolved()
    file["seats"]["server"][0] |= {"models": 2, "rounds": 2, "moves": 2}
    return ScenarioFile.model_validate(file)


FILES = pytest.mark.parametrize("file", [quick(), clean_label()], ids=["quick", "clean label"])


@FILES
def test_processes(file: ScenarioFile) -> None:
    check_runtime(Processes(), file)


@FILES
@pytest.mark.usefixtures("ray_session")
def test_ray(file: ScenarioFile) -> None:
    halves = {party: {"cpus": 0.5} for party in PARTIES}  # there are four processors, and five seats
    check_runtime(Ray(), file.model_copy(update={"placement": halves}))


@pytest.fixture(scope="module")
def _deployed() -> Iterator[None]:
    """One SuperLink, and a SuperNode a party."""
    if importlib.util.find_spec("flwr") is None:
        pytest.skip("needs fedsim-vfl[flower]")
    with deployment({party: {} for party in PARTIES}):
        pids = children(os.getpid())
        yield
    assert [pid for pid in pids if "flower" in words(pid)] == []


@pytest.mark.usefixtures("_deployed")
def test_flower() -> None:
    check_runtime(Flower(wait=240), quick())  # nine processes have to start
