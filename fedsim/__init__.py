"""fedsim: vertical federated learning, and a security testbed for it.

What is named here is public. Names are imported when they are asked for, so that ``import fedsim`` takes no time.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if not os.path.isdir(os.path.join(os.path.dirname(__file__), "parties")):
    # In a checkout fedsim/parties and fedsim/scenarios are links to the folders beside fedsim. A bundle of Flower's leaves
    # links out, as does git on Windows: there the folders are found through the search path of the package.
    __path__.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if TYPE_CHECKING:
    __version__: str
    from fedsim.channel import Stage, chain, only, tap
    from fedsim.config import Runtime, ScenarioFile, read
    from fedsim.experiment import run, run_seeds
    from fedsim.message import Message, tensors_of, with_tensors
    from fedsim.models import ModelConfig
    from fedsim.net import Net
    from fedsim.plan import Plan, Scenario, Seat
    from fedsim.role import Role
    from fedsim.seeding import Rng
    from fedsim.threat import Attack, AttackConfig, Claim, Defence, Knowledge, Tell, Victim, Wrapper
    from fedsim.vfl.messages import Embedding, Gradient, Model, ParameterGradient

_HOMES = {
    "channel": ("Stage", "chain", "only", "tap"),
    "config": ("Runtime", "ScenarioFile", "read"),
    "experiment": ("run", "run_seeds"),
    "message": ("Message", "tensors_of", "with_tensors"),
    "models": ("ModelConfig",),
    "net": ("Net",),
    "plan": ("Plan", "Scenario", "Seat"),
    "role": ("Role",),
    "seeding": ("Rng",),
    "threat": ("Attack", "AttackConfig", "Claim", "Defence", "Knowledge", "Tell", "Victim", "Wrapper"),
    "vfl.messages": ("Embedding", "Gradient", "Model", "ParameterGradient"),
}

__all__ = [
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
    "__version__",
    "chain",
    "only",
    "read",
    "run",
    "run_seeds",
    "tap",
    "tensors_of",
    "with_tensors",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("fedsim.distribution").read_version() or "0+unknown"
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"fedsim.{module}"), name)
    raise AttributeError(f"module 'fedsim' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
