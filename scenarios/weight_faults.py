"""What becomes of a vertical federation whose weights are not what they were, and what can be promised beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from fedsim.net import Net
from fedsim.parties.examine import DOWN, UP, Examination
from fedsim.parties.examine.hub import at_hub
from fedsim.parties.examine.party import at_party
from fedsim.parties.examine.result import constant_numbers, figures, numbers
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder, last_evaluation
from fedsim.parties.vertical import Vertical
from fedsim.seeding import Rng
from fedsim.vfl.harden import Hardening


class WeightFaults(Vertical):
    """Train a vertical federation, on request against perturbed weights, and examine what its weights bear.

    Faults themselves are wrappers under ``seats:``; the examination is of the weights that are in use after them.
    """

    resumes: ClassVar[bool] = True
    misses: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Tsai et al., Formalizing Generalization and Robustness to Weight Perturbations, NeurIPS 2021"
    )

    hardening: Hardening = Field(
        default_factory=lambda: Hardening.model_validate({}), description="training against perturbed weights"
    )
    examination: Examination | None = Field(None, description="what is tried on the trained weights; default: nothing")

    def hardened(self) -> Hardening:
        """That of the file."""
        return self.hardening

    def needs_bounds(self) -> bool:
        """Also where the trained weights are examined."""
        return super().needs_bounds() or self.examination is not None

    def epilogue(self, rng: Rng) -> Examiner | None:
        """The examination, if there is one."""
        return Examiner(self.examination, rng) if self.examination else None

    def epilogue_kinds(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those of the examination, if there is one."""
        return (UP, DOWN) if self.examination else ((), ())


@dataclass(frozen=True)
class Examiner:
    """The examination as the epilogue of a federation; ``rng`` is the seat's own."""

    plan: Examination
    rng: Rng

    async def at_hub(self, hub: LabelHolder, net: Net) -> None:
        """Examine, log the numbers beside those of the last evaluation, draw the figures."""
        own = hub.own[1][0] if hub.own else None
        labels = hub.top.labels, hub.held_out
        found = await at_hub(hub.top.network, labels, hub.parties, own, self.plan, net, self.rng)
        last, constant = last_evaluation(net)
        more = numbers(found, self.plan, last["accuracy"])
        guessed = constant_numbers(found, hub.class_counts, constant["accuracy"])
        net.log(step=hub.schedule.steps, test={**last, **more}, baseline={**constant, **guessed})
        for figure in figures(found, self.plan):
            net.draw(figure)

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """The party's half."""
        await at_party(party.bottom, self.plan, net, self.rng)
