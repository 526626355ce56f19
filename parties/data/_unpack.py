"""Unpack the bytes of a data file: every compression is told by the content of the file, never by its ending."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from fedsim.errors import DataError

PARQUET = b"PAR1"
ARCHIVE_DEPTH = 4
"""Compressed files inside compressed files that are opened; more is a bomb and no table."""

# Formats that are often taken for a table of text, by their first bytes.
FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook or another Office document; save the sheet as csv"),
    (b"ARROW1", "an Arrow (Feather) file; write it as parquet"),
    (b"\x89HDF", "an HDF5 file; write the table as parquet or csv"),
    (b"\x93NUMPY", "a single numpy array (.npy); save it as .npz"),
    (b"SQLite format 3", "an SQLite database; write the table as csv"),
    (b"%PDF", "a PDF document; write the table as csv"),
    (b"ORC", "an ORC file; write it as parquet"),
    (b"Obj\x01", "an Avro file; write it as parquet"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!", "a rar archive; unpack it first"),
    (b"\x04\x22\x4d\x18", "compressed with lz4; unpack it first, or use gz, bz2, xz, zip or zst"),
    (b"\x1f\x9d", "compressed with compress (.Z); unpack it first, or use gz, bz2, xz, zip or zst"),
)


def unpack_file(file: Path, source: str) -> bytes:
    """Return the content of a file without its compression: of csv the text, of parquet and npz the file itself.

    Raises:
        DataError: the file is empty, an archive of several files, or of a format that holds no table we read.
    """
    content = file.read_bytes()
    for _ in range(ARCHIVE_DEPTH):
        if not content:
            raise DataError(f"{source} is empty; expected a table")
        unpacked = _unpack_once(content, source)
        if unpacked is None:
            return content
        content = unpacked
    raise DataError(f"{source} is compressed more than {ARCHIVE_DEPTH} times; unpack it first")


def is_npz(content: bytes) -> bool:
    """Whether the content is a numpy archive: a zip file of arrays."""
    if not content.startswith(b"PK"):
        return False
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _unpack_once(content: bytes, source: str) -> bytes | None:
    for magic, open_it in COMPRESSIONS:
        if content.startswith(magic):
            return open_it(content)
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None if is_npz(content) else _unpack_zip(content, source)
    if content[257:262] == b"ustar":
        return _unpack_tar(content, source)
    for magic, found in FOREIGN:
        if content.startswith(magic):
            raise DataError(f"{source} is {found}")
    return None


def _unpack_zip(content: bytes, source: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        every = archive.namelist()
        if "[Content_Types].xml" in every:
            raise DataError(f"{source} is an Excel workbook or another Office document; save the sheet as csv")
        return archive.read(_only_member(every, source))


def _unpack_tar(content: bytes, source: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        name = _only_member([member.name for member in archive.getmembers() if member.isfile()], source)
        member = archive.extractfile(name)
        assert member is not None, "it is a plain file"
        return member.read()


def _only_member(names: list[str], source: str) -> str:
    """Return the one data file of an archive; folders and what operating systems add do not count."""
    paths = {name: PurePosixPath(name) for name in names if not name.endswith("/")}
    tables = [name for name, path in paths.items() if "__MACOSX" not in path.parts and not path.name.startswith(".")]
    if len(tables) != 1:
        found = ", ".join(f"'{name}'" for name in tables[:5]) + (", ..." if len(tables) > 5 else "")
        raise DataError(f"{source} is an archive of {len(tables)} files ({found}); expected one: unpack it first")
    return tables[0]


def _unpack_zst(content: bytes) -> bytes:
    """Decompress with whatever of Python, zstandard and pyarrow can."""
    for module, read in ZST_READERS:
        try:
            reader = importlib.import_module(module)
        except ImportError:
            continue
        return bytes(read(reader, content))
    raise DataError("reading zst files needs pyarrow or zstandard: pip install pyarrow")


ZST_READERS: tuple[tuple[str, Callable[[Any, bytes], bytes]], ...] = (
    ("compression.zstd", lambda zstd, content: zstd.decompress(content)),  # from Python 3.14
    ("zstandard", lambda zstd, content: zstd.ZstdDecompressor().stream_reader(content, read_across_frames=True).read()),
    ("pyarrow", lambda arrow, content: arrow.input_stream(arrow.py_buffer(content), compression="zstd").read()),
)

COMPRESSIONS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ\x00", lzma.decompress),
    (b"\x28\xb5\x2f\xfd", _unpack_zst),
)
