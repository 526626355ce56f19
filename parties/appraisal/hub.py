"""The hub's half of the appraisal: it judges what parties send, and answers those that explain their features."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.errors import ProtocolError
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.parties.appraisal import Appraisal, GroupSums, Outcomes, Valued, Varied
from fedsim.parties.appraisal.drills import Drill, axes, begin, copy_of_hub, drills, turns
from fedsim.parties.appraisal.features import apart, explain
from fedsim.parties.appraisal.groups import differences
from fedsim.parties.appraisal.party import Groups, embeddings, judge_groups, played, variants
from fedsim.parties.appraisal.result import worth_figures
from fedsim.parties.appraisal.shapley import Coalition, shapley
from fedsim.parties.examine.weights import Subject
from fedsim.parties.labels import LabelHolder, last_evaluation, settled
from fedsim.resilience import Row, Table
from fedsim.seeding import Rng
from fedsim.vfl.messages import Embedding
from fedsim.vfl.network import gradients

Answers = list[Tensor]
"""Of one party, the embeddings (n, E) of each of its variants, the untouched first."""


class Desk:
    """What a hub finds out.

    Attributes:
        clean: by party, in roster order, the embeddings of the held-out rows as they are in use, (n, E).
        probabilities: the predictions on them, (n, C).
    """

    def __init__(self, hub: LabelHolder, plan: Appraisal, groups: Groups, net: Net, public: Rng) -> None:
        self.hub, self.plan, self.groups, self.net, self.public = hub, plan, groups, net, public
        self.clean: dict[RoleId, Tensor] = {}
        self.probabilities = torch.empty(0)
        self._answers: dict[RoleId, Answers] = {}

    async def gather(self) -> None:
        """The embeddings of every variant of every party."""
        for party in self.plan.parties:
            self._answers[party] = await self._variants(party)
            self.clean[party] = self._answers[party][0]
        self.probabilities = self._judged({})

    async def _variants(self, party: RoleId) -> Answers:
        if self.hub.own is not None and party == self.net.me:
            twins = variants(self.hub.own[0], party, self.plan)
            return [torch.cat([z for _, z in embeddings(twin, nth)]) for nth, twin in enumerate(twins)]
        found: Answers = []
        for nth in range(1 + sum(len(drill.seeds) for drill in played(self.plan, party))):
            passes = turns(self.hub.schedule, nth)
            z = torch.cat([(await self.net.recv(party, Embedding, turn.step)).z for turn in passes])
            if len(z) != (rows := len(self.hub.held_out)) or (found and z.shape != found[0].shape):
                raise ProtocolError(f"{party} sent embeddings of shape {tuple(z.shape)} for {rows} held-out rows")
            found.append(z)
        return found

    def _judged(self, instead: Mapping[RoleId, Tensor], hub: LabelHolder | None = None) -> Tensor:
        """Probabilities (n, C), with other embeddings of some parties, or by a hub that is spoilt."""
        found = (hub or self.hub).top.predict({p: instead.get(p, z) for p, z in self.clean.items()})
        return settled(found, self.hub.held_out)

    async def fairness(self) -> dict[str, float]:
        """By difference and column, how far apart groups are."""
        asked = self.plan.fairness
        if asked is None:
            return {}
        names = list(self.hub.classes.classes)
        best = names.index(asked.favourable) if asked.favourable else len(names) - 1
        selected, positive = self.probabilities.argmax(dim=1) == best, self.hub.held_out == best
        known: dict[str, tuple[Tensor, bool]] = {}
        for column, counts, figure in judge_groups(self.groups, Outcomes(0, selected, positive), asked):
            known[column] = counts, True
            self.net.draw(figure)
        told = asked.told == "labels"
        for owner in dict.fromkeys(each for each in self.plan.owners.values() if each != self.net.me):
            shown = positive if told else positive[:0]
            await self.net.send(owner, Outcomes(0, selected, shown, purpose="query"))
        for i, column in enumerate(asked.by):
            if (owner := self.plan.owners[column]) != self.net.me:
                known[column] = _checked(await self.net.recv(owner, GroupSums, i), owner, len(selected)), told
        return {
            f"{name}_{column}": found.value
            for column in asked.by
            for name, found in differences(known[column][0].numpy(), known[column][1]).items()
        }

    def worth(self) -> None:
        """Draw what each party is worth."""
        if (asked := self.plan.worth) is None:
            return
        absent = {party: answers[1] for party, answers in self._answers.items()}

        def value(there: Coalition) -> Tensor:
            return self._scores(self._judged({p: z for p, z in absent.items() if p not in there}))

        found = shapley(self.plan.parties, value, asked.exact, asked.orders, self.public.child("orders"))
        for figure in worth_figures(found, asked.orders):
            self.net.draw(figure)

    def _scores(self, probabilities: Tensor) -> Tensor:
        """Of each row whether it is right, and the negative log loss, (n, 2) float64."""
        p = probabilities.double().clamp_min(1e-15)
        loss = functional.nll_loss(p.log(), self.hub.held_out, reduction="none")
        return torch.stack([(p.argmax(dim=1) == self.hub.held_out).double(), -loss], dim=1)

    def resilience(self) -> Table | None:
        """The table, which is drawn as well."""
        if (asked := self.plan.resilience) is None:
            return None
        rows = [self._row(d, ds) for party in self.plan.parties for d, ds in self._drawn(party)]
        for drill in drills(self.plan, self.plan.hub, top=True):
            rows.append(self._row(drill, [self._spoilt(drill, seed) for seed in drill.seeds]))
        blind = float((self.hub.held_out == self.hub.class_counts.argmax()).double().mean())
        accuracy = float(self._scores(self.probabilities)[:, 0].mean())
        table = Table(accuracy, blind, axes(asked), rows)
        for figure in table.figures():
            self.net.draw(figure)
        return table

    def _drawn(self, party: RoleId) -> list[tuple[Drill, list[Tensor]]]:
        """Each drill of a party with the probabilities of its draws."""
        answers = iter(self._answers[party][1:])
        return [
            (drill, [self._judged({party: next(answers)}) for _ in drill.seeds]) for drill in played(self.plan, party)
        ]

    def _spoilt(self, drill: Drill, seed: int) -> Tensor:
        twin = copy_of_hub(self.hub)
        begin(drill, twin, seed)
        return self._judged({}, twin)

    def _row(self, drill: Drill, drawn: list[Tensor]) -> Row:
        scores = torch.stack([self._scores(probabilities).mean(dim=0) for probabilities in drawn])
        loss = -float(scores[:, 1].mean())
        seat = f"top model at {drill.seat}" if drill.top else drill.seat
        accuracy, lowest = float(scores[:, 0].mean()), float(scores[:, 0].min())
        return Row(drill.axis, drill.level, seat, drill.named, list(drill.seeds), accuracy, lowest, loss)

    async def features(self) -> None:
        """Answer every party that explains its features."""
        if (worth := self.plan.worth) is None:
            return
        for party in self.plan.disclosing:
            if party == self.net.me:
                assert self.hub.own is not None, "a party at the hub's seat"
                own = self.hub.own[0]
                explained = partial(
                    explain, own, worth, self.public.child("explain", party), partial(self.answer, party)
                )
                for figure in (await apart(explained)).figures(party):
                    self.net.draw(figure)
                continue
            step = 0
            while (asked := await self.net.recv(party, Varied, step)).goal != "none":
                await self.net.send(party, self.answer(party, asked.z, asked.goal, step))
                step += 1

    def answer(self, party: RoleId, z: Tensor, goal: str, step: int = 0) -> Valued:
        """What becomes of embeddings (V, n, E) of one party.

        Raises:
            ProtocolError: they have another shape, or the goal is none.
        """
        assert self.plan.worth is not None
        rows = min(len(self.hub.held_out), self.plan.worth.rows)
        if z.ndim != 3 or z.shape[1:] != (rows, self.clean[party].shape[1]) or goal not in ("value", "loss"):
            raise ProtocolError(
                f"{party} asks for the {goal} of embeddings of shape {tuple(z.shape)}; there are {rows} rows"
            )
        if goal == "loss":
            truth = self.hub.held_out[:rows].repeat(len(z))
            with torch.no_grad():
                logits = self._through(party, z).flatten(0, 1).double()
            loss = functional.cross_entropy(logits, truth, reduction="none").view(len(z), rows)
            return Valued(step, loss.mean(dim=1), torch.empty(0), purpose="query")
        with torch.enable_grad():  # a party at this very seat asks in the midst of a pass of its own
            z = z.detach().requires_grad_()
            odds = self._log_odds(self._through(party, z))
            g = gradients(odds.sum(), [z])[0]
        return Valued(step, odds.detach(), g, purpose="query")

    def _log_odds(self, logits: Tensor) -> Tensor:
        """Of the class that is predicted for each row, (V, n), from logits (V, n, C)."""
        predicted = self.probabilities[: logits.shape[1]].argmax(dim=1)
        own = functional.one_hot(predicted, logits.shape[2]).bool()
        return (logits * own).sum(dim=2) - logits.masked_fill(own, -torch.inf).logsumexp(dim=2)

    def _through(self, party: RoleId, z: Tensor) -> Tensor:
        """Logits (V, n, C)."""
        count, rows = len(z), z.shape[1]
        parts = [z if p == party else c[:rows].expand(count, rows, c.shape[1]) for p, c in self.clean.items()]
        joined = torch.cat(parts, dim=2).flatten(0, 1)
        top = Subject.of(self.hub.top.network, joined)
        return top.run(top.weights).view(count, rows, -1)


async def at_hub(hub: LabelHolder, plan: Appraisal, groups: Groups, net: Net, public: Rng) -> None:
    """Everything, in the order in which parties send it; numbers are logged beside those of the last evaluation."""
    desk = Desk(hub, plan, groups, net, public)
    await desk.gather()
    last, constant = last_evaluation(net)
    found = await desk.fairness()
    if not last:
        last, constant = (
            dict(scores) for scores in (hub.scoring(desk.probabilities, hub.held_out), hub.baseline(hub.held_out))
        )
    guessed = dict.fromkeys(found, 0.0)  # who says the same of everybody treats all groups alike
    net.log(step=hub.schedule.steps, test={**last, **found}, baseline={**constant, **guessed})
    desk.worth()
    await desk.features()
    if (table := desk.resilience()) is not None:
        hub.found["resilience"] = table.plain()


def _checked(answer: GroupSums, owner: RoleId, rows: int) -> Tensor:
    """The sums of one column, (G, 4); ProtocolError if they cannot be."""
    counts = answer.counts
    if counts.ndim != 2 or counts.shape[1] != 4 or counts.dtype != torch.int64:
        raise ProtocolError(f"{owner} sent sums over groups as {tuple(counts.shape)}; expected (groups, 4) of int64")
    if len(counts) and (int(counts.min()) < 0 or int(counts.sum()) > rows or int(counts.sum(dim=1).min()) < 1):
        raise ProtocolError(f"{owner} sent sums over groups that cannot be of {rows} rows")
    return counts
