"""Each promise of the page on the tool's security names tests, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/security.md").read_text()
PROMISES = PAGE.partition("## What is promised")[2].partition("## What is not promised")[0].splitlines()
ROWS = [line for line in PROMISES if line.startswith("| ") and not line.startswith("| promise |")]


@cache
def names_of_tests(path: Path) -> frozenset[str]:
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def test_there_are_promises() -> None:
    assert len(ROWS) >= 30


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_each_promise_is_held_by_tests_that_exist(row: str) -> None:
    what, whom, tests = (cell.strip() for cell in row.strip("|").rsplit("|", 2))
    named = re.findall(r"`([^`]+)`", tests)
    assert what
    assert whom
    assert named
    for each in named:
        file, _, name = each.partition("::")
        assert not name or name in names_of_tests(ROOT / "tests" / file), each
        assert (ROOT / "tests" / file).is_file(), each
