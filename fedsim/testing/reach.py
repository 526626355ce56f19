"""What an attack may reach for: read off its source, since in one process nothing but honesty keeps it from the truth."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from fedsim.errors import ConformanceError

FORBIDDEN = frozenset(
    {"fedsim.parties", "gc", "inspect", "sys", "ctypes", "importlib", "builtins", "os", "socket", "subprocess"}
)
"""Modules through which an attack could look at a victim, or at the world."""


def check_reach(source: str, named: str) -> None:
    """Refuse an attack that imports what could show it the truth, or that touches private attributes of others.

    Raises:
        ConformanceError: names the line.
    """
    for line, what in _reaches(ast.parse(source)):
        raise ConformanceError(f"{named}, line {line}: {what}; an attack knows its messages and what it is granted")


def _reaches(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            inner = [f"{module}.{alias.name}" for alias in node.names] if module == "fedsim" else [module]
            for name in inner if module else [alias.name for alias in node.names]:
                if any(name == each or name.startswith(f"{each}.") for each in FORBIDDEN):
                    yield node.lineno, f"imports {name}"
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if not _own(node.value):
                yield node.lineno, f"reads the private '{node.attr}'"
        elif isinstance(node, ast.Name) and node.id in ("__import__", "eval", "exec", "globals", "vars"):
            yield node.lineno, f"uses {node.id}"


def _own(owner: ast.expr) -> bool:
    """Whether an attribute is looked up on ``self``, ``cls`` or ``super()``."""
    named = owner.func if isinstance(owner, ast.Call) else owner
    return isinstance(named, ast.Name) and named.id in ("self", "cls", "super")
