"""Find the cause in what a process of an engine has printed: tracebacks, boxes drawn around errors, levels of logs."""

from __future__ import annotations

import re

from fedsim.printable import make_printable

MAX_CHARACTERS = 300
SILENCE = "it said nothing"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_FRAME = "─━═│┃║╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┡┩╔╗╚╝╷╵"
_TOP, _SIDE, _BOTTOM = re.compile(r"^\s*[╭┌┏╔]"), re.compile(r"^\s*[│┃║]"), re.compile(r"^\s*[╰└┗╚]")
_ASCII_TOP = re.compile(r"^\s*\+-+ (?P<title>\S.*?) -*\+\s*$")
_EXCEPTION = re.compile(
    r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Expired|Warning|Timeout|Broken)\w*(?::|$)"
)
_NAMED = re.compile(r"^(?:\w+\.)*[A-Za-z_]\w*(?:: .*)?$")
_LEVEL = re.compile(
    r"(?:^|[\s\[(])(?:ERROR|CRITICAL|FATAL|PANIC|Fatal|[Ee]rror|fatal error)\b\s*[\])]?\s*:|Check failed|\s[EFC] \d+ "
)
_RPC = re.compile(r"details = \"(.+?)\"\s*$")


def find_cause(text: str) -> str:
    """Find the line that says why a process ended, wherever it stands in its output.

    In this order: what the last traceback ends with, what stands in the last box of an error, the last line of a log with
    the level of an error, the last line with a word in it.
    """
    lines, boxes = _unboxed(_ESCAPES.sub("", text).replace("\r", "\n").split("\n"))
    for found in (_raised(lines), boxes[-1] if boxes else "", _logged(lines), _spoken(lines)):
        if found:
            return _cut(" ".join(found.split()))
    return SILENCE


def summarise_error(error: BaseException) -> str:
    """The text of an error in one line: the cause, if it tells of a traceback at another place; its class, if it has none."""
    text = str(error)
    return find_cause(text) if "Traceback (most" in text else _cut(" ".join(text.split())) or type(error).__name__


def _unboxed(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines without the boxes among them, and what stands in each box of an error; tracebacks stay among the lines."""
    plain, boxes, inside, title = list[str](), list[str](), list[str](), ""
    for line in lines:
        bare = line.strip().strip(_FRAME + "|+").strip()
        if _TOP.match(line) or _ASCII_TOP.match(line):
            inside, title = [], bare.strip("-").strip()
        elif _BOTTOM.match(line) or (title and re.match(r"^\s*\+-+\+\s*$", line)):
            if title.startswith("Traceback"):
                plain += ["Traceback (most recent call last):", *(f"  {each}" for each in inside)]
            elif "rror" in title or not title:
                boxes.append(" ".join(inside))
            title = ""
        elif _SIDE.match(line) or (title and line.lstrip().startswith("|")):
            inside.append(bare)
        else:
            plain.append(line)
    return plain, [box for box in boxes if box.strip()]


def _raised(lines: list[str]) -> str:
    """The exception at the end of the last traceback, with what gRPC says of it."""
    begins = [i for i, line in enumerate(lines) if "Traceback (most recent call last)" in line]
    if not begins:
        return ""
    margin = lines[begins[-1]].index("Traceback")
    for i in range(begins[-1] + 1, len(lines)):
        line = lines[i][margin:]
        if line.strip() and not line.startswith((" ", "\t")) and (_EXCEPTION.match(line) or _NAMED.match(line)):
            details = (_RPC.search(each) for each in lines[i : i + 6])
            detail = next((found[1] for found in details if found), "")
            return f"{line.partition(':')[0]}: {detail}" if detail else line
    return ""


def _logged(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if _LEVEL.search(line)), "")


def _spoken(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if re.search(r"[^\W_]", line)), "")


def _cut(line: str) -> str:
    line = make_printable(line)
    return line if len(line) <= MAX_CHARACTERS else f"{line[: MAX_CHARACTERS - 4].rstrip()} ..."
