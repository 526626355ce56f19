"""New rows to predict: in which file each party's columns lie, which rows they have in common, and whether labels are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedsim.errors import ConfigError, DataError, suggest
from fedsim.message import RoleId
from fedsim.parties.data import Array, Data, Rows
from fedsim.plan import NewRows

if TYPE_CHECKING:
    from fedsim.parties.vertical import Vertical


@dataclass(frozen=True)
class QueryRows:
    """New rows, the same and in the same order at every seat.

    Attributes:
        data: by seat, the file that it reads.
        rows: by file, which of its rows are predicted; all of them in order where it is not named.
        count: how many rows are predicted.
        ids: what names them, where they were matched by it.
        labels: the file with their labels, if one has them.
        notices: how rows were matched.
    """

    data: Mapping[RoleId, Data]
    rows: Mapping[str, Rows]
    count: int
    ids: Sequence[str] | None
    labels: Data | None
    notices: Sequence[str]

    def find_labels(self) -> tuple[Array, npt.NDArray[np.bool_]] | None:
        """The raw labels of the rows, and which rows have one, (n,) both; None: no file has any."""
        if self.labels is None:
            return None
        labels, known = self.labels.known_labels()
        rows = self.rows_at(self.labels)
        return (labels, known) if rows is None else (labels[rows], known[rows])

    def rows_at(self, data: Data) -> Rows | None:
        """Which rows of a file are predicted; None: all."""
        return self.rows.get(_path(data))


def find_rows(scenario: Vertical, new: NewRows, columns: Mapping[RoleId, Sequence[str]]) -> QueryRows:
    """Open the files of new rows and match their rows.

    Args:
        scenario: the trained one.
        new: where they lie.
        columns: by party, the columns that it was trained on; none for images.

    Raises:
        ConfigError: a file is given to a seat that does not exist.
        DataError: a party has no file, two parties would read one column as their own, or rows cannot be matched.
    """
    for seat in new.files:
        if seat not in scenario.roster():
            raise ConfigError(f"--data: no seat '{seat}'{suggest(seat, scenario.roster())}")
    parties = scenario.feature_parties()
    _check_shared(scenario, new, {party: columns[party] for party in parties if party not in new.files})
    data = {seat: scenario.data.rows_of(seat, path) for seat, path in new.files.items()}
    shared = scenario.data.elsewhere(new.path) if new.path else None
    if shared is not None:
        data |= {seat: shared for seat in scenario.roster() if seat not in data}
    needed = list({_path(data[party]): data[party] for party in parties}.values())
    holders = [data[seat] for seat in (scenario.labels, *parties) if seat in data and data[seat].has_labels()]
    labels = holders[0] if holders else None
    if labels is not None and _path(labels) not in map(_path, needed):
        needed.append(labels)
    rows, count, ids, notices = _match(needed)
    return QueryRows(data, rows, count, ids, labels, notices)


def _check_shared(scenario: Vertical, new: NewRows, columns: Mapping[RoleId, Sequence[str]]) -> None:
    """Look at the parties that have no file of their own."""
    if columns and not new.path:
        who, first = ", ".join(columns), next(iter(columns))
        raise DataError(f"no new rows for {who}: --data {first}=FILE, or one file with the columns of all parties")
    owners: dict[str, RoleId] = {}
    for party, names in columns.items() if scenario.data.apart else ():
        for name in names:
            if other := owners.setdefault(name, party) if owners.get(name, party) != party else "":
                each = " ".join(f"--data {seat}=FILE" for seat in columns)
                raise DataError(
                    f"{new.path}: both {other} and {party} have a column '{name}', each in a table of its own, and one file "
                    f"cannot have both; give each its own new rows: {each}"
                )
            owners[name] = party


def _match(needed: Sequence[Data]) -> tuple[dict[str, Rows], int, list[str] | None, list[str]]:
    """By file, its rows that all files have, in the order of the first file; how many; their ids; what to say of it."""
    if len(needed) == 1:
        return {}, needed[0].count(), None, []
    names = [_path(data) for data in needed]
    all_ids = [data.ids() for data in needed]
    if any(ids is None for ids in all_ids):
        counts = [data.count() for data in needed]
        if len(set(counts)) > 1:
            found = ", ".join(f"{name} has {count}" for name, count in zip(names, counts, strict=True))
            raise DataError(
                f"new rows of several files are matched by the id column, which not all have, or by order: {found}"
            )
        return (
            {},
            counts[0],
            None,
            [f"rows of {', '.join(names)} are matched by their order: not all have an id column"],
        )
    places = [{id: row for row, id in enumerate(ids or ())} for ids in all_ids]
    common = [id for id in places[0] if all(id in place for place in places[1:])]
    if not common:
        raise DataError(f"no id is in all of {', '.join(names)}; nothing is left to predict")
    rows = {
        name: np.array([place[id] for id in common], dtype=np.int64) for name, place in zip(names, places, strict=True)
    }
    left = [
        f"{len(place) - len(common)} of {name}"
        for name, place in zip(names, places, strict=True)
        if len(place) > len(common)
    ]
    said = f"{len(common)} rows are in every file, matched by id"
    return rows, len(common), common, [said + (f"; left out: {', '.join(left)}" if left else "")]


def _path(data: Data) -> str:
    return str(getattr(data, "path", ""))
