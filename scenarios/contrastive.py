"""Robust pre-training across parties before anybody has labels, and what of it survives fine-tuning."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from fedsim import tensors
from fedsim.contrast.views import Augmentation
from fedsim.errors import ConfigError
from fedsim.message import Flow, RoleId
from fedsim.parties.classes import fit_classes
from fedsim.parties.contrast import Finetuning, Robustness, Threat
from fedsim.parties.contrast.course import Course
from fedsim.parties.contrast.hub import Registry, Server
from fedsim.parties.contrast.party import Slice
from fedsim.parties.features import FeatureParty
from fedsim.parties.pretraining import Pretraining
from fedsim.parties.vertical import SERVER, Vertical, build_party, build_top
from fedsim.plan import Plan, Seat
from fedsim.plugins import OneOf
from fedsim.seeding import Rng
from fedsim.vfl.schedule import Schedule

UNUSED = ("augment", "evaluate", "exchange", "fairness", "label_smoothing", "resilience", "trained", "worth")


class Contrastive(Vertical):
    """Parties pre-train bottoms without labels; a label party joins; tops, and bottoms if wanted, learn; all are attacked.

    ``batch``, ``steps``, ``sampling`` and ``optimiser`` are those of the pre-training. The server has no labels, and no rows,
    until the label party has brought them.
    """

    resumes: ClassVar[bool] = True
    uncarded: ClassVar[str] = "its labels come when parties have trained already, an appraisal wants them at once"
    paper: ClassVar[str] = (
        "Fan et al., When Does Contrastive Learning Preserve Adversarial Robustness from Pretraining to Finetuning?, "
        "NeurIPS 2021, arXiv 2111.01124"
    )

    labels: Literal["server"] = Field("server", description="where the top is: the server")
    registry: RoleId = Field("registry", description="the seat that brings the labels after the pre-training")
    pretraining: Annotated[Pretraining, OneOf("pretraining")] | None = Field(
        None, description="what parties learn without labels; default: nothing"
    )
    pretrained: str | None = Field(
        None, description="a folder of models, such as runs/x/model: bottoms start from these instead of drawn weights"
    )
    finetuning: Finetuning = Field(
        default_factory=lambda: Finetuning.model_validate({}), description="what is learned from labels"
    )
    robustness: Robustness = Field(
        default_factory=lambda: Robustness.model_validate({}), description="attacks on held-out rows"
    )
    threat: Threat = Field(default_factory=lambda: Threat.model_validate({}), description="how far pixels may move")
    augmentation: Augmentation = Field(
        default_factory=lambda: Augmentation.model_validate({}), description="what views do to images"
    )
    warmup: int = Field(0, ge=0, description="steps of the pre-training in which the learning rate rises")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: passes in mixed precision, for GPUs"
    )

    @model_validator(mode="after")
    def _fits(self) -> Contrastive:
        for name in UNUSED:
            if getattr(self, name) != type(self).model_fields[name].get_default():
                raise ValueError(f"{name}: this scenario has none but its default; found {getattr(self, name)}")
        if self.registry in (SERVER, *self.parties):
            raise ValueError(f"registry: '{self.registry}' is a seat already")
        return self

    def plan(self) -> Plan:
        """See `Scenario.plan`."""
        if self.data.apart:
            raise ConfigError(f"scenario.data: expected images that all seats share, found '{self.data.kind()}'")
        parties = {name: Seat(partial(build_slice, self, name)) for name in self.parties}
        seats = {
            SERVER: Seat(partial(build_server, self)),
            **parties,
            self.registry: Seat(partial(build_registry, self), trains=False),
        }
        pseudo = self.pretraining.pseudo if self.pretraining else None
        components = ("Components",) if pseudo is not None and pseudo.of == "components" else ()
        learns = self.pretraining is not None or self.finetuning.attacks or self.finetuning.moves_bottoms
        up, down = ("Rows", "Embedding", *components, "Spent"), (*("Gradient",) * learns, "Chosen", "Reply")
        flows = [Flow(kind, name, SERVER) for name in self.parties for kind in up]
        flows += [Flow(kind, SERVER, name) for name in self.parties for kind in down]
        flows += [Flow("Ready", SERVER, self.registry), Flow("Labels", self.registry, SERVER)]
        return Plan(SERVER, seats, tuple(flows))

    def training_steps(self) -> int:
        """Those of the pre-training, if there is one, and of the fine-tuning."""
        return (self.steps if self.pretraining else 0) + self.finetuning.steps

    def schedule(self, rng: Rng, train: int, test: int) -> Schedule:
        """Nothing: the stages have batches of their own."""
        return Schedule(rng.child("schedule"), train, test, self.batch, 0, 1)

    def course(self, public: Rng) -> Course:
        """What all seats derive from the file."""
        return Course(
            self.pretraining,
            self.finetuning,
            self.robustness,
            self.threat,
            self.augmentation,
            self.batch,
            self.steps,
            self.sampling,
            self.warmup,
            self.precision,
            public.child("contrast"),
        )


def build_slice(scenario: Contrastive, name: RoleId, public: Rng, private: Rng) -> FeatureParty:
    """A feature party whose only business is the three stages."""
    part = Slice(scenario.course(public), private.child("contrast"))
    party = build_party(scenario, name, public, private, part)
    party.talk = part.course.talk(len(party.bottom.features["train"]))
    shape = tuple(party.bottom.features["train"].shape[1:])
    if len(shape) != 3:
        raise ConfigError(f"scenario.data: expected images, found rows of shape {shape}")
    if scenario.pretrained is not None:
        where = Path(scenario.pretrained) / f"{name}.safetensors"
        tensors.restore(where, party.bottom.network.tensors)
    return party


def build_server(scenario: Contrastive, public: Rng, private: Rng) -> Server:
    """A server that reads no data."""
    widths = {name: party.embedding or scenario.embedding for name, party in scenario.parties.items()}
    top = partial(build_top, scenario, rng=private.child("top"))
    return Server(scenario.course(public), widths, scenario.registry, scenario.optimiser, top, private)


def build_registry(scenario: Contrastive, public: Rng, private: Rng) -> Registry:
    """A seat that reads the labels and nothing else."""
    train, test = scenario.data.split(public.child("rows"))
    raw = scenario.data.labels()
    classes = fit_classes(raw, train, test)
    return Registry(classes.apply(raw[train]), classes.apply(raw[test]), classes)
