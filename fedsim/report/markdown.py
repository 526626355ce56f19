"""Escape text for Markdown: whatever a label, a column or a name holds, it is shown as it is and formats nothing."""

from __future__ import annotations

import re

from fedsim.printable import make_printable

SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that format, or end a cell of a table, wherever they stand; an underscore within a word is one."""
LINE_START = re.compile(r"^(?:[#>+=-]|\d+[.)])")
"""What begins a heading, a quotation or a list at the start of a line."""
ADDRESS = re.compile(r"(?i)\b(https?|ftp)://|\bwww\.")
"""Where some readers of Markdown make a link by themselves."""


def escape_markdown(text: object) -> str:
    """Return a text as one line of Markdown that shows it as it is."""
    line = make_printable(" ".join(str(text).split()))
    line = SPECIAL.sub(r"\\\g<0>", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    line = ADDRESS.sub(lambda found: re.sub(r"([:.])", r"\\\1", found[0]), line)
    return LINE_START.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", line)
