"""Where an appraisal begins: who knows which column, what each seat is to do, and weights that an earlier run has trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, PrivateAttr

from fedsim.errors import ConfigError, DataError, OutputError, suggest
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.parties.appraisal import Appraisal
from fedsim.parties.appraisal.features import needs_captum
from fedsim.parties.appraisal.groups import needs_fairlearn
from fedsim.parties.appraisal.hub import at_hub
from fedsim.parties.appraisal.party import Groups, at_party
from fedsim.parties.cut import TablePart
from fedsim.parties.data._values import read_words
from fedsim.parties.encode import to_raw
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder
from fedsim.plugins import Settings
from fedsim.report.reading import load_seat
from fedsim.seeding import Rng
from fedsim.vfl.network import Network
from fedsim.vfl.top import HubModel, Top

if TYPE_CHECKING:
    from fedsim.parties.vertical import Vertical

MOST_GROUPS = 50
"""A column with more values names people, or is a number; its groups would all be small."""


class Taken(Settings):
    """Which run's weights are taken up."""

    run: str = Field(description="the run folder; a relative path starts as those of data")
    arm: str = Field("", description="of its arms; default: the first")
    _folder: str = PrivateAttr("")

    def find_run(self) -> Path:
        """Where the run lies."""
        own = Path(self._folder, self.run)
        return own if self._folder and own.is_dir() else Path(self.run)


@dataclass(frozen=True)
class Appraiser:
    """The appraisal at one seat (`fedsim.parties.vertical.Epilogue`); ``groups`` are those of the columns that it knows."""

    plan: Appraisal
    groups: Groups
    public: Rng

    async def at_hub(self, hub: LabelHolder, net: Net) -> None:
        """The hub's half."""
        await at_hub(hub, self.plan, self.groups, net, self.public)

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """A party's half."""
        await at_party(party, self.plan, self.groups, net, self.public)


def appraiser(scenario: Vertical, name: RoleId, public: Rng) -> Appraiser | None:
    """What a seat does for a model card, if anything is asked.

    Raises:
        ConfigError: a library is missing, or a column or a class is not there.
        DataError: a column tells too many groups apart.
    """
    plan = scenario.appraisal()
    if plan is None:
        return None
    mine = [column for column, owner in plan.owners.items() if owner == name]
    if plan.fairness is not None and (mine or name == plan.hub):
        needs_fairlearn()
    if plan.worth is not None and name in plan.disclosing:
        needs_captum()
    held_out = scenario.data.split(public.child("rows"))[1] if mine else np.empty(0, dtype=np.int64)
    return Appraiser(plan, {column: _groups(scenario, column)[held_out] for column in mine}, public)


def owners(scenario: Vertical) -> dict[str, RoleId]:
    """By column of ``fairness.by``, the seat that knows it.

    Raises:
        ConfigError: nobody does, or a seat is named that does not exist.
    """
    asked, found = scenario.fairness, dict[str, RoleId]()
    for column in asked.by if asked else ():
        assert asked is not None
        at = asked.at.get(column)
        seats = [scenario.labels, *scenario.parties]
        if at is not None and at not in seats:
            raise ConfigError(f"scenario.fairness.at.{column}: no seat '{at}'{suggest(at, seats)}")
        holders = [at] if at else [name for name in scenario.feature_parties() if column in _columns(scenario, name)]
        if not holders:
            known = [name for party in scenario.feature_parties() for name in _columns(scenario, party)]
            raise ConfigError(f"scenario.fairness.by: no party has a column '{column}'{suggest(column, known)}")
        found[column] = holders[0]
    return found


def may_know(scenario: Vertical, name: RoleId) -> bool:
    """Whether a party knows a column of ``fairness.by`` as far as the file says; its patterns are resolved with the data."""
    asked = scenario.fairness
    for column in asked.by if asked else ():
        named = [asked.at[column]] if asked and column in asked.at else _naming(scenario, column)
        if name in named or not named:
            return True
    return False


def _naming(scenario: Vertical, column: str) -> list[RoleId]:
    return [name for name in scenario.feature_parties() if column in _terms(scenario, name)]


def check_favourable(scenario: Vertical, classes: tuple[str, ...]) -> None:
    """ConfigError if the class that people wish for is none of these."""
    wish = scenario.fairness.favourable if scenario.fairness else ""
    if wish and wish not in classes:
        raise ConfigError(f"scenario.fairness.favourable: no class '{wish}'{suggest(wish, classes)}")


def take_up(scenario: Vertical, name: RoleId, network: Network, sidecar: Mapping[str, Any]) -> None:
    """Give a bottom the weights that a run has trained, if the scenario names one.

    Raises:
        OutputError: not a run with such a seat, or one of other data.
    """
    if scenario.trained is None:
        return
    tensors, saved = load_seat(scenario.trained.find_run(), name, scenario.trained.arm)
    if name == scenario.labels:
        saved, tensors = saved.get("own") or {}, _under("bottom.", tensors)
    if saved != sidecar:
        raise OutputError(f"{scenario.trained.run}: {name} was trained on other data, or with another model")
    _load(network, tensors, name)


def take_up_top(scenario: Vertical, top: HubModel, sidecar: Mapping[str, Any]) -> None:
    """The same for a top model."""
    if scenario.trained is None:
        return
    if not isinstance(top, Top):
        raise ConfigError(
            f"scenario.trained: what the hub of '{scenario.kind()}' trains cannot be taken up; expected a plain top model"
        )
    tensors, saved = load_seat(scenario.trained.find_run(), scenario.labels, scenario.trained.arm)
    if saved.get("classes") != sidecar:
        raise OutputError(f"{scenario.trained.run}: was trained on other classes than those of the data at hand")
    _load(top.network, _under("top.", tensors), scenario.labels)


def _under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load(network: Network, tensors: Mapping[str, Any], role: RoleId) -> None:
    try:
        network.load(tensors)
    except ValueError as error:
        raise OutputError(f"the saved model of {role} does not fit its scenario: {error}") from error


def _columns(scenario: Vertical, name: RoleId) -> tuple[str, ...]:
    """A party's columns; where each seat has a table of its own, those that the file names one by one."""
    if scenario.data.apart:
        return _terms(scenario, name)
    part = scenario.part(name)
    return part.columns if isinstance(part, TablePart) else ()


def _terms(scenario: Vertical, name: RoleId) -> tuple[str, ...]:
    spec = scenario.parties[name].columns
    return tuple(term.strip() for term in spec.split(",")) if isinstance(spec, str) else spec


def _groups(scenario: Vertical, column: str) -> npt.NDArray[Any]:
    """The groups of all rows, (n,), as text."""
    table = scenario.data.read_cells(TablePart((column,)))
    assert not isinstance(table, np.ndarray), "a part of a table"
    cells, missing = read_words(to_raw(table), column, scenario.data.parse_rules())
    groups = np.where(missing, "missing", cells)
    if (count := len(set(groups.tolist()))) > MOST_GROUPS:
        raise DataError(f"scenario.fairness.by: column '{column}' has {count} values; allowed: {MOST_GROUPS}")
    return groups
