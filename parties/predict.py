"""A trained vertical federation on new rows: the same exchange, with nothing but queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fedsim.errors import OutputError
from fedsim.message import Flow, RoleId
from fedsim.net import Net
from fedsim.parties.cut import Part, TablePart
from fedsim.parties.data import Data
from fedsim.parties.encode import Encoder, LabelEncoder
from fedsim.plan import Plan, Saved, Seat
from fedsim.seeding import Rng
from fedsim.vfl import split
from fedsim.vfl.absence import Absences, Sends
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.network import Network
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Turn, pass_over
from fedsim.vfl.split import Own
from fedsim.vfl.top import Top

if TYPE_CHECKING:
    from fedsim.parties.vertical import Vertical

NO_UPDATES = OptimiserConfig().build({})


class QueriedParty:
    """A party that embeds new rows with its trained bottom."""

    def __init__(self, bottom: Bottom) -> None:
        self.bottom = bottom

    async def run(self, net: Net) -> None:
        """Send the embedding of every row."""
        await split.follow(self.bottom, NO_UPDATES, _turns(self.bottom.features["query"]), net)

    def tensors(self) -> Mapping[str, Tensor]:
        """Nothing new."""
        return {}

    def sidecar(self) -> Mapping[str, Any]:
        """Nothing new."""
        return {}

    def knows(self, name: str) -> Any:
        """Nothing."""
        return None

    def describe(self) -> Mapping[str, Any]:
        """How many rows."""
        return {"rows": {"query": len(self.bottom.features["query"])}}


class QueryingHub(QueriedParty):
    """The hub: its ``tensors`` are the probabilities (n, C), its sidecar names the classes."""

    def __init__(
        self,
        top: Top,
        rows: int,
        parties: Sequence[RoleId],
        classes: LabelEncoder,
        sends: Sends,
        own: Own | None = None,
    ) -> None:
        self.top, self.rows, self.parties, self.classes, self.own = top, rows, tuple(parties), classes, own
        self._sends = sends
        self._pieces: list[Tensor] = []

    async def run(self, net: Net) -> None:
        """Gather embeddings and predict."""
        turns, absences = pass_over("query", self.rows), Absences(self._sends)
        await split.serve(
            self.top, turns, net, self.parties, lambda turn, p: self._pieces.append(p), absences, self.own
        )

    def tensors(self) -> Mapping[str, Tensor]:
        """``probabilities`` (n, C)."""
        return {"probabilities": torch.cat(self._pieces)}

    def sidecar(self) -> Mapping[str, Any]:
        """The names of the classes, in the order of the probabilities."""
        return {"classes": list(self.classes.classes)}

    def describe(self) -> Mapping[str, Any]:
        """How many rows."""
        return {"rows": {"query": self.rows}}


def predictor(scenario: Vertical, path: str, saved: Mapping[RoleId, Saved]) -> Plan:
    """The plan of a prediction: seats are built from what they saved and read the new file."""
    data: Data = scenario.data.elsewhere(path)
    seats = {
        role: Seat(partial(_hub if role == scenario.plan().hub else _party, scenario, data, role, saved[role]))
        for role in scenario.roster()
    }
    flows = tuple(Flow("Embedding", p, scenario.labels) for p in scenario.parties if p != scenario.labels)
    return Plan(scenario.labels, seats, flows)


def _party(scenario: Vertical, data: Data, role: RoleId, saved: Saved, public: Rng, private: Rng) -> QueriedParty:
    return QueriedParty(_bottom(scenario, data, role, saved, private))


def _bottom(scenario: Vertical, data: Data, role: RoleId, saved: Saved, private: Rng) -> Bottom:
    from fedsim.parties.vertical import build_bottom

    tensors, sidecar = saved
    network = build_bottom(sidecar["architecture"], private)
    _load(network, tensors, role)
    encoder = Encoder.from_json(sidecar["encoder"])
    return Bottom(network, {"query": encoder.apply(data.read(_part(scenario, data, role, encoder)))})


def _part(scenario: Vertical, data: Data, role: RoleId, encoder: Encoder) -> Part:
    """What this party reads of the new file; the one it was trained on need not be there any more."""
    if encoder.image is None:
        return TablePart(tuple(column.name for column in encoder.columns))
    return scenario.model_copy(update={"data": data}).part(role)


def _hub(scenario: Vertical, data: Data, role: RoleId, saved: Saved, public: Rng, private: Rng) -> QueryingHub:
    from fedsim.parties.vertical import build_top

    tensors, sidecar = saved
    classes = LabelEncoder.from_json(sidecar["classes"])
    network = build_top(scenario, len(classes.classes), private)
    _load(network, _under("top.", tensors), role)
    own = None
    if sidecar["own"]:
        bottom = _bottom(scenario, data, role, (_under("bottom.", tensors), sidecar["own"]), private)
        own = (bottom, NO_UPDATES)
    top = Top(network, torch.empty(0, dtype=torch.int64), scenario.optimiser)
    return QueryingHub(top, data.count(), list(scenario.parties), classes, scenario.sends, own)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load(network: Network, tensors: Mapping[str, Tensor], role: RoleId) -> None:
    try:
        network.load(tensors)
    except ValueError as error:
        raise OutputError(f"the saved model of {role} does not fit its scenario: {error}") from error


def _turns(features: Tensor) -> Iterable[Turn]:
    return pass_over("query", len(features))
