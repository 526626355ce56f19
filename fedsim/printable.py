r"""Make text of strangers fit to be shown: control characters, bidirectional overrides and invisible signs are spelled out.

A terminal obeys escape sequences, and an override turns text around so that it reads as another. Text that a file, a table or a
peer brings passes through `make_printable` where it is shown: in `print_text` and `fedsim.cli.terminal`, in the templates of
pages, in Markdown, and where a transport decodes it.
"""

from __future__ import annotations

import re
import sys
import unicodedata

HARMFUL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f\ud800-\udfff]"
)
"""Unicode's categories Cc, Cf, Cs, Zl and Zp, less what words need (the soft hyphen, joiners) or has a sign."""
LAYOUT = "\n\t"
"""Harmful characters that a text with several lines may have."""
LINE_ENDS = "\n\t\u2028\u2029"
"""Harmful characters that a name may have, as of an arm with a text for its name; a seat's may not."""
MAX_SEAT_BYTES = 200
"""Bytes of the name of a seat, at most: it names files and folders, whose names have 255."""
SEAT_SIGNS = frozenset("._- ")
"""What may stand in the name of a seat beside letters, marks and digits."""


def make_printable(text: str, keep: str = "") -> str:
    r"""Spell out what would not be shown as itself, as Python does: ``\x1b``, ``\n``, ``\u202e``.

    Args:
        text: whatever a stranger has written.
        keep: harmful characters to leave alone, such as the line feeds of a text with several lines.
    """
    return HARMFUL.sub(lambda found: found[0] if found[0] in keep else _spell(found[0]), text)


def replace_harmful(text: str) -> str:
    """Put a replacement character where `make_printable` spells out: what a peer sends is not to grow."""
    return HARMFUL.sub("\N{REPLACEMENT CHARACTER}", text)


def print_text(text: object, err: bool = False) -> None:
    """Print a text, which may have several lines, to standard output or standard error."""
    print(make_printable(str(text), LAYOUT), file=sys.stderr if err else sys.stdout, flush=True)


def print_data(text: str) -> None:
    """Print what a program is to read again: as it is, unless it goes to a terminal, where people look at it."""
    sys.stdout.write(make_printable(text, LAYOUT) if sys.stdout.isatty() else text)


def is_printable(text: str) -> bool:
    """Whether `make_printable` leaves a text as it is."""
    return HARMFUL.search(text) is None


def _spell(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def check_name(name: str) -> str:
    """Return a name that a scenario file gives something.

    Raises:
        ValueError: a character in it would not be shown as itself; the end of a line is shown as one.
    """
    for character in HARMFUL.findall(name):
        if character not in LINE_ENDS:
            raise ValueError(
                f"the name '{make_printable(name):.80}' has a character that is not shown as itself, {_describe(character)}: "
                "leave it out"
            )
    return name


def describe_bad_seat(name: str) -> str:
    """Say what is wrong with the name of a seat, which names files and folders as well; an empty string if nothing is."""
    if not name:
        return "it is empty"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_SEAT_BYTES:
        return f"it has more than {MAX_SEAT_BYTES} bytes"
    for character in name:
        if character not in SEAT_SIGNS and unicodedata.category(character)[0] not in "LMN":
            return f"{_describe(character)} cannot stand in it"
    if name[0] in ". " or name[-1] in ". ":
        return "it begins or ends with a dot or a space"
    return ""


def _describe(character: str) -> str:
    """A character by its sign, or by its number and its name where it has no sign."""
    if character.isprintable() and not character.isspace():
        return f"'{character}'"
    return " ".join([f"U+{ord(character):04X}", unicodedata.name(character, "")]).strip()
