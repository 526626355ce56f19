"""Standard streams that survive every terminal: what it cannot show is spelled in ASCII, and a reader may go away."""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
import unicodedata

from fedsim.errors import OutputError

SPELLINGS = {
    "…": "...", "–": "-", "—": "-", "−": "-", "‐": "-", "×": "x", "·": ".", "•": "*", "±": "+-", "→": "->", "←": "<-",
    "≤": "<=", "≥": ">=", "≈": "~", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "│": "|", "┃": "|", "║": "|",
    "─": "-", "━": "-", "═": "=", "█": "#", "▏": "|", "✓": "ok", "✗": "x", "µ": "u", "μ": "u", "σ": "sigma",
    "ε": "eps", "ß": "ss", "ø": "o", "æ": "ae", "ł": "l",
}  # fmt: skip
"""How characters that fedsim prints are spelled where a terminal has no sign for them."""
MACHINE_ERRORS = {
    errno.ENOSPC: "make room there, or choose another place (--out, TMPDIR)",
    errno.EDQUOT: "make room there, or choose another place (--out, TMPDIR)",
    errno.EROFS: "choose a place that can be written to (--out, TMPDIR)",
    errno.EACCES: "its permissions do not allow that; choose another place (--out, TMPDIR)",
    errno.EPERM: "its permissions do not allow that; choose another place (--out, TMPDIR)",
    errno.EMFILE: "allow this process more open files: ulimit -n",
    errno.ENFILE: "close other programs: the machine has too many open files",
    errno.ENAMETOOLONG: "choose a shorter path (--out, TMPDIR)",
    errno.EIO: "look at the disk: it cannot be read or written",
}
"""What to do about errors of the machine that can come from any file."""


def use_utf8_for_files() -> None:
    """Start this command again in Python's UTF-8 mode where the locale has ASCII for the names of files.

    Without it no file with an accent in its name can be opened. What the terminal can show stays as it is.
    """
    if sys.flags.utf8_mode or codecs.lookup(sys.getfilesystemencoding()).name != "ascii" or os.name != "posix":
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes of seats, too
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 (this very command)


def prepare_streams() -> None:
    """Let standard output and error print any text, whatever their encoding; a stream that is closed becomes one to nowhere."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home that is read-only, and finds another
    codecs.register_error("spell", _spell)
    codecs.register(lambda name: _spelled_ascii() if name == "spelled_ascii" else None)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # as with >&- in a shell
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as the process lives)
        elif isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="spelled-ascii" if ascii_only else None, errors="spell")


def check_current_folder() -> None:
    """Refuse to work in a folder that is gone.

    Raises:
        OutputError: it was deleted, or may not be looked into.
    """
    try:
        os.getcwd()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"the current folder cannot be used ({reason}): change to another one") from error


def end_quietly() -> None:
    """Leave nothing for Python to complain of at exit when nobody reads standard output any more."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)


def explain_machine_error(error: OSError) -> str:
    """One line about an error of the machine, such as a full disk; empty if the error is of another kind."""
    advice = MACHINE_ERRORS.get(error.errno or 0)
    if advice is None:
        return ""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error)).lower()}: {advice}"


def _spelled_ascii() -> codecs.CodecInfo:
    """ASCII under a name of its own: click writes UTF-8 to a stream that calls itself ASCII."""
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode, plain.decode, plain.streamreader, plain.streamwriter, plain.incrementalencoder,
        plain.incrementaldecoder, name="spelled-ascii",
    )  # fmt: skip


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler of codecs; see `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(spell, error.object[error.start : error.end])), error.end


def spell(character: str) -> str:
    """A character in ASCII: a spelling that is known, its base letter, or a question mark."""
    if character in SPELLINGS:
        return SPELLINGS[character]
    if 0x2500 <= ord(character) < 0x2580:  # lines of boxes
        return "+"
    if 0x2800 <= ord(character) < 0x2900:  # spinners
        return "*"
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"
