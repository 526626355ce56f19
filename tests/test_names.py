"""Names that strangers give: none leads out of a folder, none speaks to a terminal, none looks like another."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from terminal import refused

from fedsim.config import read, shipped
from fedsim.errors import ConfigError
from fedsim.plan import complete
from fedsim.printable import HARMFUL, describe_bad_seat, is_printable, make_printable

OUTSIDE = [
    "../x",
    "..",
    ".",
    "a/b",
    "a\\b",
    "/etc/x",
    ".hidden",
    "a.",
    "C:x",
    "*",
    "a\nb",
    "a\u2028b",
    "a\tb",
    "a\x00b",
    "",
    " a",
    "x" * 300,
]
SHOWN_AS_ANOTHER = [
    "a\x1b[2Jb",
    "a\x9b2Jb",
    "a\u202eb",
    "a\u2066b",
    "a\u200bb",
    "a\x7fb",
    "\ufeffa",
    "a\U000e0041b",
]
ORDINARY = ["north", "müller", "प्रिया", "株式会社", "bank 2", "a.b", "a-b_c", "-a", "_a", "7"]


@pytest.mark.parametrize("name", OUTSIDE + SHOWN_AS_ANOTHER)
def test_no_seat_of_any_scenario_has_a_name_that_no_file_can_have(name: str) -> None:
    assert describe_bad_seat(name)
    plan = next(iter(read("contrastive").arms().values())).plan()
    hub = plan.seats[plan.hub]
    with pytest.raises(ConfigError, match="a seat cannot be named") as caught:
        complete(type(plan)(plan.hub, {**plan.seats, name: hub}, plan.flows), (), {}, ())
    assert is_printable(str(caught.value))


def test_keys_of_a_scenario_whose_own_setting_names_a_seat_stay_in_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused("keys", "contrastive", "--set", "scenario.registry=../x", "--out", "keys")
    assert "scenario: a seat cannot be named '../x': '/' cannot stand in it" in said
    assert list(tmp_path.iterdir()) == []


def test_two_seats_that_look_the_same_are_refused() -> None:
    composed, taken_apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    plan = next(iter(read("contrastive").arms().values())).plan()
    hub = plan.seats[plan.hub]
    with pytest.raises(ConfigError, match="look the same"):
        complete(type(plan)(plan.hub, {**plan.seats, composed: hub, taken_apart: hub}, plan.flows), (), {}, ())


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_of_any_script_are_seats(name: str) -> None:
    assert describe_bad_seat(name) == ""


def test_every_seat_of_the_shipped_scenarios_has_an_ordinary_name() -> None:
    for name in ("baseline", "leakage", "contrastive", "minmax", "best_arm", "uda_poisoning", "weight_faults"):
        assert name in shipped()
        for arm in read(name).arms().values():
            assert [describe_bad_seat(role) for role in arm.plan().seats] == [""] * len(arm.plan().seats)


@pytest.mark.parametrize("name", [*SHOWN_AS_ANOTHER, "a\nb", "a\u2028b", "a\rb", "a\x07b"])
@pytest.mark.parametrize(
    "where", ["name: {}", "compare: {{{}: {{}}}}", "profiles: {{{}: {{}}}}", "sweep: {{grid: {{x: {{{}: {{}}}}}}}}"]
)
def test_names_in_a_file_are_shown_as_themselves_or_refused(where: str, name: str, tmp_path: Path) -> None:
    quoted = '"' + name.encode("unicode_escape").decode() + '"'
    text = shipped()["baseline"].read_text("utf-8").split("\n---", 1)[0]
    kept = "\n".join(line for line in text.splitlines() if not line.startswith(("name:", "compare:", "profiles:")))
    (tmp_path / "s.yaml").write_text(f"{kept}\n{where.format(quoted)}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has a character that is not shown as itself") as caught:
        read(str(tmp_path / "s.yaml"))
    assert is_printable(str(caught.value).replace("\n", ""))


def test_a_file_with_escape_sequences_in_its_own_name_has_a_printable_one(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J.yaml"
    path.write_text(shipped()["baseline"].read_text("utf-8"), encoding="utf-8")
    assert read(str(path)).name == "a\\x1b[2J"


def test_a_character_is_spelt_out_if_and_only_if_unicode_calls_it_a_control_or_a_format() -> None:
    needed_by_words = set(
        "\u00ad\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
    )
    for i in range(0x110000):
        category = unicodedata.category(chr(i))
        if category != "Cn":
            harmful = category in ("Cc", "Cf", "Cs", "Zl", "Zp") and chr(i) not in needed_by_words
            assert bool(HARMFUL.match(chr(i))) == harmful, hex(i)


def test_what_is_spelt_out_can_be_read() -> None:
    assert make_printable("a\x1b[31m\n\u202e\U000e0041\udc80é") == "a\\x1b[31m\\n\\u202e\\U000e0041\\udc80é"
    assert make_printable("a\nb\x07", keep="\n") == "a\nb\\x07"


@pytest.mark.parametrize("value", ["010", "08", "-07", "+0_1", "'010'", "[1, 010]", "{a: 010}"])
def test_a_number_that_two_editions_of_yaml_read_differently_is_refused(value: str) -> None:
    place = {"[": "scenario.widths", "{": "placement.server"}.get(value[0], "scenario.batch")
    if place == "scenario.widths":
        place, value = "scenario.bottom", f"{{kind: mlp, hidden: {value}}}"
    with pytest.raises(ConfigError, match="expected a number without a zero in front"):
        read("baseline", [f"{place}={value}"])


@pytest.mark.parametrize("value", ["true", "yes", "off"])
@pytest.mark.parametrize("place", ["seed", "threads", "scenario.batch", "scenario.optimiser.lr", "scenario.evaluate"])
def test_true_and_false_are_no_numbers(place: str, value: str) -> None:
    said = "false" if value == "off" else "true"
    with pytest.raises(ConfigError, match=f"{place}: expected a number, found {said}"):
        read("baseline", [f"{place}={value}"])


def test_true_and_false_are_no_numbers_in_a_list_either() -> None:
    with pytest.raises(ConfigError, match="expected a number, found true"):
        read("baseline", ["scenario.bottom={kind: mlp, hidden: [8, true]}"])


@pytest.mark.parametrize("value", ["1:30", "-1:00:00", "1:30.5", "0o17"])
def test_numbers_to_the_base_of_60_are_none(value: str) -> None:
    for place in ("scenario.batch", "scenario.optimiser.lr"):
        with pytest.raises(ConfigError, match=f"expected a .*number, found '{value}'"):
            read("baseline", [f"{place}={value}"])


def test_names_that_begin_with_a_zero_are_names() -> None:
    file = read("baseline", ["name=007"])
    assert file.name == "007"
