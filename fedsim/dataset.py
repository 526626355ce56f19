"""Data sets that are fetched from where they are published: what each is, and how its file is made and checked."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError
from fedsim.files import SHARED, atomic_write
from fedsim.plugins import Plugin, find, own_names

Content = Mapping[str, npt.NDArray[np.generic]] | str
"""What a file holds, whatever its compression: arrays by name (``.npz``), or the text of a table (``.csv.gz``)."""


@dataclass(frozen=True)
class Source:
    """A file as it is published.

    Attributes:
        name: of the file.
        urls: places that have it, the best first.
        at_most: bytes; what is larger is not downloaded.
        sha256: of the file, or "" where only what it holds can be checked, as with archives that are packed anew.
    """

    name: str
    urls: tuple[str, ...]
    at_most: int
    sha256: str = ""


class Dataset(Plugin):
    """A data set that scenarios use. It has no settings; its kind is the name it is fetched by."""

    title: ClassVar[str]
    """What it is, in a line."""
    file: ClassVar[str]
    """The name of the file that scenarios ask for."""
    origin: ClassVar[str]
    """The page that describes it."""
    licence: ClassVar[str]
    """Under which it is published, as far as its page says."""
    size: ClassVar[int]
    """Bytes of the file, roughly."""
    content: ClassVar[str]
    """`digest_content` of what the file holds, or "" if only a part of it is known."""
    sources: ClassVar[tuple[Source, ...]]
    """What it is made from."""

    @classmethod
    @abstractmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """Make the content of the file.

        Args:
            sources: the files of `sources`, by name.

        Raises:
            DataError, or whatever damaged files make their readers raise: a source is not what it should be.
        """

    @classmethod
    def verify(cls, content: Content) -> str:
        """Why a content is not that of this data set, or ""."""
        found = digest_content(content)
        return "" if found == cls.content else f"its content has the digest {found}, not {cls.content}"


def find_dataset(name: str) -> type[Dataset]:
    """The data set of a name.

    Raises:
        ConfigError: there is none; the message suggests one.
    """
    return find("datasets", name, Dataset)


def all_datasets() -> dict[str, type[Dataset]]:
    """Every data set that comes with fedsim, by its name."""
    return {name: find_dataset(name) for name in own_names("datasets")}


def suggest_fetch(path: str) -> str:
    """What to do about a data file that is missing: ``; `fedsim data fetch adult` gets it``, or nothing."""
    known = {dataset.file: name for name, dataset in all_datasets().items()}
    name = known.get(Path(path).name)
    return f"; `fedsim data fetch {name}` gets it" if name else ""


def digest_content(content: Content) -> str:
    """SHA-256 of a text, or of names, types, shapes and bytes of arrays; the same however they are compressed."""
    if isinstance(content, str):
        return hashlib.sha256(content.encode()).hexdigest()
    found = hashlib.sha256()
    for name in sorted(content):
        array = np.ascontiguousarray(content[name])
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.data if array.size else b"")
    return found.hexdigest()


def read_content(path: Path) -> Content:
    """What a file holds.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
        return gzip.decompress(path.read_bytes()).decode()
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def write_content(path: Path, content: Content) -> None:
    """Write a file in one step."""
    if isinstance(content, str):
        block = gzip.compress(content.encode(), mtime=0)
    else:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(content))
        block = buffer.getvalue()
    atomic_write(path, block, SHARED)  # what anybody can download
