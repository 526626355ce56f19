"""From labels to classes: which there are is learnt from the training rows, and kept, as JSON, for new rows."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedsim.errors import DataError, suggest
from fedsim.parties.data._cells import Array, find_positions, text
from fedsim.parties.data._places import describe_column, show_value
from fedsim.parties.data._raw import RawTable
from fedsim.parties.data._spelling import is_true_or_false
from fedsim.parties.stored import dump_state, restore_state

FEW_CLASSES, MANY_CLASSES = 20, 100
"""So many classes are never too many; more than that many are worth a word."""
DISTINCT = 0.5
"""Labels with so many different values a row are numbers to regress on, or ids."""


@dataclass(frozen=True)
class LabelEncoder:
    """The classes in their order: numeric where all of them are numbers, alphabetical otherwise."""

    classes: tuple[str, ...]

    @staticmethod
    def fit(labels: Array) -> LabelEncoder:
        """Learn the classes of the training labels, (n,).

        Raises:
            DataError: fewer than two, or nearly as many as rows.
        """
        cells = spell_labels(labels)
        found = set(cells)
        if len(found) < 2:
            only = f"only one class, '{found.pop()}'" if found else "no rows"
            raise DataError(f"the training labels have {only}; at least two classes are needed")
        if len(found) > FEW_CLASSES and len(found) > DISTINCT * len(cells):
            raise DataError(
                f"the training labels have {len(found)} different values in {len(cells)} rows, such as "
                f"'{show_value(cells[0])}': numbers to predict, or ids; expected the names of a few classes"
            )
        key = _number if all(_number(c) is not None for c in found) else str
        return LabelEncoder(tuple(sorted(sorted(found), key=key)))  # type: ignore[arg-type]  # no number here is None

    def apply(self, labels: Array) -> torch.Tensor:
        """The classes as numbers from 0, (n,) int64; DataError names a label that training did not see."""
        cells = spell_labels(labels)
        codes = find_positions(self.classes, cells)
        if (unseen := codes < 0).any():
            label = str(cells[unseen][0])
            raise DataError(f"label '{label}' is not among the training labels{suggest(label, self.classes)}")
        return torch.from_numpy(codes)

    def find(self, labels: Array) -> npt.NDArray[np.int64]:
        """The same, (n,), with -1 for a label that training did not see."""
        return find_positions(self.classes, spell_labels(labels))

    def to_json(self) -> dict[str, Any]:
        """The state as mappings, lists and strings."""
        return dump_state(self)

    @staticmethod
    def from_json(state: dict[str, Any]) -> LabelEncoder:
        """The encoder that `to_json` described; DataError if it did not."""
        return restore_state(LabelEncoder, state)


def fit_classes(
    labels: Array, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64], sampled: bool = False
) -> LabelEncoder:
    """Learn the classes from the labels of the training rows; ``labels`` are of all rows.

    Args:
        labels: of all rows, (n,).
        train: the positions of the training rows.
        test: those of the held-out rows.
        sampled: whether the user asked for a drawn sample of the training rows. So small a sample as demonstrations of
            attacks use may miss a class by chance: classes of held-out rows are then classes as well (see `note_unseen`).

    Raises:
        DataError: see `LabelEncoder.fit`; or a class has held-out rows and no training row, and none was ``sampled`` away.
    """
    classes = LabelEncoder.fit(labels[train])
    if sampled:
        return LabelEncoder.fit(labels[np.concatenate([train, test])])
    held_out = spell_labels(labels[test])
    unseen = Counter(held_out[find_positions(classes.classes, held_out) < 0].tolist())
    if unseen:
        name, count = unseen.most_common(1)[0]
        more = f", and of {len(unseen) - 1} more classes" if len(unseen) > 1 else ""
        raise DataError(
            f"class '{show_value(name)}' has no training row, but {count} of {len(held_out)} held-out rows are of it{more}; "
            f"the {len(train)} training rows have: {_listed(classes.classes)}; split the rows so that each class is in both, "
            "or leave out its rows"
        )
    return classes


def note_unseen(labels: torch.Tensor, held_out: torch.Tensor, classes: LabelEncoder) -> list[str]:
    """What people should know of classes, (n,) and (m,), that held-out rows have and no training row has."""
    unseen = held_out[~torch.isin(held_out, labels)]
    if not len(unseen):
        return []
    names = tuple(classes.classes[code] for code in sorted(set(unseen.tolist())))
    return [f"{len(unseen)} of {len(held_out)} held-out rows are of classes without a training row: {_listed(names)}"]


def note_labels(labels: Array, classes: LabelEncoder) -> list[str]:
    """What people should know of the labels, (n,): spellings that count as one class, and very many classes."""
    spelt = Counter(str(label) for label in labels.tolist() if isinstance(label, str))
    spaced = {label: count for label, count in spelt.items() if label != label.strip()}
    notices = []
    if spaced:
        label = next(iter(spaced))
        notices.append(
            f"{sum(spaced.values())} labels have spaces around them and count without: '{show_value(label.strip())}' and "
            f"{label!r} are one class"
        )
    if len(classes.classes) > MANY_CLASSES:
        notices.append(f"the labels have {len(classes.classes)} classes; is the label column the right one?")
    return notices


def note_copies(raw: RawTable, labels: Array) -> list[str]:
    """A notice for each column that equals the labels of the same rows, (n,)."""
    spelt = spell_labels(labels)
    first = raw.cells.iloc[0].tolist()
    alike = [name for name, cell in zip(raw.cells.columns, first, strict=True) if _is_alike(str(cell), spelt[0])]
    return [
        f"{describe_column(raw, name)} is the label in every row; is it to be a feature?"
        for name in alike
        if not raw.cells[name].isna().any() and _equals(raw.cells[name].to_numpy(), spelt)
    ]


def _is_alike(cell: str, label: str) -> bool:
    """Whether a cell may be a label in another spelling."""
    return _plain_number(cell.strip()).lower() == label.lower()


def _equals(cells: Array, spelt: Array) -> bool:
    return all(str(cell).strip() for cell in cells.tolist()) and bool((spell_labels(cells) == spelt).all())


def spell_labels(labels: Array) -> Array:
    """Labels as text in one spelling each, (n,): no spaces around, no needless digits of numbers, ``True`` and ``False``.

    Raises:
        DataError: one is missing.
    """
    import pandas as pd

    cells, missing = text(pd.Series(labels))
    codes, found = pd.factorize(cells)
    spelt = [str(value).strip() for value in found.tolist()]
    empty = np.array([not value for value in spelt] + [True])[codes]
    if (missing := missing | empty).any():
        raise DataError(f"{missing.sum()} labels are missing; every row needs one")
    if spelt and all(map(is_true_or_false, spelt)):
        spelt = [value.capitalize() for value in spelt]
    else:
        spelt = [_plain_number(value) for value in spelt]
    return np.array(spelt, dtype=object)[codes]


def _plain_number(label: str) -> str:
    """``3`` for ``3``, ``3.0`` and ``3e0``; a code such as ``03``, and what is no number, as it is."""
    number = _number(label)
    if number is None or (label.lstrip("+-")[:1] == "0" and label.lstrip("+-")[1:2].isdecimal()):
        return label
    if number == int(number):
        return str(int(number)) if abs(number) < 2**53 else label
    return repr(number)


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in label else None


def _listed(names: tuple[str, ...], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{show_value(name)}'" for name in names[:most]) + rest
