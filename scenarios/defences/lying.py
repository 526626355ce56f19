"""A sender that lies or fails now and then: a fault on a link, in the place where a defence would stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.bandit.lies import Liar, Lie, Memory
from fedsim.channel import Stage
from fedsim.message import Message, with_tensors
from fedsim.seeding import Rng
from fedsim.threat import Defence


@dataclass(frozen=True)
class Told:
    """What the stage keeps: its node, the true numbers so far, how many passed and how many of them became lies."""

    rng: Rng
    memory: Memory = field(default_factory=Memory)
    numbers: int = 0
    lies: int = 0


class Lying(Defence):
    """Replace each number of a message with a lie, with some probability; the liar knows the true ones so far.

    No defence but what searches and defences must bear: contaminated rewards, a sensor that fails, a party that lies.
    """

    paper: ClassVar[str] = "Mukherjee et al., NeurIPS 2021, arXiv 2111.07458, section 1 (contamination)"

    share: float = Field(0.05, ge=0, le=1, description="probability of a lie, for each number")
    law: Lie = Field(
        "gross",
        description="gross: far off | edge: 2.5 deviations off | adaptive: the most extreme true one so far | varying: in turn",
    )
    harm: Literal["up", "down"] = Field("up", description="which way lies push the mean")
    size: float = Field(
        20.0, gt=0, description="how far off gross lies are, in standard deviations of the true numbers"
    )
    period: int = Field(
        100, ge=1, description="numbers after which varying lies change: gross, edge, gross the other way"
    )

    def stage(self) -> Stage[Told]:
        """The state holds the memory of the liar."""
        liar = Liar(self.law, self.share, 1 if self.harm == "up" else -1, self.size, self.period)

        def apply(message: Message, state: Told) -> tuple[Message, Told]:
            memory, numbers, lies = state.memory, state.numbers, state.lies

            def told(name: str, tensor: Tensor) -> Tensor:
                nonlocal memory, numbers, lies
                rng = state.rng.child(message.kind(), message.purpose, message.step, name).numpy()
                values, memory, more = liar.tell(tensor.detach().double().flatten().numpy(), memory, rng)
                numbers, lies = numbers + tensor.numel(), lies + more
                return torch.from_numpy(values).view(tensor.shape).to(tensor.dtype)

            after = with_tensors(message, told)
            return after, Told(state.rng, memory, numbers, lies)

        return Stage(Told, apply)
