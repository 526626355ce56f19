"""YAML from strangers: no code, no bombs, no silently doubled keys, and the line of every value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fedsim.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
YamlPath = tuple[str | int, ...]


def read(path: Path) -> tuple[dict[str, Any], dict[YamlPath, int]]:
    """The mapping in a YAML file, and the line at which each of its values stands.

    Raises:
        ConfigError: not a file, not text, not YAML, too large, or not a mapping; says where.
    """
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "not a plain file" if path.exists() else "no such file"
            raise ConfigError(f"{path}: {found}; expected a scenario file (YAML)")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes; a scenario file has at most {MAX_BYTES}")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: a binary file; expected a scenario file (YAML in UTF-8)") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> tuple[dict[str, Any], dict[YamlPath, int]]:
    """The same from a text; ``name`` is what errors call it."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigError(_explain(error, name)) from error
    try:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{name}: empty; expected a mapping with at least 'scenario'")
        lines: dict[YamlPath, int] = {}
        _walk(node, (), lines, name, [], [0])
        value = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(_explain(error, name)) from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply") from error
    except (ValueError, OverflowError, LookupError, AttributeError) as error:  # how PyYAML meets '!!int x' and the like
        raise ConfigError(f"{name}: a value that does not fit its tag or its form ({error})") from error
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: expected a mapping with at least 'scenario', found {type(value).__name__}")
    return value, lines


def scalar(text: str, name: str = "value") -> Any:
    """The value of one YAML scalar or flow collection, as on a command line; ``name`` is what errors call it.

    Raises:
        ConfigError: it is not YAML, or more than one value.
    """
    found = parse(f"value: {text}", name)[0]
    if list(found) != ["value"]:
        raise ConfigError(f"{name}: more than one value")
    return found["value"]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with the numbers of YAML 1.2: ``1e-3`` is one, ``10:20`` and ``007`` are text."""


# In YAML 1.1, 10:20 is 620, to the base of 60, and 010 is 8.
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in NUMBERS]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0|[1-9][\d_]*|0b[01_]+|0x[\da-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^([-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def _walk(
    node: yaml.Node, path: YamlPath, lines: dict[YamlPath, int], name: str, above: list[yaml.Node], seen: list[int]
) -> None:
    """Note lines; count nodes as often as aliases repeat them, before anything is built."""
    seen[0] += 1
    if seen[0] > MAX_NODES:
        raise ConfigError(f"{name}: more than {MAX_NODES} values once its aliases are written out")
    if any(node is ancestor for ancestor in above):
        raise ConfigError(f"{name}:{node.start_mark.line + 1}: a value that contains itself")
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{name}:{key.start_mark.line + 1}: a key must be plain text")
            if key.value in keys:
                raise ConfigError(f"{name}:{key.start_mark.line + 1}: key '{key.value}' stands twice")
            keys.add(key.value)
            _walk(value, (*path, key.value), lines, name, [*above, node], seen)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, (*path, i), lines, name, [*above, node], seen)


def _explain(error: yaml.YAMLError, name: str) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return f"{name}: not YAML: {' '.join(str(error).split())}"
    mark = error.problem_mark
    problem = error.problem or "not YAML"
    if "could not determine a constructor for the tag" in problem:
        problem = f"tag {problem.rpartition('tag ')[2]} is refused: a scenario file names no code"
    return f"{name}:{mark.line + 1}: {problem} (column {mark.column + 1})"


def locate(path: tuple[str | int, ...], lines: Mapping[YamlPath, int]) -> int | None:
    """The line of a value, or of the nearest thing around it."""
    for end in range(len(path), -1, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return None
