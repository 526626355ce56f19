"""Numpy archives: images or a table under one key, or tables under several, labels under another."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from fedsim.errors import DataError, suggest
from fedsim.parties.column_names import ColumnName
from fedsim.parties.cut import ImageSchema, Part, Schema, TablePart, TableSchema
from fedsim.parties.data import Array, Rows
from fedsim.parties.data._cells import pixels
from fedsim.parties.data._files import reading
from fedsim.parties.data._images import resized
from fedsim.parties.data._raw import RawTable
from fedsim.parties.data._table import SpelledData, check_types

if TYPE_CHECKING:
    import pandas as pd

    from fedsim.seeding import Rng

Shape = tuple[int, ...]


class Npz(SpelledData):
    """A numpy archive: images (n, H, W), (n, H, W, C) or (n, C, H, W) with C 1 or 3, or a table (n, D).

    Tables under several keys, ``x: [fou, kar]``, stand side by side; their columns are ``fou.0``, ``fou.1``, ... ``kar.0``.
    """

    path: str = Field(description="the file, from the folder of the scenario file, the current one or $FEDSIM_DATA")
    x: str | tuple[str, ...] = Field("x", min_length=1, description="key of the features, or keys of several tables")
    y: str = Field("y", description="key of the labels, (n,)")
    x_test: str | None = Field(None, description="key of the held-out features; the split is then the file's own")
    y_test: str | None = Field(None, description="key of the held-out labels")
    scale: float | None = Field(None, gt=0, description="divide by this; none: uint8 images by 255, all else by 1")
    size: int | None = Field(None, ge=2, description="resize images to so many pixels each way; none: as they are")
    names: tuple[ColumnName, ...] | None = Field(None, description="a table's columns; none: '0', '1', ...")

    location: ClassVar[frozenset[str]] = frozenset({"path"})

    _new: bool = PrivateAttr(default=False)  # rows to predict: they may lack labels

    @model_validator(mode="after")
    def _test_pair(self) -> Self:
        if (self.x_test is None) != (self.y_test is None):
            raise ValueError("x_test and y_test go together: give both or neither")
        if isinstance(self.x, tuple) and (self.x_test is not None or self.names is not None):
            raise ValueError("x: of several keys there is neither x_test nor names")
        return self

    def schema(self) -> Schema:  # type: ignore[override]
        """Columns or image shape, from the headers in the archive."""
        schema = self._schema()
        check_types(self.types, schema.columns if isinstance(schema, TableSchema) else (), self.path)
        return schema

    def _schema(self) -> Schema:
        if isinstance(self.x, tuple):
            return TableSchema(tuple(f"{key}.{k}" for key in self.x for k in range(self._width(key))))
        shapes = [self._header(key)[0] for key in self._keys(self.x, self.x_test)]
        if len({shape[1:] for shape in shapes}) > 1:
            raise DataError(f"{self.path}: rows of '{self.x}' and '{self.x_test}' differ in shape: {shapes}")
        if len(shapes[0]) != 2:
            channels, height, width = self._layout(shapes[0])[1]
            return ImageSchema((channels, self.size or height, self.size or width))
        width = shapes[0][1]
        columns = self.names or tuple(str(k) for k in range(width))
        if not len(columns) == len(set(columns)) == width or not width:
            raise DataError(f"{self.path}: {len(set(columns))} different names for the {width} columns of '{self.x}'")
        return TableSchema(columns)

    def read_cells(self, part: Part) -> RawTable | Array:
        """The part's pixels as float32, or its columns; both divided by ``scale``. Of several keys only those it needs."""
        import pandas as pd

        if isinstance(self.x, tuple):
            return self._beside(part, self.x)
        schema, x = self.schema(), self._arrays(self.x, self.x_test)
        if isinstance(schema, ImageSchema):
            order, shape = self._layout(x.shape)
            images = x.transpose(order).reshape(len(x), *shape)
            images = resized(images, self.size) if self.size else images
            scale = self.scale or (255 if x.dtype == np.uint8 else 1)
            return pixels(np.asarray(part.take(images)), scale, f"'{self.x}' of {self.path}")
        if not isinstance(part, TablePart):
            raise DataError(f"{self.path} is a table, so a party needs names of columns; found pixels {part}")
        return self._checked(part, pd.DataFrame(x / (self.scale or 1), columns=list(schema.columns)))

    def labels(self) -> Array:
        """The labels, those of the held-out rows last, (n,)."""
        labels = self._arrays(self.y, self.y_test, kinds="iufbU")
        if labels.ndim != 1:
            raise DataError(f"{self.path}: labels '{self.y}' have shape {labels.shape}; allowed: (n,)")
        if labels.dtype.kind == "f" and (holes := int(np.isnan(labels).sum())):
            raise DataError(f"{self.path}: labels '{self.y}' have {holes} missing cells (NaN); every row needs one")
        return labels

    def has_labels(self) -> bool:
        """See `Data.has_labels`."""
        return self.y in self._names()

    def count(self) -> int:
        """How many rows there are, from the headers in the archive; DataError if the labels are more or fewer."""
        first = self.x if isinstance(self.x, str) else self.x[0]
        rows = [self._header(key)[0][0] for key in self._keys(first, self.x_test)]
        for other in self.x if isinstance(self.x, tuple) else ():
            if (found := self._header(other)[0])[0] != rows[0]:
                raise DataError(f"{self.path}: '{first}' has {rows[0]} rows, but the shape of '{other}' is {found}")
        for key, labels, n in zip((first, self.x_test), self._keys(self.y, self.y_test), rows, strict=False):
            if not self._new and self._header(labels, kinds="iufbU")[0][0] != n:
                found = self._header(labels, kinds="iufbU")[0]
                raise DataError(f"{self.path}: '{key}' has {n} rows, but the shape of its labels '{labels}' is {found}")
        return sum(rows)

    def split(self, rng: Rng) -> tuple[Rows, Rows]:
        """The archive's own split if ``x_test`` is given, otherwise a drawn one."""
        if self.x_test is None or isinstance(self.x, tuple):
            return super().split(rng)
        return self.given_split(np.arange(self.count()) >= self._header(self.x)[0][0], rng)

    def elsewhere(self, path: str) -> Self:
        """New rows from the key ``x`` of another archive."""
        new = self.copy_to(path).model_copy(update={"x_test": None, "y_test": None})
        new._new = True
        return new

    def _width(self, key: str) -> int:
        """How many columns the table under one of several keys has."""
        shape = self._header(key)[0]
        if len(shape) != 2:
            raise DataError(f"{self.path}: '{key}' has shape {shape}; allowed beside other keys: (n, D)")
        return shape[1]

    def _beside(self, part: Part, keys: tuple[str, ...]) -> RawTable:
        """The columns of a part from tables that stand side by side."""
        import pandas as pd

        columns = part.columns if isinstance(part, TablePart) else ()
        needed = [key for key in keys if any(f"{key}.{k}" in columns for k in range(self._width(key)))]
        names = [f"{key}.{k}" for key in needed for k in range(self._width(key))]
        tables = [self._arrays(key, None) / (self.scale or 1) for key in needed]
        return self._checked(part, pd.DataFrame(np.concatenate(tables or [np.empty((0, 0))], axis=1), columns=names))

    def _checked(self, part: Part, whole: pd.DataFrame) -> RawTable:
        table = part.take(whole)
        assert not isinstance(table, np.ndarray)
        return RawTable(table, True, self.path, np.arange(1, len(table) + 1, dtype=np.int64))

    def _layout(self, shape: Shape) -> tuple[Shape, tuple[int, int, int]]:
        """The order of axes that puts channels first, and the shape (C, H, W) of one image."""
        match shape:
            case (_, h, w):
                return (0, 1, 2), (1, h, w)
            case (_, h, w, 1 | 3 as c):
                return (0, 3, 1, 2), (c, h, w)
            case (_, 1 | 3 as c, h, w):
                return (0, 1, 2, 3), (c, h, w)
        allowed = "(n, D), (n, H, W), (n, H, W, C), (n, C, H, W) with C 1 or 3"
        raise DataError(f"{self.path}: features '{self.x}' have shape {shape}; allowed: {allowed}")

    def _names(self) -> list[str]:
        """The keys of all arrays in the archive."""
        file = self.find(self.path)
        with reading(file, "npz"), zipfile.ZipFile(file) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]

    def _keys(self, *keys: str | None) -> list[str]:
        return [key for key in keys if key is not None]

    def _arrays(self, first: str, second: str | None, kinds: str = "iufb") -> Array:
        arrays = []
        for key in self._keys(first, second):
            self._header(key, kinds)
            with self._open(key) as member:
                arrays.append(np.lib.format.read_array(member, allow_pickle=False))
        return np.concatenate(arrays)

    def _header(self, key: str, kinds: str = "iufb") -> tuple[Shape, np.dtype]:
        """Shape and type of an array, without reading the array."""
        with self._open(key) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
        if dtype.kind not in kinds:
            allowed = "numbers or text" if "U" in kinds else "numbers"
            raise DataError(f"{self.path}: '{key}' holds {dtype}; allowed: {allowed}")
        if not shape or shape[0] == 0:
            raise DataError(f"{self.path}: '{key}' has no rows, its shape is {shape}")
        return shape, dtype

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        file = self.find(self.path)
        with reading(file, "npz"), zipfile.ZipFile(file) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if key not in keys:
                raise DataError(f"{self.path} has no array '{key}'{suggest(key, keys)}")
            with archive.open(f"{key}.npy") as member:
                yield member
