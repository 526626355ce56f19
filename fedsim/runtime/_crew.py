"""What the runtimes with a process a seat have in common: how far the run is, what a seat's process is given, how one dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim import errors
from fedsim.config import ScenarioFile
from fedsim.errors import FedsimError, TransportBroken, TransportError
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.plan import Plan
from fedsim.printable import LAYOUT, make_printable
from fedsim.transport.grpc import token_of
from fedsim.vfl.device import DEVICE

GRACE = 2.0
"""Seconds in which the other seats may say what they know after one has failed."""


class Crew:
    """The seats of one arm, as the process that started them sees them."""

    def __init__(self, file: ScenarioFile, watch: Watch) -> None:
        self._hub, self._watch = file.plan().hub, watch
        self._step: int | None = None
        self._deaths: list[TransportBroken] = []
        self._starved = starved()

    def watch(self, role: RoleId, row: Mapping[str, Any]) -> None:
        """Pass on a row, and note how far the training is."""
        if "loss" in row:
            self._step = row["step"]
        self._watch(role, row)

    def notice(self, line: str) -> None:
        """Show a line to people, unless it is empty."""
        if line:
            self._watch(self._hub, {"notice": line})

    def died(self, role: RoleId, how: str) -> TransportBroken:
        """The error for a seat whose process is gone."""
        when = "before the first training step" if self._step is None else f"after training step {self._step}"
        why = "; out of memory: give it more, or a smaller batch" if starved() > self._starved else ""
        death = TransportBroken(f"the process of {role} {how} {when}{why}")
        self._deaths.append(death)
        return death

    def cause(self, failures: Sequence[BaseException]) -> BaseException:
        """Of what the seats say, the one that explains the others: most only lost a peer."""
        return min(failures, key=lambda error: isinstance(error, TransportError) and error not in self._deaths)


def ending(code: int, said: str) -> str:
    """In what way a process ended, by its exit code and what it said last."""
    if code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    return f"ended with exit code {code}: {said}"


def starved(source: Path = Path("/proc/vmstat")) -> int:
    """How many processes this machine has ended so far because memory ran out, as far as Linux says so."""
    try:
        words = source.read_text().split()
        return int(words[words.index("oom_kill") + 1])
    except (OSError, ValueError):
        return 0


def tokens(plan: Plan) -> dict[RoleId, str]:
    """Tokens for one run, by seat: the hub's, from which it knows those of the others."""
    token = os.urandom(32).hex()
    return {role: token if role == plan.hub else token_of(token, role) for role in plan.roster}


def environment(asked: Mapping[str, float]) -> dict[str, str]:
    """The environment variables of a seat's process, by what its placement asks for."""
    import torch

    if not asked.get("gpus") or not torch.cuda.is_available():
        return {}
    return {
        DEVICE: "cuda",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }  # without the second one kernels are not deterministic


def no_gpu(roles: Collection[RoleId]) -> str:
    """A line for people if seats ask for a GPU and there is none; else nothing."""
    import torch

    if not roles or torch.cuda.is_available():
        return ""
    return f"no GPU here: {', '.join(roles)} will train on the CPU"


def raised(role: RoleId, name: str, text: str) -> FedsimError:
    """What a seat raised in its own process, of the same type if it is one of ours."""
    kind: Any = getattr(errors, name, None)
    text = make_printable(text, LAYOUT)
    if isinstance(kind, type) and issubclass(kind, FedsimError):
        return kind(text)
    return FedsimError(f"{role} failed: {make_printable(name)}: {text}")
