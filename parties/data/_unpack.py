"""Open the content of a data file: every compression is told by the first bytes, never by the ending of the name."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fedsim.distribution import format_install_command
from fedsim.errors import DataError

MAX_LAYERS = 4
"""Compressed files inside compressed files that are opened; more is a bomb and no table."""

HEAD_BYTES = 1024
"""Enough to tell every format: the mark of a tar archive comes at byte 257."""

# Formats that are often taken for a table, by their first bytes, and what to do with them.
FOREIGN_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook or another Office document; save the sheet as csv"),
    (b"ARROW1", "an Arrow (Feather) file; write it as parquet"),
    (b"\x89HDF", "an HDF5 file; write the table as parquet or csv"),
    (b"\x93NUMPY", "a single numpy array (.npy); save it as .npz"),
    (b"SQLite format 3", "an SQLite database; write the table as csv"),
    (b"%PDF", "a PDF document; write the table as csv"),
    (b"ORC\x08", "an ORC file; write it as parquet"),
    (b"Obj\x01", "an Avro file; write it as parquet"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!\x1a", "a rar archive; unpack it first"),
    (b"\x04\x22\x4d\x18", "compressed with lz4; unpack it first, or use gz, bz2, xz, zip or zst"),
    (b"\x1f\x9d", "compressed with compress (.Z); unpack it first, or use gz, bz2, xz, zip or zst"),
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself; fetch it with 'git lfs pull'"),
    (b"<!doctype html", "a web page, perhaps the error page of a download; fetch the file again"),
    (b"<html", "a web page, perhaps the error page of a download; fetch the file again"),
    (b"<?xml", "an XML file; write the table as csv or parquet"),
    (b'{"', "a JSON file; write the table as csv or parquet"),
    (b"[{", "a JSON file; write the table as csv or parquet"),
)


@contextmanager
def open_unpacked(file: Path, source: str) -> Iterator[IO[bytes]]:
    """Yield the content of a file without its compression, at its beginning: of parquet and npz the file itself.

    Raises:
        DataError: the file is empty, an archive of several files, or in a format that holds no table we read.
    """
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(file.open("rb"))
        for _ in range(MAX_LAYERS + 1):
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
            inner = _open_layer(stream, head, source)
            if inner is None:
                yield stream
                return
            stream = stack.enter_context(inner)
        raise DataError(f"{source} is compressed more than {MAX_LAYERS} times; unpack it first")


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins like this is a parquet file."""
    return head.startswith(b"PAR1")


def is_npz(stream: IO[bytes]) -> bool:
    """Whether the content is a numpy archive: a zip file of arrays."""
    stream.seek(0)
    head = stream.read(4)
    stream.seek(0)
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return False
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
    stream.seek(0)
    return bool(names) and all(name.endswith(".npy") for name in names)


def _open_layer(stream: IO[bytes], head: bytes, source: str) -> IO[bytes] | None:
    """Return what is inside one compression, or None where there is none."""
    if not head:
        raise DataError(f"{source} is empty; expected a table")
    for magic, open_compressed in COMPRESSIONS:
        if head.startswith(magic):
            opened: IO[bytes] = open_compressed(stream)
            return opened
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None if is_npz(stream) else _open_zip(stream, source)
    if head[257:262] == b"ustar":
        return _open_tar(stream, source)
    for magic, found in FOREIGN_FORMATS:
        if head.startswith(magic) or (magic[:1] == b"<" and head[:64].lstrip().lower().startswith(magic)):
            raise DataError(f"{source} is {found}")
    return None


def _open_zip(stream: IO[bytes], source: str) -> IO[bytes]:
    archive = zipfile.ZipFile(stream)
    names = archive.namelist()
    if "[Content_Types].xml" in names:
        raise DataError(f"{source} is an Excel workbook or another Office document; save the sheet as csv")
    return archive.open(_find_only_member(names, source))


def _open_tar(stream: IO[bytes], source: str) -> IO[bytes]:
    archive = tarfile.TarFile(fileobj=stream)
    name = _find_only_member([member.name for member in archive.getmembers() if member.isfile()], source)
    member = archive.extractfile(name)
    assert member is not None, "it is a plain file"
    return member


def _find_only_member(names: list[str], source: str) -> str:
    """Return the one data file of an archive; folders and what operating systems add do not count."""
    paths = {name: PurePosixPath(name) for name in names if not name.endswith("/")}
    tables = [name for name, path in paths.items() if "__MACOSX" not in path.parts and not path.name.startswith(".")]
    if len(tables) != 1:
        found = f"{len(tables)} files ({', '.join(map(repr, tables[:5]))}{', ...' if len(tables) > 5 else ''})"
        raise DataError(f"{source} is an archive of {found if tables else 'no files'}; expected one: unpack it first")
    return tables[0]


def _open_zst(stream: IO[bytes]) -> IO[bytes]:
    """Decompress with whatever of Python, zstandard and pyarrow is there."""
    for module, decompress in ZST_MODULES:
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        try:
            return io.BytesIO(decompress(found, stream.read()))
        except Exception as error:  # each module has an error of its own
            raise ValueError(str(error)) from error
    raise DataError(f"reading zst files needs pyarrow or zstandard: {format_install_command('parquet')}")


ZST_MODULES: tuple[tuple[str, Callable[[Any, bytes], bytes]], ...] = (
    ("compression.zstd", lambda zstd, content: bytes(zstd.decompress(content))),  # from Python 3.14
    (
        "zstandard",
        lambda zstd, content: bytes(zstd.ZstdDecompressor().stream_reader(content, read_across_frames=True).read()),
    ),
    ("pyarrow", lambda arrow, content: bytes(arrow.input_stream(arrow.py_buffer(content), compression="zstd").read())),
)

COMPRESSIONS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream, mode="rb")),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", _open_zst),
)
