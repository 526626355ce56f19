"""What is public, pinned."""

from __future__ import annotations

import importlib

import pytest

import fedsim

PUBLIC = [
    "Attack",
    "AttackConfig",
    "Claim",
    "Defence",
    "Embedding",
    "Gradient",
    "Knowledge",
    "Message",
    "Model",
    "ModelConfig",
    "Net",
    "ParameterGradient",
    "Plan",
    "Rng",
    "Role",
    "Runtime",
    "Scenario",
    "ScenarioFile",
    "Seat",
    "Stage",
    "Tell",
    "Victim",
    "Wrapper",
    "chain",
    "only",
    "read",
    "run",
    "run_seeds",
    "tap",
    "tensors_of",
    "with_tensors",
]


def test_the_public_names_are_these() -> None:
    assert sorted(fedsim.__all__) == sorted([*PUBLIC, "__version__"]) == sorted(dir(fedsim))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_comes_from_its_home(name: str) -> None:
    thing = getattr(fedsim, name)
    home = next(module for module, names in fedsim._HOMES.items() if name in names)
    assert thing is getattr(importlib.import_module(f"fedsim.{home}"), name)


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fedsim.nothing  # noqa: B018
