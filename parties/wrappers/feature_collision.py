"""A label holder that enters records under their true label, made to be embedded where one record of another class is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.errors import ConfigError
from fedsim.message import Flow, RoleId
from fedsim.net import Net
from fedsim.parties.data._pair import Sizes
from fedsim.parties.labels import Baseline, LabelHolder, Scoring
from fedsim.parties.opening import Crafted, Entries, Opening
from fedsim.parties.rehearsal import Slices
from fedsim.parties.wrappers._around import Around, Told
from fedsim.parties.wrappers._crew import Crew, Rows
from fedsim.parties.wrappers._plots import (
    TRUTH,
    Deed,
    blend,
    check_place,
    check_plotters,
    check_told,
    counted,
    opening_of,
    target_truth,
)
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Knowledge, Site, Wrapper
from fedsim.vfl.optimise import OptimiserConfig


class FeatureCollision(Wrapper):
    """Have one held-out target record taken for the next class; every label that is entered is true.

    What is entered stands for records of that class, the nearest to the victim among those of the ``base`` domain. In the
    slices of the parties in the plot they are moved, within ``reach``, until several models embed them where they embed the
    victim. These models are those of rehearsals, at ages spread over the whole training, which goes on with the poison between
    the moves; another rehearsal says which class the victim is of. Needs ``slices``, and to choose among target records
    ``target_labels`` or ``pseudo_labels``.
    """

    resumes: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Mehra et al., Understanding the Limits of Unsupervised Domain Adaptation via Data Poisoning, 2021"
    )

    victim: int = Field(0, ge=0, description="which of the held-out target rows")
    base: Literal["target", "source"] = Field("target", description="the domain of the records that are moved")
    plotters: tuple[RoleId, ...] = Field((), description="parties in the plot; each needs a crafted_slice around it")
    rate: float = Field(0.1, gt=0, le=1, description="poison records, as a share of the target's training rows")
    watermark: float = Field(0.1, ge=0, le=1, description="share of the victim in a record before it is moved")
    reach: float = Field(0.8, ge=0, description="by how much a value may be moved; a table's columns have deviation 1")
    weight: float = Field(1.0, ge=0, description="weight of the squared distance that a record is moved by")
    lr: float = Field(0.01, gt=0, description="length of a move, by Adam")
    models: int = Field(4, ge=1, description="rehearsals, begun at evenly spread ages")
    rounds: int = Field(20, ge=1, description="turns of training all rehearsals and moving the records")
    moves: int = Field(20, ge=1, description="moves a round")

    def flows(self, site: Site) -> Sequence[Flow]:
        """See `Wrapper.flows`: what is crafted, to the plotters."""
        check_place(site, "hub")
        check_told(site, ("slices",), *([TRUTH] if self.base == "target" else []))
        check_plotters(site, self.plotters, "crafted_slice")
        return [Flow(Crafted.kind(), site.hub, party) for party in self.plotters]

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, lambda inside: self._begin(inside, rng))

    def _begin(self, role: Role, rng: Rng) -> Told:
        deed = Deed(self.kind())
        opening = opening_of(role, LabelHolder)
        assert isinstance(role, LabelHolder)
        plot = _Plot(self, opening, rng, deed)
        opening.plots.append(plot)
        role.scoring = plot.scored(role.scoring)
        role.baseline = plot.guessed(role.baseline, int(role.class_counts.argmax()))
        return deed.told()


class _Plot:
    def __init__(self, config: FeatureCollision, opening: Opening, rng: Rng, deed: Deed) -> None:
        self.config, self.opening, self.rng, self.deed = config, opening, rng, deed
        self.wanted, self.number = -1, -1

    async def __call__(self, labels: Tensor, sizes: Sizes, knowledge: Knowledge, net: Net) -> Entries:
        """See `fedsim.parties.opening.Plot`."""
        config, self.deed.knowledge = self.config, knowledge
        slices: Slices = knowledge.need("slices")
        known = labels.clone()
        if config.base == "target":
            known[sizes.source :] = target_truth(knowledge)
        victim = self._choose(slices, labels, sizes)
        is_source = torch.arange(len(labels)) < sizes.source
        domain = is_source if config.base == "source" else ~is_source
        bases = self._nearest(slices.train, victim, domain & (known == self.wanted), counted(config.rate, sizes.target))
        entered = torch.full((len(bases),), self.wanted)
        for party, rows in self._moved(slices.train, torch.cat([labels, entered]), bases, victim).items():
            await net.send(party, Crafted(0, rows, purpose="query"))
        self.deed.numbers |= {"records entered": len(bases), "wanted class": self.wanted}
        return Entries(bases, entered)

    def scored(self, inner: Scoring) -> Scoring:
        """What it was, and whether the victim is taken for the wanted class and is of another."""

        def scoring(probabilities: Tensor, labels: Tensor) -> Mapping[str, float]:
            guess, truth = int(probabilities[self.number].argmax()), int(labels[self.number])
            return {**inner(probabilities, labels), "victim_taken": float(guess == self.wanted != truth)}

        return scoring

    def guessed(self, inner: Baseline, guess: int) -> Baseline:
        """What it was, and whether a constant guess takes the victim for the wanted class."""

        def baseline(labels: Tensor) -> Mapping[str, float]:
            return {**inner(labels), "victim_taken": float(guess == self.wanted != int(labels[self.number]))}

        return baseline

    def _choose(self, slices: Slices, labels: Tensor, sizes: Sizes) -> Rows:
        """The victim, (1, ...) by party; it is to be taken for the class after the one that a rehearsal takes it for."""
        if self.config.victim >= sizes.held_target:
            raise ConfigError(f"victim: {self.config.victim} is asked of {sizes.held_target} held-out target rows")
        self.number = sizes.held_source + self.config.victim
        victim = {party: rows[self.number : self.number + 1] for party, rows in slices.held_out.items()}
        rehearsal = self.opening.rehearse(slices.train, labels, self.rng.child("victim"))
        rehearsal.play(rehearsal.steps)
        self.wanted = (int(rehearsal.label(victim)) + 1) % (int(labels.max()) + 1)
        return victim

    def _nearest(self, train: Rows, victim: Rows, allowed: Tensor, count: int) -> Tensor:
        """The rows nearest to the victim in all slices, of those that are allowed, (count,) or as many as there are."""
        ids = torch.nonzero(allowed).flatten()
        if not len(ids):
            raise ConfigError(f"no record of the {self.config.base} domain is known to be of class {self.wanted}")
        apart = torch.stack([(rows[ids] - victim[p]).flatten(1).square().sum(1) for p, rows in train.items()]).sum(0)
        return ids[apart.argsort()[:count]]

    def _moved(self, train: Rows, labels: Tensor, bases: Tensor, victim: Rows) -> dict[RoleId, Tensor]:
        """What the plotters enter, (n, ...) each.

        Shafahi et al., Poison Frogs, NeurIPS 2018, equation 1, over several models. Embeddings are joined, so the distance in
        all of them is the sum of those that each party's slice makes.
        """
        config = self.config
        start = {p: blend(train[p][bases], victim[p], config.watermark) for p in config.plotters}
        moved = {p: rows.clone().requires_grad_() for p, rows in start.items()}
        optimiser = OptimiserConfig(lr=config.lr).build(moved)

        def rows() -> Rows:
            entered = {p: moved[p].detach() if p in moved else x[bases] for p, x in train.items()}
            return {p: torch.cat([x, entered[p]]) for p, x in train.items()}

        crew = Crew(self.opening.rehearse, rows(), labels, config.models, self.rng.child("crew"))
        for nth in range(config.rounds * bool(moved)):
            crew.train(rows(), crew.steps // config.rounds)
            for _ in range(config.moves):
                gap = torch.stack([crew.distance(p, u, victim[p]) for p, u in moved.items()]).sum()
                drift = torch.stack([(u - start[p]).square().sum() for p, u in moved.items()]).sum()
                gradients = torch.autograd.grad(gap + config.weight * drift, list(moved.values()))
                optimiser.step(dict(zip(moved, gradients, strict=True)))
                self._hold(moved, start, train)
            self.deed.numbers["collision, first round" if nth == 0 else "collision, last round"] = gap.item() / len(
                bases
            )
        return {p: u.detach() for p, u in moved.items()}

    def _hold(self, moved: Rows, start: Rows, train: Rows) -> None:
        """Within reach, and within the values that the slice has anyway."""
        reach = self.config.reach
        with torch.no_grad():
            for p, u in moved.items():
                u.clamp_(start[p] - reach, start[p] + reach).clamp_(train[p].min(), train[p].max())
