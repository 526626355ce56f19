"""Bring the text of a table into UTF-8, and name the likely encoding of a file that is in another than it should be."""

from __future__ import annotations

import codecs

from fedsim.errors import DataError

# The marks of UTF-32 come first: that of UTF-16 is the beginning of one of them.
BYTE_ORDER_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

CONTROLS = [bytes([k]) for k in range(32) if k not in b"\t\n\r"]
"""Characters that text does not have."""


def to_utf8(content: bytes, source: str, encoding: str | None, whole: bool = True) -> bytes:
    """Return the text of a file as UTF-8 without a byte order mark.

    Args:
        content: the bytes of the file, or its beginning.
        source: how errors name the file.
        encoding: as the settings give it; None: what the byte order mark says, or UTF-8.
        whole: whether the content is the whole file; if not, its last character may be cut through.

    Raises:
        DataError: bytes that are not in this encoding, by line, or a NUL.
    """
    marked = next(((mark, name) for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), None)
    name = codecs.lookup(encoding or (marked[1] if marked else "utf-8")).name
    if marked and name in (marked[1], "utf-8-sig"):
        content = content[len(marked[0]) :]
    if encoding is None and name == "utf-8" and b"\0" in content:
        raise DataError(_explain_nul(content, source))
    try:
        text = content if content.isascii() and name == "utf-8" else _recode(content, name, whole)
    except UnicodeDecodeError as error:
        raise DataError(_explain_byte(content, error, source, name)) from error
    except UnicodeError as error:  # utf-16 without a byte order mark has no position
        raise DataError(f"{source} is not text in the encoding {name}: {error}") from error
    if (at := text.find(b"\0")) >= 0:
        line = _count_line(text[:at].decode())
        raise DataError(f"{source}, line {line}: a NUL character; the file is damaged or is no table of text")
    return text


def _recode(content: bytes, name: str, whole: bool) -> bytes:
    text = codecs.getincrementaldecoder(name)().decode(content, whole)
    if name == "utf-8" and whole:
        return content  # decoding has only checked it
    # A lone surrogate can come out of utf-7 and the like; it is no character.
    return text.removeprefix("\ufeff").encode("utf-8")


def _explain_nul(content: bytes, source: str) -> str:
    """Say what a file with NUL bytes probably is."""
    head = content[: min(len(content), 10_000) // 2 * 2]
    for name, empty, full in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if empty.count(0) > 0.4 * len(empty) and full.count(0) < 0.05 * len(full) + 1:
            return f"{source} is not UTF-8 and looks like UTF-16 without a byte order mark: set 'encoding: {name}'"
    line = _count_line(content[: content.index(b"\0")].decode("latin-1"))
    return f"{source}, line {line}: a NUL byte; the file is damaged or is no table of text"


def _explain_byte(content: bytes, error: UnicodeDecodeError, source: str, name: str) -> str:
    """Say which byte is not in the encoding, on which line, and in which encoding the file probably is."""
    before = content[: error.start]
    wide = name.startswith(("utf-16", "utf-32"))
    line = _count_line(before.decode(name, errors="replace") if wide else before.decode("latin-1"))
    where = f"{source}, line {line}: byte 0x{content[error.start]:02x} is not {name}"
    head = content[:4096]
    if sum(head.count(sign) for sign in CONTROLS) * 20 > len(head):
        return f"{where}; the file is damaged or is no table of text"
    text = content.decode("utf-8", errors="replace")
    damaged = text.count("\ufffd")
    if name == "utf-8" and len(text) - damaged - len(text.encode("ascii", errors="ignore")) > damaged:
        return f"{where}, although the rest of the file is: it is damaged there, or was put together from two encodings"
    for likely in ("utf-8", "cp1252", "latin-1"):
        try:
            sign = content.decode(likely) and content[error.start : error.start + 1].decode(likely, errors="replace")
        except UnicodeDecodeError:
            continue
        shown = f", in which it is '{sign}'" if sign.isprintable() and likely != "utf-8" else ""
        return f"{where}; the likely encoding is {likely}{shown}: set 'encoding: {likely}', or save the file as UTF-8"
    return f"{where}; set 'encoding', or save the file as UTF-8"


def _count_line(before: str) -> int:
    """Return the line, from 1, on which the text after ``before`` begins."""
    return before.count("\n") + before.count("\r") - before.count("\r\n") + 1
