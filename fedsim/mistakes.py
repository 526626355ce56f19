"""What is wrong in a scenario file, one line each: where it stands, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fedsim.errors import suggest
from fedsim.plugins import NestedError
from fedsim.printable import make_printable
from fedsim.safeyaml import YamlPath, locate

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOST = 30
"""Lines shown; the others are counted."""
EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}
"""What was expected instead, by the type of pydantic's error."""


@dataclass(frozen=True)
class Places:
    """Where values were written: a line of a file, or an override on the command line.

    Attributes:
        source: what errors call the file.
        lines: the line of each value in the file.
        overrides: ``path=value``, later ones last.
        arm: under ``compare``, whose values are looked up first.
    """

    source: str
    lines: Mapping[YamlPath, int] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    arm: str = ""

    def of(self, path: YamlPath) -> str:
        """Where the value at ``path`` was written, or else what is around it."""
        parts = tuple(map(str, path))
        for override in reversed(self.overrides):
            changed = tuple(override.partition("=")[0].split("."))
            if parts[: len(changed)] == changed:
                return f"--set {_cut(override, 60)}"
        line = self._line(path)
        place = f"{self.source}:{line}" if line else self.source
        return f"{place}: compare.{self.arm}" if self.arm else place

    def instead(self, path: YamlPath) -> str:
        """What to write instead, if an override has swapped the kind of what the key at ``path`` was written for."""
        around = ".".join(map(str, path[:-1]))
        for override in reversed(self.overrides):
            changed, _, kind = override.partition("=")
            if changed == f"{around}.kind" and not self.of(path).startswith("--set"):
                return f"; to drop the settings of the kind before: --set '{around}={{kind: {kind}}}'"
        return ""

    def _line(self, path: YamlPath) -> int | None:
        for end in range(len(path), 0, -1) if self.arm else ():
            if own := self.lines.get(("compare", self.arm, *path[:end])):
                return own
        return locate(path, self.lines)


def explain(error: ValidationError, data: Any, places: Places) -> str:
    """A line for each thing that is wrong, at most `MOST`, in the order of the file."""
    return join_lines(find_mistakes(error, data, places).values())


def join_lines(lines: Iterable[str]) -> str:
    """At most `MOST` lines, and how many more there are."""
    shown = list(dict.fromkeys(lines))
    if len(shown) > MOST:
        shown[MOST:] = [f"and {len(shown) - MOST} more"]
    return "\n".join(shown)


def find_mistakes(error: ValidationError, data: Any, places: Places) -> dict[YamlPath, str]:
    """By path, the line that says what is wrong there, in the order of the file."""
    found: dict[YamlPath, list[ErrorDetails]] = {}
    for path, detail in _flatten(error):
        found.setdefault(_real(path, detail, data), []).append(detail)
    for path in [path for path, (first, *_) in found.items() if first["type"] == "too_short"]:
        if any(other[: len(path)] == path for other in found if other != path):
            del found[path]  # pydantic counts only the items that are right
    lines = {}
    listed: set[YamlPath] = set()
    for path in sorted(found, key=lambda path: locate(path, places.lines) or 0):
        wrong, unknown = _wrong(found[path]), found[path][0]["type"] == "unknown_key"
        if unknown and path[:-1] in listed:
            wrong = wrong.partition(" allowed: ")[0].removesuffix(";")  # the keys of a mapping are listed once
        elif unknown:
            listed.add(path[:-1])
        name = make_printable(".".join(map(str, path))) or "file"
        lines[path] = f"{places.of(path)}: {name}: {wrong}{places.instead(path) if unknown else ''}"
    return lines


def _flatten(error: ValidationError, prefix: YamlPath = ()) -> Iterator[tuple[YamlPath, ErrorDetails]]:
    for detail in error.errors():
        inner = detail.get("ctx", {}).get("error")
        if isinstance(inner, NestedError):
            yield from _flatten(inner.inner, prefix + detail["loc"])
        else:
            yield prefix + detail["loc"], detail


def _real(path: YamlPath, detail: ErrorDetails, data: Any) -> YamlPath:
    """What of a path leads through the file: pydantic adds the names of the types it tried, and the place in a list of one."""
    if detail["type"] == "missing":
        return path
    there: list[str | int] = []
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            continue
        there.append(part)
    return tuple(there)


def _wrong(details: Sequence[ErrorDetails]) -> str:
    """What is wrong with one value; where several types were tried, all of them were expected."""
    first = details[0]
    if "[key]" in first["loc"] and first["type"] == "string_type":
        return f"its name must be text; found {_shown(first['input'])}: put it in quotes"
    if first["type"] == "missing":
        return "missing, and it has no default"
    tried = dict.fromkeys(_expected(d) for d in details if d["type"] != "none_required")
    if "" not in tried:
        return f"expected {' or '.join(tried)}, found {_shown(first['input'])}"
    return first["msg"].removeprefix("Value error, ")


def _expected(detail: ErrorDetails) -> str:
    """What pydantic wanted; empty where the message says it all."""
    kind, about = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(about["expected"]).replace("'", "") + _meant(detail["input"], str(about["expected"]))
    return EXPECTED[kind].format(**about) if kind in EXPECTED else ""


def _meant(found: Any, expected: str) -> str:
    names = expected.replace("'", "").replace(" or ", ", ").split(", ")
    hint = suggest(found, names).partition(" allowed:")[0].strip("; ") if isinstance(found, str) else ""
    return f" ({hint})" if hint else ""


def _shown(value: Any) -> str:
    """A value as people write it in YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"a mapping of {_cut(', '.join(map(str, value)), 40)}" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    return _cut(repr(value), 60)


def _cut(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
