"""Seats on hosts of their own: the same numbers, whoever does not belong is refused by name, whoever is lost is named."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from hosts import Ended
from places import SEATS, Place, all_named, ended_well, the_same_as_alone, training, until

from fedsim import config

pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
pytestmark = pytest.mark.netns

ESTABLISHED = "01"
SHORT = "3"
"""Seconds that a hub waits in the test of those that never come."""


@pytest.mark.parametrize("name", ["baseline", "labels"])
def test_the_same_numbers_on_separate_hosts(place: Place, name: str) -> None:
    address, hub = place.hub(name)
    ended_well({"hub": hub, **place.others(name, address)})
    the_same_as_alone(place.folder, name)


def test_the_same_numbers_with_25_ms_each_way(place: Place) -> None:
    place.lab.delay(25)
    address, hub = place.hub("labels", far=True, out="late")
    ended_well({"hub": hub, **place.others("labels", address, out="late")})
    the_same_as_alone(place.folder, "labels", "late")


AT_HOME = {"no token", "the certificate of another seat", "a certificate of another authority", "another authority"}
"""What a seat notices itself, before it connects; that a hub refuses those who do not look is a matter of test_hostile.py."""
STRANGERS: dict[str, tuple[str, str]] = {
    "the token of another seat": ("--token-file keys-leakage/east/token", "refuses north: wrong token: not the one of"),
    "no token": ("--token-file empty", "--token-file empty: no token; "),
    "the certificate of another seat": (
        "--cert keys-leakage/east/cert.pem --key keys-leakage/east/key.pem",
        "seat north cannot use its certificate: it is that of east, not of north",
    ),
    "a certificate of another authority": (
        "--cert keys-others/north/cert.pem --key keys-others/north/key.pem",
        "seat north cannot use its certificate: the authority in --ca has not signed it",
    ),
    "another authority": (
        "--ca keys-others/north/ca.pem",
        "seat north cannot use its certificate: the authority in --ca has not signed it",
    ),
    "plain text": ("--plain", "plain text"),
    "another file": ("--set seed=3", "refuses north: it plays scenario "),
    "a role that is taken": ("--role east", "refuses east: seat east is taken: another process has joined as it"),
}


@pytest.fixture(scope="module")
def refused(place: Place) -> dict[str, Ended]:
    """A run that waits for north; strangers try to be north, from a host of their own; then north comes, and all is well.

    One of them holds hundreds of connections, all the time.
    """
    (place.folder / "empty").touch()
    address, hub = place.hub("leakage")
    east = place.others("leakage", address, "north")
    until(lambda: connected(place, address), "east")
    loris = place.hosts["stranger"].start("loris", address)
    trying = {}
    for what, (words, _) in STRANGERS.items():
        keys = "keys-leakage/" + ("east" if "taken" in what else "north")
        more = ("--connect", address, *words.split())
        trying[what] = place.seat("leakage", "north", *more, on="stranger", keys=keys, out=what)
    ends = {what: each.wait() for what, each in trying.items()}
    return ends | ended_well({"hub": hub, "loris": loris, **east, **place.others("leakage", address, "east")})


def connected(place: Place, address: str) -> bool:
    """Whether anybody is connected to the hub, by the kernel's own table."""
    port, pid = f":{int(address.rpartition(':')[2]):04X}", place.hosts["server"].tell(pid=True)
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
    return any(line.split()[1].endswith(port) and line.split()[3] == ESTABLISHED for line in lines)


@pytest.mark.parametrize("what", STRANGERS)
def test_who_does_not_belong_is_refused_by_name(refused: dict[str, Ended], what: str) -> None:
    end = refused[what]
    assert end.code == (2 if what in AT_HOME else 1), end.said
    assert STRANGERS[what][1] in end.said.splitlines()[-1]
    assert "Traceback" not in end.said


def test_the_hub_says_once_who_was_refused_and_why(refused: dict[str, Ended]) -> None:
    said = [line for line in refused["hub"].said.splitlines() if "refused: " in line]
    whys = [why.partition("refuses ")[2].partition(": ")[2] for _, why in STRANGERS.values() if "refuses " in why]
    assert len(said) == len(whys), refused["hub"].said
    assert all(any(why in line for line in said) for why in whys), said
    assert all("refused: 10.77.0.4 as '" in line for line in said), said


@pytest.mark.usefixtures("refused")
def test_a_run_that_strangers_knocked_at_gives_the_same_numbers(place: Place) -> None:
    the_same_as_alone(place.folder, "leakage")


def test_who_is_missing_is_told_to_all_that_wait(place: Place) -> None:
    address, hub = place.hub("endless", "--wait", SHORT, out="missing")
    east = place.others("endless", address, "north", out="missing")["east"]
    why = f"north did not connect within {SHORT} s"
    for each, found in ((hub, f"fedsim: {why}"), (east, f"server is gone: {why}")):
        end = each.wait()
        assert (end.code, end.said.splitlines()[-1].endswith(found)) == (1, True), end.said


def test_a_party_that_is_killed_is_named_to_all(place: Place) -> None:
    running = training(place, "killed")
    os.kill(running["north"].pid, signal.SIGKILL)
    all_named(running, dict.fromkeys(("server", "east"), "north is gone: its connection broke"))


def test_a_party_whose_link_is_cut_is_named_to_all_and_knows_it(place: Place) -> None:
    running = training(place, "cut")
    place.lab.cut("north")
    try:
        lost = dict.fromkeys(("server", "east"), "north is gone: its connection broke")
        all_named(running, {**lost, "north": "server is gone: "})
    finally:
        place.lab.mend("north")


def test_a_partition_of_five_seconds_is_survived_with_the_same_numbers(place: Place) -> None:
    """Both sides take each other for lost, meet again, and go on from the last checkpoint."""
    running = training(place, "parted", "lasting")
    place.lab.cut("north")
    time.sleep(5)  # that is the partition
    place.lab.mend("north")
    ends = {role: each.wait() for role, each in running.items()}
    assert {role: end.code for role, end in ends.items()} == dict.fromkeys(SEATS, 0), ends
    said = ends["server"].said
    assert "all seats are started again (1 of at most 4 times)" in said
    assert "all go on after training step " in said
    the_same_as_alone(place.folder, "lasting", "parted")


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("4 GiB frame", "north broke the protocol: a frame in 512 parts; at most 1073741824 bytes are allowed"),
        ("4 GiB header", "header of 4294967295 bytes in a frame of 20, at most 1048576 are allowed"),
    ],
)
def test_a_party_that_announces_4_gib_is_named_to_all(place: Place, head: str, why: str) -> None:
    address, hub = place.hub("endless", out=head)
    east = place.others("endless", address, "north", out=head)["east"]
    digest = config.read(str(place.folder / "endless.yaml")).digest()
    north = place.hosts["north"].start("hostile", head, "north", "server", address, digest, "keys-endless/north")
    all_named({"server": hub, "east": east}, {"server": why, "east": why})
    assert north.wait().code == 0


def test_no_key_and_no_token_is_in_what_the_seats_leave(place: Place) -> None:
    """Reads all that the runs of this module have written."""
    secrets = [path.read_text().strip() for path in place.folder.glob("keys-*/*/token")]
    left = [path for path in place.folder.rglob("*") if path.is_file() and not path.parts[-3].startswith("keys-")]
    assert len(secrets) > 10
    assert any(path.name == "manifest.json" for path in left)
    for path in left:
        content = path.read_bytes()
        assert b"PRIVATE KEY" not in content, path
        assert [secret for secret in secrets if secret.encode() in content] == [], path
