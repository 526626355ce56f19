"""Rows that a role has logged: a sequence that grows by hundreds of thousands, so all but the last are kept packed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload

Row = Mapping[str, Any]
BLOCK = 500
"""Rows that are packed together."""


class Rows(Sequence[Row]):
    """Rows of plain values (as JSON has them), in the order in which they came.

    >>> rows = Rows({"step": step} for step in range(1200))
    >>> len(rows), rows[-1], rows[499:502]
    (1200, {'step': 1199}, [{'step': 499}, {'step': 500}, {'step': 501}])
    """

    def __init__(self, rows: Iterator[Row] | Sequence[Row] = ()) -> None:
        self._packed: list[bytes] = []
        self._last: list[Row] = []
        for row in rows:
            self.append(row)

    def append(self, row: Row) -> None:
        """One more; nobody writes to it afterwards."""
        self._last.append(row)
        if len(self._last) == BLOCK:
            self._packed.append(json.dumps(self._last).encode())
            self._last = []

    def __len__(self) -> int:
        return BLOCK * len(self._packed) + len(self._last)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))] if at.step not in (None, 1) else self._from(at)
        if not -len(self) <= at < len(self):
            raise IndexError(f"row {at} of {len(self)}")
        return self._from(slice(at % len(self), at % len(self) + 1))[0]

    def _from(self, at: slice) -> list[Row]:
        start, stop, _ = at.indices(len(self))
        block, skip = divmod(start, BLOCK)
        return list(islice(self._after(block), skip, max(skip, stop - block * BLOCK)))

    def _after(self, block: int) -> Iterator[Row]:
        for packed in self._packed[block:]:
            yield from json.loads(packed)
        yield from self._last if block <= len(self._packed) else ()

    def __iter__(self) -> Iterator[Row]:
        return self._after(0)
