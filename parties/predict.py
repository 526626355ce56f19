"""A trained vertical federation on new rows: the same exchange, with nothing but queries.

A row gets the same answer whatever rows stand beside it: networks see blocks of one size, filled up with zeros. Libraries round
products of matrices by the shape of the matrices; of one shape each row came out equal to the bit wherever we measured it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import BaseModel, Field, PositiveInt, ValidationError
from torch import Tensor

from fedsim.errors import ContentError, OutputError
from fedsim.message import Flow, RoleId
from fedsim.net import Net
from fedsim.parties.classes import LabelEncoder
from fedsim.parties.cut import Part, TablePart
from fedsim.parties.data import Data
from fedsim.parties.encode import Encoder, pick_rows
from fedsim.parties.labels import Scoring, settled
from fedsim.parties.query import QueryRows, find_rows
from fedsim.plan import NewRows, Plan, Saved, Seat
from fedsim.seeding import Rng
from fedsim.vfl import split
from fedsim.vfl.absence import Absences, Sends
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.modules import limited_tensors
from fedsim.vfl.network import Network
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Turn, pass_over
from fedsim.vfl.split import Own
from fedsim.vfl.top import Top

if TYPE_CHECKING:
    from fedsim.parties.vertical import Vertical

NO_UPDATES = OptimiserConfig().build({})
BLOCK_ROWS = 32
"""Rows that a network sees at once."""
MOST_OTHERS = 10_000_000
"""Numbers that building a network may take beside those that were saved, twice over."""


class Architecture(BaseModel):
    """How a party's network was built."""

    model: dict[str, Any]
    shape: Annotated[list[PositiveInt], Field(min_length=1, max_length=4)]
    embedding: PositiveInt


class SavedParty(BaseModel):
    """The sidecar of a party."""

    encoder: dict[str, Any]
    architecture: Architecture


class SavedHub(BaseModel):
    """The sidecar of the hub, with that of a party at its seat."""

    classes: dict[str, Any]
    own: SavedParty | None


class QueriedBottom(Bottom):
    """A bottom whose answer to a row does not depend on the other rows."""

    def forward(self, turn: Turn) -> Tensor:
        """See `Bottom.forward`."""
        return self._replied(infer_blocks(self.network, self.rows(turn)), turn)


class QueriedTop(Top):
    """A top model of the same kind."""

    def predict(self, embeddings: Mapping[RoleId, Tensor]) -> Tensor:
        """See `Top.predict`."""
        return infer_blocks(self.network, torch.cat(list(embeddings.values()), dim=1)).softmax(dim=1)


def infer_blocks(network: Network, rows: Tensor) -> Tensor:
    """What a network makes of rows (n, ...), (n, E), `BLOCK_ROWS` of them at a time."""
    found = []
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        full = torch.zeros(BLOCK_ROWS, *rows.shape[1:], dtype=rows.dtype)
        full[: len(block)] = block
        found.append(network.infer(full)[: len(block)])
    return torch.cat(found)


class QueriedParty:
    """A party that embeds new rows with its trained bottom; ``notices`` is what people should know of them."""

    def __init__(self, bottom: Bottom, notices: Sequence[str] = ()) -> None:
        self.bottom, self.notices = bottom, list(notices)

    async def run(self, net: Net) -> None:
        """Send the embedding of every row."""
        show_notices(self.notices, net)
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


