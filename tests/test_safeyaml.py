"""Scenario files from strangers: what is read, where each value stands, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsim.errors import ConfigError
from fedsim.safeyaml import MAX_BYTES, locate, parse, read, scalar


def test_values_and_their_lines() -> None:
    value, lines = parse("a: 1\nb:\n  - x\n  - {c: 2.5}\n", "file")
    assert value == {"a": 1, "b": ["x", {"c": 2.5}]}
    assert {path: line for path, line in lines.items() if path} == {
        ("a",): 1,
        ("b",): 3,
        ("b", 0): 3,
        ("b", 1): 4,
        ("b", 1, "c"): 4,
    }


def test_a_value_that_is_missing_is_located_at_what_would_hold_it() -> None:
    _, lines = parse("a:\n  b:\n    c: 1\n", "file")
    assert locate(("a", "b", "c"), lines) == 3
    assert locate(("a", "x", "y"), lines) == 2
    assert locate(("a",), {}) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E5", -200000.0),
        ("1_0e1", 100.0),
        ("1.5", 1.5),
        ("7", 7),
        ("yes", True),
        ("[1, a]", [1, "a"]),
    ],
)
def test_scalars(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_empty_text_is_nothing() -> None:
    assert scalar("") is None


def test_aliases_and_merges_that_stay_small_are_fine() -> None:
    value, _ = parse("base: &b {x: 1}\none: *b\ntwo: {<<: *b, y: 2}\n", "file")
    assert value["one"] == {"x": 1}
    assert value["two"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1, 2", r"file:1: .*\(column"),
        ("a: 1\n b: 2", r"file:2: .*\(column 3\)"),
        ("a: 1\nb: 2\na: 3", "file:3: key 'a' stands twice"),
        ("x: {a: 1, a: 2}", "file:1: key 'a' stands twice"),
        ("- 1", "file: expected a mapping with at least 'scenario', found list"),
        ("just text", "found str"),
        ("", "file: empty"),
        ("# only a comment", "file: empty"),
        ("a: &x [*x]", "file:1: a value that contains itself"),
        ("? {a: 1}\n: 2", "file:1: a key must be plain text"),
        (
            "a:\n  - !!python/object/apply:os.system ['echo']",
            "file:2: tag .* is refused: a scenario file names no code",
        ),
        ("a: !!python/name:os.system", "names no code"),
        ("a: !!int x", "file: a value that does not fit its tag"),
        ("a: !!bool maybe", "file: a value that does not fit its tag"),
        ("a: !!timestamp soon", "file: a value that does not fit its tag"),
        ('a: "\\UFFFFFFFF"', "file: a value that does not fit its tag or its form"),
        ("a: \x00", "file: not YAML"),
        ("a: 1\n---\nb: 1", "file:2: but found another document"),
    ],
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        parse(text, "file")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary, large = tmp_path / "binary.yaml", tmp_path / "large.yaml"
    binary.write_bytes(b"\x89PNG\xff\xfe")
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    complaints = {
        tmp_path: "a folder; expected a scenario file",
        tmp_path / "none.yaml": "no such file",
        binary: "a binary file",
        large: f"{MAX_BYTES + 1} bytes; a scenario file has at most {MAX_BYTES}",
    }
    for path, complaint in complaints.items():
        with pytest.raises(ConfigError, match=complaint):
            read(path)


def test_a_file_that_the_system_refuses_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.yaml"
    path.write_text("a: 1")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=r"locked\.yaml: cannot be read: Permission denied"):
        read(path)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text("ü: 1e2\n", encoding="utf-8")
    assert read(path) == ({"ü": 100.0}, {(): 1, ("ü",): 1})
