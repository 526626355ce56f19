"""Whatever the text of a scenario file or of an override: plain values, or one `ConfigError`."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsim.config import validate
from fedsim.errors import ConfigError
from fedsim.override import apply_override, merge
from fedsim.safeyaml import parse

TOKENS = [
    *["a", "b:", "c: 1", "- ", "? ", ": ", "\n", "\n  ", "\n    ", " ", "[", "]", "{", "}", ",", "&x ", "*x", "*y"],
    *["!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "!!pairs ", "!!null "],
    *["!!python/object/apply:os.system ", "!!python/name:os.system", "!x ", "! ", "!<tag:yaml.org,2002:int> "],
    *["<<: ", "<<: *x", "=", "~", "null", "yes", "0x", "0b2", "1e400", "-.inf", ".nan", "1:60:99", "2001-99-99"],
    *["'", '"', '"\\U00110000"', '"\\UFFFFFFFF"', '"\\x"', "|\n", ">-\n", "|9\n", "#", "---\n", "...\n"],
    *["%YAML 1.1\n", "%TAG ! x"],
    *["\t", "\x00", "\x07", "\ufeff", "\x85", "\u2028", "é", "😀", "\ud800", "1" * 5000, "2001-01-01 00:00:00 +99:99"],
]
texts = st.lists(st.sampled_from(TOKENS), max_size=14).map("".join) | st.text(max_size=40)
patient = settings(max_examples=2500, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(texts)
def test_any_text_is_a_mapping_or_a_config_error(text: str) -> None:
    refusal = "file.yaml: none"
    try:
        value, lines = parse(text, "file.yaml")
    except ConfigError as error:
        value, lines, refusal = {}, {(): 1}, str(error)
    assert refusal.startswith("file.yaml")
    assert isinstance(value, dict)
    assert lines[()] >= 1


@settings(patient, max_examples=1000)
@given(texts)
def test_any_override_sets_something_or_is_a_config_error(text: str) -> None:
    data: dict[str, Any] = {"a": [1, {"b": 2}], "c": {"d": 3}}
    for override in (text, f"c.d={text}", f"a.{text}=1", f"{text}=1", f"a.1.b.{text}"):
        with contextlib.suppress(ConfigError):
            apply_override(data, override)
        assert isinstance(data, dict)


@pytest.mark.parametrize("part", ["²", "٣", "9" * 5000, "-1", "01", ""])
def test_odd_numbers_of_list_items(part: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_override({"a": [1]}, f"a.{part}.x=1")


TAGS = ["int", "float", "bool", "timestamp", "binary", "set", "omap", "pairs", "map", "seq", "null", "value", "merge"]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("value", ["''", "x", "'-'", "'+'", "'0x'", "'_'", "[1, 2]", "{x: 1}", "':'", "'.'"])
def test_a_tag_on_the_wrong_value_is_a_config_error_at_worst(tag: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        assert "a" in parse(f"a: !!{tag} {value}", "file.yaml")[0]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def merge_bomb(levels: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "bomb": (bomb(9), "more than 20000 values"),
    "merge bomb": (merge_bomb(9), "more than 20000 values"),
    "deep flow": ("[" * 5000, "nested too deeply|expected"),
    "deep mapping": ("{a: " * 5000, "nested too deeply|expected"),
    "deep block": ("\n".join(" " * i + "a:" for i in range(1000)), "nested too deeply"),
    "recursive list": ("a: &a [*a]", "contains itself"),
    "recursive mapping": ("a: &a {b: *a}", "contains itself"),
    "recursive root": ("&a\nb: *a", "contains itself"),
    "recursive merge": ("a: &a\n  <<: *a", "contains itself"),
    "many values": ("a: [" + "1, " * 30_000 + "]", "more than 20000 values"),
    "code": ("a: !!python/object/apply:os.system [echo]", "names no code"),
    "own tag": ("a: !reference [b]", "names no code"),
    "unhashable key": ("? [a]\n: 1", "a key must be plain text"),
    "double key": ("a: 1\na: 2", "key 'a' stands twice"),
    "two documents": ("a: 1\n---\nb: 2", "single document|another document"),
    "control character": ("a: \x07", "not YAML|control|special characters"),
    "empty": ("", "empty"),
    "a list": ("- a", "found list"),
    "a huge number": ("a: " + "9" * 5000, "file.yaml"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str) -> None:
    text, complaint = HOSTILE[name]
    with pytest.raises(ConfigError, match=complaint):  # a bomb that went off would run into the suite's time limit
        parse(text, "file.yaml")


words = st.text(max_size=4) | st.sampled_from(["mlp", "*", "split"])
keys = st.sampled_from(["kind", "a", "b", "from"])
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(st.sampled_from(["kind", "a", "b"]), plain, max_size=3)
FILE: dict[str, Any] = {
    "seed": 1,
    "scenario": {
        "kind": "baseline",
        "data": {"kind": "sklearn", "name": "iris"},
        "parties": {"x": {"columns": "0:2"}, "y": {"columns": "2:4"}},
    },
    "links": [{"from": "x", "sender": []}],
}
PLACES = ["seed", "threads", "scenario", "scenario.data", "scenario.data.test", "scenario.parties"]
PLACES += ["scenario.parties.x", "scenario.top", "links", "links.0.from", "links.0.sender"]
PLACES += ["trials", "seats", "compare", "runtime", "placement"]


def fresh(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: fresh(value) for key, value in tree.items()}
    return [fresh(value) for value in tree] if isinstance(tree, list) else tree


@settings(patient, max_examples=1000)
@given(st.sampled_from(PLACES), plain)
def test_any_value_anywhere_in_a_file_is_taken_or_a_config_error(place: str, value: Any) -> None:
    data = fresh(FILE)
    *parents, last = place.split(".")
    here = data
    for part in parents:
        here = here[int(part)] if isinstance(here, list) else here[part]
    here[int(last) if isinstance(here, list) else last] = value
    refusal = ""
    try:
        file = validate(data, "file.yaml", {})
    except ConfigError as error:
        refusal = str(error)
    assert not refusal or refusal.startswith("file.yaml: ")
    if refusal:
        return
    assert file.digest() == validate({"name": file.name, **file.resolved()}, "again", {}).digest()


@given(mappings, mappings)
def test_merging_is_idempotent_and_nothing_changes_nothing(base: dict[str, Any], override: dict[str, Any]) -> None:
    assert repr(merge(base, {})) == repr(base)
    once = merge(base, override)
    assert sorted(once) == sorted(merge(once, override))
    assert all(repr(once[key]) == repr(value) for key, value in override.items() if not isinstance(value, dict))
