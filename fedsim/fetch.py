"""Fetching a data set: from its sites, or from files that are at hand already, to the file that scenarios ask for."""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import shutil
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fedsim.dataset import Content, Dataset, Source, read_content, write_content
from fedsim.download import DownloadError, Progress, download
from fedsim.errors import DataError, OutputError
from fedsim.files import SHARED, open_plain

DAMAGED = (
    OSError, EOFError, ValueError, KeyError, IndexError, MemoryError, RuntimeError, struct.error, zlib.error, lzma.LZMAError,
    tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
"""What readers raise on bytes that are not what they should be."""
FOLDER = ".fedsim-fetch"
"""Where downloads lie until the file is made from them; what broke off stays there and is gone on with."""
Shown = Callable[[Source], Progress]
"""Gives, for each source that is downloaded, who is told how far it is."""


def default_folder() -> Path:
    """Where scenarios look for data: ``$FEDSIM_DATA``, or else the current folder."""
    return Path(os.environ.get("FEDSIM_DATA") or ".").expanduser()


def locate(dataset: type[Dataset]) -> Path | None:
    """Where the file of a data set lies, of the places where scenarios look."""
    places = dict.fromkeys([Path.cwd(), default_folder()])
    return next((place / dataset.file for place in places if (place / dataset.file).is_file()), None)


def fetch(
    dataset: type[Dataset], to: Path, given: Path | None, shown: Shown, accept_changes: bool = False
) -> tuple[Path, bool]:
    """Put the file of a data set into a folder; returns where it is, and whether it was there already.

    Args:
        dataset: which.
        to: the folder; it is made if need be.
        given: a folder that holds its sources already; nothing is downloaded then.
        shown: told of downloads.
        accept_changes: keep a content other than that which is known.

    Raises:
        DataError: a source cannot be had or is damaged, or what it holds is not what is known of this data set.
        OutputError: the folder cannot be written.
    """
    place = to / dataset.file
    if place.is_file():
        if why := dataset.verify(read_content(place)):
            raise DataError(f"{place}: is there, and is another file: {why}; move it away, or say --to another folder")
        return place, True
    with _writing(to):
        to.mkdir(parents=True, exist_ok=True)
    content = _from_given(dataset, given) if given else _from_sites(dataset, to, shown)
    if (why := dataset.verify(content)) and not accept_changes:
        raise DataError(
            f"{dataset.kind()}: not the edition that results were recorded with: {why}; nothing was written "
            "(--accept-changes keeps it all the same)"
        )
    with _writing(to):
        write_content(place, content)
    return place, False


def explain_offline(dataset: type[Dataset], to: Path) -> str:
    """What to do where the sites cannot be reached: which file from where goes to which place."""
    files = ", ".join(f"{source.name} from {source.urls[0]}" for source in dataset.sources)
    return (
        f"without a network: put {files} into a folder and run `fedsim data fetch {dataset.kind()} --from FOLDER`, "
        f"or put a ready {dataset.file} into {to.absolute()}"
    )


def _from_given(dataset: type[Dataset], given: Path) -> Content:
    sources = {source.name: given / source.name for source in dataset.sources}
    if missing := [name for name, path in sources.items() if not path.is_file()]:
        urls = {source.name: source.urls[0] for source in dataset.sources}
        raise DataError(f"{given}: no {', no '.join(missing)}; get it from {urls[missing[0]]}")
    return _convert(dataset, sources)


def _from_sites(dataset: type[Dataset], to: Path, shown: Shown) -> Content:
    folder = to / FOLDER / dataset.kind()
    with _alone(folder):
        sources = {source.name: folder / source.name for source in dataset.sources}
        for source in dataset.sources:
            if not sources[source.name].is_file():
                try:
                    download(source.urls, sources[source.name], source.sha256, source.at_most, shown(source))
                except DownloadError as error:
                    raise DataError(f"{dataset.kind()}: {error}; {explain_offline(dataset, to)}") from error
        try:
            content = _convert(dataset, sources)
        except DataError:
            _remove(sources)  # damaged files are not gone on with
            raise
        _remove(sources)
        return content


def _remove(sources: Mapping[str, Path]) -> None:
    for path in sources.values():
        path.unlink(missing_ok=True)


def _convert(dataset: type[Dataset], sources: Mapping[str, Path]) -> Content:
    try:
        with warnings.catch_warnings(action="ignore"):  # numpy warns of an empty file, which is refused by its shape
            return dataset.convert(sources)
    except DataError as error:
        raise DataError(f"{dataset.kind()}: {error}") from error
    except DAMAGED as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        names = ", ".join(sources)
        raise DataError(f"{dataset.kind()}: {names} cannot be read as what the site describes: {reason}") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder of downloads; a second command in it is refused."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open_plain(folder / "lock", os.O_WRONLY | os.O_CREAT, mode=SHARED)
    with open(handle, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"{folder}: another `fedsim data fetch` is at work there") from error
        try:
            yield
        finally:
            _tidy(folder)


def _tidy(folder: Path) -> None:
    """Remove a folder of downloads that holds nothing but its lock, and the one around it if that is empty then."""
    if [path.name for path in folder.iterdir()] == ["lock"]:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another data set's download stays
            folder.parent.rmdir()


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
