"""The vertical cut: which features lie at which party.

A scenario says for each party a *specification*: names, ranges and patterns of columns for tables, one block of pixels
for images. `cut` turns them into parts and refuses, by name, whatever is given twice, given to nobody or not there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError, suggest
from fedsim.parties.column_names import HEADLESS, look_like_data, normalise_name

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
Range = tuple[int, int]
"""Start and stop, half-open."""


@dataclass(frozen=True)
class TableSchema:
    """The feature columns of a table, and what its other columns are: ``{"income": "the label"}``."""

    columns: tuple[str, ...]
    others: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """The place of each feature, from 0."""
        return {name: k for k, name in enumerate(self.columns)}

    @cached_property
    def has_numbers(self) -> bool:
        """Whether a column is named by a whole number, so that a bare number means a name and no position."""
        return any(name.isdecimal() for name in (*self.columns, *self.others))


@dataclass(frozen=True)
class ImageSchema:
    """The shape of one image, (C, H, W)."""

    shape: tuple[int, int, int]


Schema = TableSchema | ImageSchema


@dataclass(frozen=True)
class TablePart:
    """One party's columns of a table, in the order the scenario gives them."""

    columns: tuple[str, ...]

    def take(self, table: pd.DataFrame | Array) -> pd.DataFrame:
        """These columns of ``table``; DataError where it is not a table or lacks one of them."""
        if isinstance(table, np.ndarray):
            raise DataError("columns of a table are asked of images")
        absent(self.columns, table.columns)
        return table[list(self.columns)]