class QueryingHub:
    """The hub: its ``tensors`` are the probabilities (n, C), its sidecar has the classes and, where labels are, the score.

    Attributes:
        top: the trained top model.
        query: the new rows.
        parties: everyone with a bottom, in roster order.
        classes: the label encoder.
        scoring: how rows with labels are scored.
        own: the bottom at this seat, if it has one.
        notices: what people should know of the rows.
    """

    def __init__(
        self,
        top: Top,
        query: QueryRows,
        parties: Sequence[RoleId],
        classes: LabelEncoder,
        sends: Sends,
        scoring: Scoring,
        own: Own | None = None,
        notices: Sequence[str] = (),
    ) -> None:
        self.top, self.query, self.parties, self.classes, self.own = top, query, tuple(parties), classes, own
        self.scoring, self.notices = scoring, [*query.notices, *notices]
        self._sends = sends
        self._pieces: list[Tensor] = []
        self._scores: dict[str, Any] = {}

    async def run(self, net: Net) -> None:
        """Gather embeddings, predict, and score what has labels."""
        show_notices(self.notices, net)
        turns, absences = pass_over("query", self.query.count), Absences(self._sends)
        await split.serve(
            self.top, turns, net, self.parties, lambda turn, p: self._pieces.append(p), absences, self.own
        )
        self._scores = self._score(net)

    def _score(self, net: Net) -> dict[str, Any]:
        found = self.query.find_labels()
        if found is None or not found[1].any():
            return {}
        raw, known = found
        labels = torch.full((len(raw),), -1)
        labels[torch.from_numpy(known)] = torch.from_numpy(self.classes.find(raw[known]))
        if unseen := int((labels < 0).sum()) - int((~known).sum()):
            label = next(
                str(each) for each, k in zip(raw[known], labels[torch.from_numpy(known)], strict=True) if k < 0
            )
            rows = "row has a label" if unseen == 1 else "rows have labels"
            show_notices([f"{unseen} {rows} that training never saw, such as '{label}', and no part in the score"], net)
        scored = labels >= 0
        if not scored.any():
            return {}
        probabilities = settled(torch.cat(self._pieces)[scored], labels[scored])
        return {"scores": dict(self.scoring(probabilities, labels[scored])), "labelled": int(scored.sum())}

    def tensors(self) -> Mapping[str, Tensor]:
        """``probabilities`` (n, C)."""
        return {"probabilities": torch.cat(self._pieces)}

    def sidecar(self) -> Mapping[str, Any]:
        """The names of the classes, in the order of the probabilities; see `Scenario.predictor`."""
        ids = {} if self.query.ids is None else {"ids": list(self.query.ids)}
        return {"classes": list(self.classes.classes), **ids, **self._scores}

    def knows(self, name: str) -> Any:
        """Nothing."""
        return None

    def describe(self) -> Mapping[str, Any]:
        """How many rows."""
        return {"rows": {"query": self.query.count}}


def show_notices(notices: Iterable[str], net: Net) -> None:
    """Tell whoever watches the run."""
    for notice in notices:
        net.show({"notice": f"{net.me}: {notice}"})


def predictor(scenario: Vertical, new: NewRows, saved: Mapping[RoleId, Saved]) -> Plan:
    """The plan of a prediction: seats are built from what they saved and read the new rows.

    Raises:
        ConfigError, DataError: see `find_rows`.
    """
    hub, parties = scenario.labels, scenario.feature_parties()
    for role in scenario.roster():
        _check_saved(scenario, role, saved)
    encoders = {role: _encoder(scenario, saved[role][1]["own"] if role == hub else saved[role][1]) for role in parties}
    columns = {role: [column.name for column in encoder.columns] for role, encoder in encoders.items()}
    query = find_rows(scenario, new, columns)
    seats = {
        role: Seat(partial(_hub if role == hub else _party, scenario, query, role, saved[role]))
        for role in scenario.roster()
    }
    return Plan(hub, seats, tuple(Flow("Embedding", party, hub) for party in parties if party != hub))


def _check_saved(scenario: Vertical, role: RoleId, saved: Mapping[RoleId, Saved]) -> None:
    """Look at what lies in the run folder, which may be a stranger's, before anything is built from it.

    Raises:
        ContentError: it is not what a seat of this scenario saves.
    """
    if role not in saved:
        raise ContentError(f"nothing was saved of seat {role}; the scenario has it")
    try:
        form: type[SavedHub | SavedParty] = SavedHub if role == scenario.labels else SavedParty
        found = form.model_validate(saved[role][1])
    except ValidationError as error:
        where = ".".join(str(part)[:60] for part in error.errors()[0]["loc"])
        raise ContentError(f"what was saved of {role} is not whole: {where}: {error.errors()[0]['msg']}") from error
    party = found.own if isinstance(found, SavedHub) else found
    if (party is not None) != (role in scenario.feature_parties()):
        raise ContentError(f"what was saved of {role} does not fit its scenario: a model of its own columns")
    if party is not None and party.architecture.embedding != scenario.width(role):
        width, expected = party.architecture.embedding, scenario.width(role)
        raise ContentError(f"the saved model of {role} sends {width} numbers a row; its scenario has {expected}")


