"""Poison that could not be entered is refused by the file alone, in one line that says whose it is and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from terminal import fine, refused
from two_domains import make_file

from fedsim.errors import InputError

PLOT = {"kind": "mislabelled", "plotters": ["a"]}
MARK = {"kind": "watermark"}
TOLD = {"server": ["slices", "target_labels"]}
REFUSED: list[tuple[Mapping[str, Any], str]] = [
    ({"server": [{**PLOT, "plotters": ["aa"]}]}, "server.0: mislabelled: plotters: no party 'aa'; did you mean 'a'?"),
    ({"server": [{**PLOT, "plotters": ["server"]}]}, "mislabelled: plotters: no party 'server'"),
    ({"server": [PLOT]}, "server.0: mislabelled: plotters: expected one watermark under seats.a, found 0"),
    ({"server": [PLOT], "a": [MARK, MARK]}, "plotters: expected one watermark under seats.a, found 2"),
    ({"server": [PLOT], "a": [{"kind": "crafted_slice"}]}, "expected one watermark under seats.a, found 0"),
    (
        {"a": [MARK]},
        "a.0: watermark: expected one mislabelled under seats.server that names a among its plotters, found 0",
    ),
    ({"server": [{**PLOT, "plotters": ["a", "a"]}], "a": [MARK]}, "names a among its plotters, found 2"),
    (
        {"server": [{"kind": "feature_collision", "plotters": ["a"]}]},
        "feature_collision: plotters: expected one crafted_slice under seats.a, found 0",
    ),
    (
        {"b": [{"kind": "crafted_slice"}]},
        "b.0: crafted_slice: expected one feature_collision under seats.server that names b",
    ),
]


@pytest.mark.parametrize(("seats", "words"), REFUSED)
def test_a_plot_that_is_not_whole_is_refused(seats: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InputError) as found:
        make_file(seats, grants=TOLD).plan()
    assert words in str(found.value)
    assert str(found.value).startswith("seats.")


def test_only_what_a_plot_has_people_say_is_in_the_plan() -> None:
    def kinds(seats: Mapping[str, Any], **more: Any) -> set[tuple[str, str, str]]:
        plain = {("Rows", "a"), ("Embedding", "a"), ("Rows", "b"), ("Embedding", "b")}
        flows = make_file(seats, **more).plan().flows
        return {(f.kind, f.frm, f.to) for f in flows if (f.kind, f.frm) not in plain and f.kind != "Gradient"}

    entered = {("Entered", "server", party) for party in ("a", "b")}
    assert kinds({}) == entered
    told = kinds({}, grants={"server": ["slices"], "b": ["labels"]})
    assert told == entered | {("Slice", "a", "server"), ("Slice", "b", "server"), ("Granted", "server", "b")}
    asked = {("Candidates", "server", "a"), ("Twins", "server", "a"), ("Distances", "a", "server")}
    assert kinds({"server": [PLOT], "a": [MARK]}) == entered | asked


@pytest.mark.parametrize("command", ["check", "run"])
def test_the_line_names_arm_seat_and_setting(command: str) -> None:
    arms = "compare={clean: {}, x: {seats: {server: [{kind: mislabelled, plotters: [nord]}]}}}"
    line = refused(command, "uda_poisoning", "--set", arms)
    assert "compare.x: seats.server.0: mislabelled: plotters: no party 'nord'; did you mean 'north'?" in line
    line = refused(command, "uda_poisoning", "--set", "scenario.grants={}")
    assert "compare.mislabelled target: seats.server.0: mislabelled: needs to know target_labels" in line


def test_the_check_shows_who_poisons_and_what_is_told() -> None:
    arms = """compare={
      clean: {scenario: {grants: {server: []}}},
      plot: {seats: {server: [{kind: mislabelled, plotters: [north]}], north: [{kind: watermark, alpha: 0.5}]}},
      slice: {scenario: {grants: {north: [labels, target_labels]}}, seats: {north: [{kind: poisoned_slice}]}},
      none: {scenario: {grants: {server: []}}}}"""
    clean, plot, poisoned, none = fine("check", "uda_poisoning", "--set", arms).split(", digest ")[1:]

    def rows(text: str, *words: str) -> list[list[str]]:
        return [line.split() for line in text.splitlines() if any(word in line for word in words)]

    assert not rows(clean, "around", "Slice", "Distances", "Granted", "Twins", "Crafted")
    assert rows(plot, "watermark") == [["north", "watermark", "(alpha=0.5)", "nothing"]]
    assert [row[:2] for row in rows(plot, "mislabelled")] == [["server", "mislabelled"]]
    assert [row[:3] for row in rows(plot, "Twins", "Distances")] == [
        ["server", "north", "Twins"],
        ["north", "server", "Distances"],
    ]
    assert rows(poisoned, "poisoned_slice") == [["north", "poisoned_slice", "labels,", "target_labels"]]
    assert [row[:3] for row in rows(poisoned, "Granted")] == [["server", "north", "Granted"]]
    assert "What is around seats: none" in none