@dataclass(frozen=True)
class ImagePart:
    """One party's block of pixels: half-open ranges of rows, columns and channels (None: all channels)."""

    rows: Range
    cols: Range
    channels: Range | None = None

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The block as an index into (C, H, W)."""
        channels = slice(*self.channels) if self.channels else slice(None)
        return channels, slice(*self.rows), slice(*self.cols)

    def take(self, images: pd.DataFrame | Array) -> Array:
        """This block of images (n, C, H, W), as (n, c, h, w); DataError where they are a table, or too small."""
        if not isinstance(images, np.ndarray) or images.ndim != 4:
            raise DataError("a block of pixels is asked of a table")
        for bounds, size in zip((self.channels or (0, 1), self.rows, self.cols), images.shape[1:], strict=True):
            if bounds[1] > size:
                raise DataError(f"the block {self} lies outside images of shape {images.shape[1:]}")
        return np.ascontiguousarray(images[(slice(None), *self.slices)])


Part = TablePart | ImagePart


def cut(schema: Schema, columns: Mapping[str, str | list[str]], drop: Sequence[str] | str = ()) -> dict[str, Part]:
    """Give every feature to exactly one party, or to ``drop``.

    Args:
        schema: the features that there are.
        columns: a specification for each party. Tables: names, inclusive ranges of names (``age:income``), half-open
            ranges of positions (``0:10``) and patterns (``mean *``), separated by commas or as a list. A bare number is
            the name of a column where any column is named by a whole number, and otherwise a position from 0. Images:
            ``rows, columns`` or ``rows, columns, channels``, each a half-open range such as ``0:14``.
        drop: what is left unused on purpose, in the same form; for images a list of blocks. Ranges, positions and
            patterns of the parties pass over dropped columns.

    Raises:
        DataError: a malformed specification; a feature given twice, to nobody, or not there.
    """
    owners = {f"party '{party}'": spec for party, spec in columns.items()}
    dropped = [drop] if isinstance(drop, str) and drop else list(drop)
    parts: Mapping[str, Part]
    if isinstance(schema, TableSchema):
        parts = _cut_table(_without(schema, dropped), owners)
    else:
        parts = _cut_image(schema, owners, dropped)
    return dict(zip(columns, parts.values(), strict=True))


def pick(schema: TableSchema, owner: str, columns: str | list[str]) -> list[str]:
    """Columns of a table that belongs to one seat alone: those that it does not name stay unused.

    Raises:
        DataError: a malformed specification; a column given twice, or not there.
    """
    found = _columns(schema, owner, columns)
    seen: set[str] = set()
    for name in found:
        if name in seen:
            raise DataError(f"{owner}: column '{name}' is given twice")
        seen.add(name)
    return found


def absent(wanted: Iterable[str], there: Collection[str], where: str = "the table") -> None:
    """Raise DataError if a wanted column is not there."""
    known = (
        set(there) if isinstance(there, list | tuple) else there
    )  # an index of pandas is hashed, and slow to go through
    for name in wanted:
        if name not in known:
            hint = HEADLESS if look_like_data(list(there)) else suggest(name, there)
            raise DataError(f"{where} has no column '{name}'{hint}")


def _without(schema: TableSchema, drop: list[str]) -> TableSchema:
    """The features that are left, and the dropped ones among what is no feature."""
    # A column without a name and without cells is no longer a feature; scenarios may still drop it.
    drop = [spec for spec in drop if spec in schema.positions or not re.fullmatch(r"Unnamed: \d+", spec)]
    dropped = dict.fromkeys((name for spec in drop for name in _columns(schema, "drop", spec)), "in 'drop'")
    left = tuple(name for name in schema.columns if name not in dropped)
    return TableSchema(left, {**schema.others, **dropped})


def _cut_table(schema: TableSchema, owners: Mapping[str, str | list[str]]) -> dict[str, TablePart]:
    parts = {owner: TablePart(tuple(_columns(schema, owner, spec))) for owner, spec in owners.items()}
    given: dict[str, str] = {}
    for owner, part in parts.items():
        if not part.columns:
            raise DataError(f"{owner} has no columns; allowed: {_listed(schema.columns)}")
        for name in part.columns:
            if name in given:
                raise DataError(f"column '{name}' is given twice: to {given[name]} and to {owner}")
            given[name] = owner
    if nobody := [name for name in schema.columns if name not in given]:
        raise DataError(f"given to no party: {_listed(nobody)}; give them to a party or name them in 'drop'")
    return parts


def _columns(schema: TableSchema, owner: str, spec: str | list[str]) -> list[str]:
    return [name for term in _terms(schema, owner, spec) for name in _expand(schema, owner, term)]


def _terms(schema: TableSchema, owner: str, spec: str | list[str]) -> list[str]:
    """Commas separate in a string; a list has one term an item, so that a name with a comma can be given too."""
    if spec in ("", []):
        return []
    if isinstance(spec, list):
        return spec
    if spec in schema.positions or normalise_name(spec) in schema.positions:
        return [spec]
    terms = [term.strip() for term in spec.split(",")]
    if "" in terms:
        raise DataError(f"{owner}: malformed columns '{spec}': nothing between two commas, or at an end")
    return terms


def _expand(schema: TableSchema, owner: str, term: str) -> Sequence[str]:
    if term in schema.positions:
        return [term]
    if (term := normalise_name(term)) in schema.positions:
        return [term]
    if ":" in term and term not in schema.others:
        return _range(schema, owner, term)
    if any(sign in term for sign in "*?["):
        matches = re.compile(translate(term)).match
        if found := [name for name in schema.columns if matches(name)]:
            return found
        raise DataError(f"{owner}: no column matches '{term}'; allowed: {_listed(schema.columns)}")
    if term.isdecimal() and not schema.has_numbers:
        if int(term) < len(schema.columns):
            return [schema.columns[int(term)]]
        raise DataError(f"{owner}: there is no column at position {term}; allowed: 0 to {len(schema.columns) - 1}")
    return [schema.columns[_position(schema, owner, term)]]


def _range(schema: TableSchema, owner: str, term: str) -> Sequence[str]:
    if re.fullmatch(r"\s*-?\d*\s*:\s*-?\d*\s*", term):
        return schema.columns[slice(*_bounds(owner, term, len(schema.columns), "columns"))]
    if term.count(":") > 1:
        raise DataError(f"{owner}: malformed range '{term}': expected 'first:last', such as 'age:income' or '0:10'")
    first, last = (bound.strip() for bound in term.split(":"))
    start = _position(schema, owner, first) if first else 0
    stop = _position(schema, owner, last) + 1 if last else len(schema.columns)
    if start >= stop:
        raise DataError(f"{owner}: the range '{term}' is empty: '{first}' comes after '{last}'")
    return schema.columns[start:stop]


def _position(schema: TableSchema, owner: str, name: str) -> int:
    if name in schema.others:
        raise DataError(f"{owner}: column '{name}' is {schema.others[name]}, not a feature")
    if name not in schema.positions:
        absent([name], schema.columns, where=f"{owner}: the data")
    return schema.positions[name]


def _bounds(owner: str, text: str, size: int, what: str) -> Range:
    """Read ``start:stop``, either of which may be missing."""
    if not (match := re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text)):
        raise DataError(f"{owner}: malformed range '{text.strip()}': expected 'start:stop' of {what}, such as '0:14'")
    start, stop = int(match[1] or 0), int(match[2] or size)
    if not start < stop <= size:
        raise DataError(f"{owner}: the range '{text.strip()}' of {what} is empty or too far; allowed: 0:{size}")
    return start, stop


def _cut_image(schema: ImageSchema, owners: Mapping[str, str | list[str]], drop: list[str]) -> dict[str, ImagePart]:
    parts = {owner: _block(schema, owner, spec) for owner, spec in owners.items()}
    blocks = [*parts.items(), *(("drop", _block(schema, "drop", spec)) for spec in drop)]
    holder = np.full(schema.shape, -1)
    for k, (owner, part) in enumerate(blocks):
        taken = holder[part.slices]
        if (taken >= 0).any():
            other = int(taken[taken >= 0][0])
            both = np.zeros(schema.shape, dtype=bool)
            both[part.slices] = taken == other
            raise DataError(f"pixels given twice, to {blocks[other][0]} and to {owner}: {_first_block(both)}")
        holder[part.slices] = k
    if (holder < 0).any():
        nobody = _first_block(holder < 0)
        raise DataError(f"pixels given to no party: {nobody}; give them to a party or list them in 'drop'")
    return parts


def _block(schema: ImageSchema, owner: str, spec: str | list[str]) -> ImagePart:
    terms = spec[0] if isinstance(spec, list) and len(spec) == 1 else spec
    if not terms:
        raise DataError(f"{owner} has no pixels; expected 'rows, columns', such as '0:14, 0:14'")
    bounds = terms.split(",") if isinstance(terms, str) else []
    if len(bounds) not in (2, 3):
        raise DataError(f"{owner}: malformed block {spec!r}: expected 'rows, columns', such as '0:14, 0:14'")
    channels, height, width = schema.shape
    rows, cols = _bounds(owner, bounds[0], height, "rows"), _bounds(owner, bounds[1], width, "columns")
    return ImagePart(rows, cols, _bounds(owner, bounds[2], channels, "channels") if bounds[2:] else None)


def _first_block(mask: npt.NDArray[np.bool_]) -> str:
    """Name the first full block of a mask (C, H, W): as wide as it goes, then as high, then as deep."""
    c, h, w = (int(i) for i in np.argwhere(mask)[0])
    right = w + _run(mask[c, h, w:])
    low = h + _run(np.all(mask[c, h:, w:right], axis=1))
    deep = c + _run(np.all(mask[c:, h:low, w:right], axis=(1, 2)))
    channels = "" if deep - c == len(mask) else f", channels {c}:{deep}"
    return f"rows {h}:{low}, columns {w}:{right}{channels}"


def _run(mask: npt.NDArray[np.bool_]) -> int:
    """How many entries are true before the first that is not."""
    return len(mask) if mask.all() else int(mask.argmin())


def _listed(names: Sequence[str], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + rest