def _encoder(scenario: Vertical, sidecar: Mapping[str, Any]) -> Encoder:
    """The schema that a party has kept; how new files spell their values, the settings say."""
    return Encoder.from_json(sidecar["encoder"]).read_as(scenario.data.missing, scenario.data.parse_rules())


def _party(scenario: Vertical, query: QueryRows, role: RoleId, saved: Saved, public: Rng, private: Rng) -> QueriedParty:
    return QueriedParty(*_bottom(scenario, query, role, saved, private))


def _bottom(scenario: Vertical, query: QueryRows, role: RoleId, saved: Saved, private: Rng) -> tuple[Bottom, list[str]]:
    """A trained bottom over a party's new rows, and what people should know of them."""
    from fedsim.parties.vertical import build_bottom

    tensors, sidecar = saved
    with _limited(tensors, role):
        network = build_bottom(sidecar["architecture"], private)
    _load(network, tensors, role)
    encoder, data, notices = _encoder(scenario, sidecar), query.data[role], list[str]()
    raw, rows = data.read_cells(_part(scenario, data, role, encoder)), query.rows_at(data)
    features = encoder.apply(raw if rows is None else pick_rows(raw, rows), notices)
    if list(features.shape[1:]) != sidecar["architecture"]["shape"]:
        found, expected = list(features.shape[1:]), sidecar["architecture"]["shape"]
        raise ContentError(f"the saved columns of {role} make inputs of shape {found}, its model takes {expected}")
    return QueriedBottom(network, {"query": features}), notices


def _part(scenario: Vertical, data: Data, role: RoleId, encoder: Encoder) -> Part:
    """What this party reads of the new file; the one it was trained on need not be there any more."""
    if encoder.image is None:
        return TablePart(tuple(column.name for column in encoder.columns))
    return scenario.model_copy(update={"data": data}).part(role)


def _hub(scenario: Vertical, query: QueryRows, role: RoleId, saved: Saved, public: Rng, private: Rng) -> QueryingHub:
    from fedsim.parties.vertical import build_top

    tensors, sidecar = saved
    classes = LabelEncoder.from_json(sidecar["classes"])
    with _limited(tensors, role):
        network = build_top(scenario, len(classes.classes), private)
    _load(network, _under("top.", tensors), role)
    own, notices = None, list[str]()
    if sidecar["own"]:
        bottom, notices = _bottom(scenario, query, role, (_under("bottom.", tensors), sidecar["own"]), private)
        own = (bottom, NO_UPDATES)
    top, parties = (
        QueriedTop(network, torch.empty(0, dtype=torch.int64), scenario.optimiser),
        scenario.feature_parties(),
    )
    return QueryingHub(top, query, parties, classes, scenario.sends, scenario.scoring(top), own, notices)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _limited(tensors: Mapping[str, Tensor], role: RoleId) -> Iterator[None]:
    """Build a network whose sizes stand in a run folder: not one that has nothing to do with what was saved of it."""
    try:
        with limited_tensors(MOST_OTHERS + 2 * sum(tensor.numel() for tensor in tensors.values())):
            yield
    except ValueError as error:
        raise ContentError(f"the saved model of {role} cannot be built: {error}") from error


def _load(network: Network, tensors: Mapping[str, Tensor], role: RoleId) -> None:
    try:
        network.load(tensors)
    except ValueError as error:
        raise OutputError(f"the saved model of {role} does not fit its scenario: {error}") from error


def _turns(features: Tensor) -> Iterable[Turn]:
    return pass_over("query", len(features))
