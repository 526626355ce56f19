"""One perturbation that fools several models, images or transformations at once: worst case against average."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from fedsim.errors import ConfigError, DataError, suggest
from fedsim.message import Flow, RoleId
from fedsim.metrics import count_classes
from fedsim.minmax.apgda import Weighing
from fedsim.minmax.balls import Ball
from fedsim.models import ModelConfig
from fedsim.parties.classes import fit_classes
from fedsim.parties.cut import ImageSchema
from fedsim.parties.data import Data, Rows
from fedsim.parties.minmax import DOWN, UP
from fedsim.parties.minmax.attacker import Attacker
from fedsim.parties.minmax.domains import Over
from fedsim.parties.minmax.training import Training, key
from fedsim.parties.minmax.victim import ModelVictim
from fedsim.parties.vertical import build_bottom
from fedsim.plan import Plan, Scenario, Seat
from fedsim.plugins import OneOf, Settings
from fedsim.seeding import Rng

ATTACKER = "attacker"


class VictimConfig(Settings):
    """One victim: its model, and how it is trained."""

    model: Annotated[ModelConfig, OneOf("models")] = Field(description="from images to classes")
    training: Training = Field(default_factory=lambda: Training.model_validate({}), description="at its own seat")


class MinMax(Scenario):
    """Victims train a model each; an attacker with white-box access to all looks for perturbations that every domain falls for.

    Images are attacked that no victim was trained on and that every domain gets right. Trained models are kept in the folder
    that FEDSIM_CACHE names (~/.cache/fedsim), each by the digest of all that it follows from.
    """

    resumes: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Wang et al., Adversarial Attack Generation Empowered by Min-Max Optimization, NeurIPS 2021, arXiv 1906.03563"
    )

    data: Annotated[Data, OneOf("data")] = Field(
        description="images: victims train on some, held-out ones are attacked"
    )
    victims: dict[RoleId, VictimConfig] = Field(min_length=1, description="by name, in roster order")
    over: Over = Field(default_factory=lambda: Over.model_validate({}), description="the domains")
    balls: tuple[Ball, ...] = Field(min_length=1, description="how far images may be moved, one attack each")
    attack: Weighing = Field(
        default_factory=lambda: Weighing.model_validate({}), description="how domains are weighed, and for how long"
    )
    examples: int = Field(300, ge=1, description="images that are attacked, at most")

    @field_validator("victims")
    @classmethod
    def _names(cls, victims: dict[RoleId, VictimConfig]) -> dict[RoleId, VictimConfig]:
        for name in victims:
            if name == ATTACKER or not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"'{name}' cannot name a victim: letters, digits, - and _, and not '{ATTACKER}'")
        return victims

    @model_validator(mode="after")
    def _fits(self) -> MinMax:
        if self.over.kind != "models" and len(self.victims) > 1:
            raise ValueError(f"over: {self.over.kind} are of one victim; found {len(self.victims)}")
        names = self.over.transforms if self.over.kind == "transformations" else tuple(self.victims)
        if self.attack.rule in ("prior", "without") and self.over.kind == "inputs":
            raise ValueError(f"attack.rule: '{self.attack.rule}' names domains, and images of a group have no names")
        if self.attack.rule == "without" and self.attack.left_out not in names:
            raise ValueError(
                f"attack.left_out: no domain '{self.attack.left_out}'{suggest(self.attack.left_out, names)}"
            )
        if self.attack.rule == "prior" and self.attack.weights.keys() != set(names):
            raise ValueError(f"attack.weights: expected a weight for each of {', '.join(names)}")
        if self.attack.rule == "prior" and (
            min(self.attack.weights.values()) < 0 or not any(self.attack.weights.values())
        ):
            raise ValueError(f"attack.weights: expected weights from 0, and one above; found {self.attack.weights}")
        if self.data.apart:
            raise ValueError(
                f"data: all seats have one set of images; found '{self.data.kind()}', where each has its own"
            )
        return self

    def plan(self) -> Plan:
        """See `Scenario.plan`."""
        seats = {ATTACKER: Seat(partial(build_attacker, self))}
        flows = []
        for name in self.victims:
            seats[name] = Seat(partial(build_victim, self, name))
            flows += [Flow(kind, name, ATTACKER) for kind in UP] + [Flow(kind, ATTACKER, name) for kind in DOWN]
        return Plan(ATTACKER, seats, tuple(flows))

    def data_digest(self) -> str:
        """See `Scenario.data_digest`."""
        return self.data.digest()

    def images(self, rows: Rows, split: tuple[Rows, Rows]) -> tuple[Tensor, Tensor, int]:
        """These rows (n, C, H, W) in [0, 1], their classes (n,), and how many classes the training rows of ``split`` have.

        Raises:
            ConfigError: the data are no images.
        """
        schema = self.data.schema()
        if not isinstance(schema, ImageSchema):
            raise ConfigError(f"scenario.data: expected images; '{self.data.kind()}' gives a table")
        _, height, width = schema.shape
        part = self.data.part("all", {"all": f"0:{height}, 0:{width}"})
        x = self.data.read(part)
        found = torch.tensor(x[rows])
        labels, classes = self.classes(rows, split)
        if not ((found >= 0) & (found <= 1)).all():
            raise DataError(f"images have values from {found.min():g} to {found.max():g}; allowed: 0 to 1")
        return found, labels, classes

    def classes(self, rows: Rows, split: tuple[Rows, Rows]) -> tuple[Tensor, int]:
        """The classes (n,) of these rows, and how many classes the training rows of ``split`` have."""
        raw = self.data.labels()
        classes = fit_classes(raw, *split)
        return classes.apply(raw[rows]), len(classes.classes)


def build_attacker(scenario: MinMax, public: Rng, private: Rng) -> Attacker:
    """Read the held-out images."""
    split = scenario.data.split(public.child("rows"))
    x, labels, classes = scenario.images(split[1], split)
    counts = count_classes(scenario.classes(split[0], split)[0], classes)
    constant = float((labels == counts.argmax()).double().mean())
    names, rng = tuple(scenario.victims), public.child("attack")
    attack = scenario.over, scenario.balls, scenario.attack
    return Attacker(x, labels, names, scenario.examples, *attack, rng, constant)


def build_victim(scenario: MinMax, name: RoleId, public: Rng, private: Rng) -> ModelVictim:
    """Read the training images, and build a model that is not trained yet."""
    split = scenario.data.split(public.child("rows"))
    x, labels, classes = scenario.images(split[0], split)
    config = scenario.victims[name]
    architecture = {
        "model": config.model.model_dump(mode="json"),
        "shape": list(x.shape[1:]),
        "embedding": classes,
    }
    data: Any = [scenario.data.model_dump(mode="json", context={"experiment": True}), public.key.hex()]
    digest = key(architecture, config.training, data, scenario.data.digest(), private)
    network = build_bottom(architecture, private.child("model"))
    for weight in network.parameters.values():
        if weight.ndim == 4:  # a third less time for convolutions
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    rng = private.child("training")
    return ModelVictim(network, x, labels, config.training, rng, digest, architecture, scenario.examples)
