"""Decode the text of a table: UTF-8 unless the file or the settings say otherwise, and a likely encoding where it is not."""

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


def decode_text(content: bytes, source: str, encoding: str | None) -> str:
    """Return the text of a file, without a byte order mark.

    Args:
        content: the bytes of the file.
        source: how errors name the file.
        encoding: as the settings give it; None: what the byte order mark says, or UTF-8.

    Raises:
        DataError: bytes that are not in this encoding, by line, or a NUL.
    """
    marked = next(((mark, name) for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), None)
    if encoding is None:
        mark, encoding = marked or (b"", "utf-8")
        content = content[len(mark) :]
        if b"\0" in content and encoding == "utf-8":
            raise DataError(_explain_nul(content, source))
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(_explain_byte(content, error.start, source, encoding)) from error
    except UnicodeError as error:  # utf-16 without a byte order mark, idna and the like
        raise DataError(f"{source} is not text in the encoding {encoding}: {error}") from error
    text = text.removeprefix("\ufeff")
    if (at := text.find("\0")) >= 0:
        raise DataError(f"{source}, line {_line_at(text[:at])}: a NUL character; the file is damaged or is not a table")
    return text


def _explain_nul(content: bytes, source: str) -> str:
    """Say what a file with NUL bytes probably is."""
    head = content[:10_000]
    pairs = len(head) // 2
    for name, first in (("utf-16-le", 1), ("utf-16-be", 0)):
        if pairs and head[first::2].count(0) > 0.4 * pairs and head[1 - first :: 2].count(0) < 0.05 * pairs + 1:
            return f"{source} is not UTF-8 and looks like UTF-16 without a byte order mark; set 'encoding: {name}'"
    line = content.count(b"\n", 0, content.index(b"\0")) + 1
    return f"{source}, line {line}: a NUL byte; the file is damaged or is not a table of text"


def _explain_byte(content: bytes, at: int, source: str, encoding: str) -> str:
    """Say which byte is not in the encoding, where it is, and in which encoding it probably is."""
    line = _line_at(content[:at].decode("latin-1")) if _one_byte_lines(encoding) else None
    where = f"{source}, line {line}" if line else f"{source}, byte {at}"
    found = f"byte 0x{content[at]:02x} is not {encoding.upper()}"
    for likely in ("cp1252", "latin-1"):
        if likely == encoding:
            continue
        try:
            sign = content[at : at + 1].decode(likely)
            content.decode(likely)
        except UnicodeDecodeError:
            continue
        as_sign = f" ('{sign}')" if sign.isprintable() else ""
        return (
            f"{where}: {found}; likely encoding: {likely}{as_sign}: set 'encoding: {likely}', or save the file as UTF-8"
        )
    return f"{where}: {found}; set 'encoding', or save the file as UTF-8"


def _one_byte_lines(encoding: str) -> bool:
    return not encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))


def _line_at(before: str) -> int:
    """Return the line, from 1, on which the text after ``before`` stands."""
    return before.count("\n") + before.count("\r") - before.count("\r\n") + 1
