"""Where the hub judges what a malicious party pushes: what the others hold, and which rows are attacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsim.errors import DataError, ProtocolError
from fedsim.message import RoleId
from fedsim.parties.minmax.victim import margins
from fedsim.parties.slices import Felt, Pushed, Siege, Standing
from fedsim.seeding import Rng
from fedsim.vfl.network import Network, gradients
from fedsim.vfl.schedule import Turn

TRIED = 8
"""Records that are tried for each complement that is wanted: beside some the row as it is would be taken for something else."""


@dataclass(frozen=True)
class Case:
    """What one malicious party is up against.

    Attributes:
        seat: the party.
        rows: of the held-out ones, those that are attacked: right as they are, and in every domain, (n,).
        labels: of these, (n,).
        place: where its embedding stands among all.
        others: everybody's embeddings in each domain, (K, n, sum of E); the party's own are put in their place.
        truth: those that the rows really have, (n, sum of E).
    """

    seat: RoleId
    rows: Tensor
    labels: Tensor
    place: slice
    others: Tensor
    truth: Tensor


class Court:
    """The top model over everybody's embeddings.

    Attributes:
        right: which held-out rows are right as they are, (n,) bool.
    """

    def __init__(
        self, top: Network, labels: tuple[Tensor, Tensor], standing: Mapping[RoleId, Standing], plan: Siege, rng: Rng
    ) -> None:
        self._top, self._plan, self._rng = top, plan, rng
        self._places = dict[RoleId, slice]()
        for party, each in standing.items():
            start = max((place.stop for place in self._places.values()), default=0)
            self._places[party] = slice(start, start + each.test.shape[1])
        self._train = torch.cat([each.train for each in standing.values()], dim=1)
        self._test = torch.cat([each.test for each in standing.values()], dim=1)
        self._known, self._labels = labels[0], labels[1][: len(self._test)]
        self.right = self._predicted(self._test) == self._labels

    def open(self, seat: RoleId) -> Case:
        """The case of one malicious party.

        Raises:
            DataError: no row is right in every domain.
        """
        rows, others = self._domains(seat, self.right.nonzero().flatten())
        place, labels = self._places[seat], self._labels[rows]
        own = self._test[rows][:, place].expand(len(others), -1, -1)
        joined = _joined(others, own, place)
        kept = (self._predicted(joined.flatten(0, 1)).view(len(joined), -1) == labels).all(dim=0)
        if not kept.any():
            raise DataError(
                f"of {len(self._test)} held-out rows none is right whatever the parties besides {seat} hold"
            )
        rows = rows[kept]
        return Case(seat, rows, labels[kept], place, others[:, kept], self._test[rows])

    def feel(self, case: Case, pushed: Pushed) -> Felt:
        """Margins of what is pushed in every domain, and their gradients."""
        self._check(case, pushed)
        z = pushed.z.detach().expand(len(case.others), -1, -1).contiguous().requires_grad_()
        joined = _joined(case.others[:, pushed.rows], z, case.place).flatten(0, 1)
        turn = Turn(pushed.step, 0, "query", pushed.rows, quiet=True)
        found = margins(self._top.train(joined, turn), case.labels[pushed.rows].repeat(len(z)))
        g = gradients(found.sum(), [z])[0]
        return Felt(pushed.step, found.detach().view(len(z), -1), g, purpose="query")

    def judge(self, case: Case, pushed: Pushed) -> tuple[Tensor, Tensor]:
        """Which rows are wrong in each domain in the end, (K, n), and with what the others really hold, (n,)."""
        self._check(case, pushed)
        if len(pushed.z) != len(case.rows):
            raise ProtocolError(f"{case.seat} ends with {len(pushed.z)} rows; {len(case.rows)} are attacked")
        own = pushed.z.expand(len(case.others), -1, -1)
        joined = _joined(case.others, own, case.place).flatten(0, 1)
        wrong = self._predicted(joined).view(len(own), -1) != case.labels
        truth = _joined(case.truth[None], pushed.z[None], case.place)[0]
        return wrong, self._predicted(truth) != case.labels

    def _check(self, case: Case, pushed: Pushed) -> None:
        expected = (len(pushed.rows), case.place.stop - case.place.start)
        known = bool(((pushed.rows >= 0) & (pushed.rows < len(case.rows))).all())
        if pushed.z.shape != expected or not known:
            raise ProtocolError(f"{case.seat} pushes embeddings of shape {tuple(pushed.z.shape)}, expected {expected}")

    def _domains(self, seat: RoleId, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (n,) of those, and everybody's embeddings in each domain, (K, n, sum of E)."""
        if self._plan.over == "records":
            return rows, self._test[rows][None]
        if self._plan.over == "dropout":
            mean, full = self._train.mean(dim=0), self._test[rows]
            domains = [full]
            for party, place in self._places.items():
                if party != seat:
                    domains.append(full.clone())
                    domains[-1][:, place] = mean[place]
            return rows, torch.stack(domains)
        found = {int(row): self._complements(seat, int(row)) for row in rows}
        kept = [row for row, records in found.items() if len(records) == self._plan.count]
        picked = torch.stack([found[row] for row in kept], dim=1) if kept else torch.empty(self._plan.count, 0).long()
        return torch.tensor(kept, dtype=torch.int64), self._train[picked]

    def _complements(self, seat: RoleId, row: int) -> Tensor:
        """Training records of the row's class beside whose slices its own is taken for that class, at most K."""
        same = (self._known == self._labels[row]).nonzero().flatten()
        order = torch.randperm(len(same), generator=self._rng.child(seat, row).torch())
        tried = same[order[: TRIED * self._plan.count]]
        place = self._places[seat]
        own = self._test[row, place].expand(1, len(tried), -1)
        right = self._predicted(_joined(self._train[tried][None], own, place)[0]) == self._labels[row]
        return tried[right][: self._plan.count]

    def _predicted(self, joined: Tensor) -> Tensor:
        return self._top.infer(joined).argmax(dim=1)


def _joined(others: Tensor, own: Tensor, place: slice) -> Tensor:
    """Embeddings (K, n, sum of E) with those of one party, (K, n, E), in their place."""
    return torch.cat([others[..., : place.start], own, others[..., place.stop :]], dim=2)
