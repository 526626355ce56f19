"""Every plugin in the repository keeps its contract; a new file is found here by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedsim.scenarios
from fedsim import testing
from fedsim.config import read, shipped
from fedsim.models import ModelConfig
from fedsim.plugins import find, names
from fedsim.threat import AttackConfig, Defence, Wrapper

# type-abstract: find only looks for subclasses of what it is given
QUICK = {"rounds": 5, "iterations": 5, "restarts": 1}
"""Settings that make an attack short, where it has them: the kits check the contract, not the success."""


def quick(attack: type[AttackConfig]) -> AttackConfig:
    """The attack with its defaults, but few rounds."""
    return attack.model_validate({name: value for name, value in QUICK.items() if name in attack.model_fields})


@pytest.mark.parametrize("kind", names("attacks"))
def test_attack(kind: str) -> None:
    testing.check_attack(quick(find("attacks", kind, AttackConfig)))


@pytest.mark.parametrize("kind", names("defences"))
def test_defence(kind: str) -> None:
    testing.check_defence(find("defences", kind, Defence)())


@pytest.mark.parametrize("kind", names("models"))
def test_model(kind: str) -> None:
    testing.check_model(find("models", kind, ModelConfig)())


@pytest.mark.parametrize("kind", names("wrappers"))
def test_wrapper(kind: str) -> None:
    testing.check_wrapper(find("wrappers", kind, Wrapper)())


@pytest.mark.parametrize("name", shipped())
def test_scenario_file(name: str) -> None:
    for arm in read(name).arms().values():
        testing.check_scenario(arm.scenario)
        plan = arm.plan()
        assert plan.hub in plan.roster
        assert len(plan.aims) >= len(arm.trials)


def test_discovery_sees_every_file() -> None:
    folder = Path(fedsim.scenarios.__file__).parent
    files = {path.stem for path in folder.rglob("*.yaml")}
    assert files
    assert files == set(shipped())
    for group, where in (("attacks", folder / "attacks"), ("defences", folder / "defences")):
        assert names(group) == sorted(path.stem for path in where.glob("[!_]*.py"))
