"""JSON from strangers: bounded in depth and in its numbers, text that can be written again, and no name twice."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

MOST_DEPTH = 64
"""Of lists and objects in one another; what we write has a dozen."""
MOST_DIGITS = 60
"""Of a whole number."""
LARGEST = 1e150
"""A number whose square is still one."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse(content: bytes | str, finite: bool = True) -> Any:
    """Plain values from JSON.

    Args:
        content: the text.
        finite: whether NaN and infinite numbers, which Python writes and JSON does not have, are refused.

    Raises:
        ValueError: it is no JSON in UTF-8, or goes beyond the limits; says where, in one line.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = (_DECODER if finite else _LAX_DECODER).decode(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"no text in UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    check_depth(value, bool(_SURROGATE.search(text)))
    return value


def check_depth(node: Any, texts: bool = False, depth: int = 0) -> None:
    """Refuse plain values that lie too deep and, where ``texts`` says so, halves of characters, which no file can hold.

    Raises:
        ValueError: there are some.
    """
    if depth > MOST_DEPTH:
        raise ValueError(f"nested too deeply; {MOST_DEPTH} levels are read")
    if isinstance(node, dict):
        for name, value in node.items():
            if texts or isinstance(value, dict | list):
                check_depth(value, texts, depth + 1)
            if texts:
                check_depth(name, texts, depth)
    elif isinstance(node, list):
        for value in node:
            if texts or isinstance(value, dict | list):
                check_depth(value, texts, depth + 1)
    elif texts and isinstance(node, str) and any("\ud800" <= letter <= "\udfff" for letter in node):
        raise ValueError("half a character (a lone surrogate)")


def _read_integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; at most {MOST_DIGITS} are read")
    return int(text)


def _read_float(text: str) -> float:
    value = float(text)
    if not -LARGEST <= value <= LARGEST:
        raise ValueError(f"the number {text[:30]}; numbers up to {LARGEST:g} are read")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _read_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)[:60]!r} stands twice")
    return found


_DECODER = json.JSONDecoder(
    parse_int=_read_integer,
    parse_float=_read_float,
    parse_constant=_refuse_constant,
    object_pairs_hook=_read_object,
)
_LAX_DECODER = json.JSONDecoder(parse_int=_read_integer, object_pairs_hook=_read_object)
