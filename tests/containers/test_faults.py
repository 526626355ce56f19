"""A network that jitters, reorders, doubles, loses, corrupts and is slow changes no number; one that is cut is named."""

from __future__ import annotations

import time

import pytest
from places import SEATS, Place, all_named, ended_well, the_same_as_alone, training

from fedsim.seeding import Rng

pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
pytestmark = pytest.mark.netns

MOST = {"delay": 0.01, "jitter": 0.01, "lose": 0.03, "double": 0.1, "corrupt": 0.03}
"""Seconds, and shares of frames: TCP mends that many within the three seconds that a heartbeat may take."""
RATES = (0.0, 50e3, 500e3)
"""Bytes a second; 0 is no limit."""
QUICK, SLOW = range(2), range(2, 32)


def plays(place: Place, seed: int) -> None:
    """A run in which much goes wrong on the way of every seat, in both directions."""
    draw = Rng.root(seed).child("faults").numpy()
    for host in SEATS:
        for way in ("up", "down"):
            chosen = {what: most * float(draw.random()) for what, most in MOST.items() if draw.random() < 0.5}
            place.lab.faults(host, way, rate=float(draw.choice(RATES)), **chosen)
    try:
        address, hub = place.hub("labels", far=True, out=f"faults-{seed}")
        ended_well({"hub": hub, **place.others("labels", address, out=f"faults-{seed}")})
    finally:
        place.lab.delay(0)
    the_same_as_alone(place.folder, "labels", f"faults-{seed}")


@pytest.mark.parametrize("seed", QUICK)
def test_what_tcp_mends_does_not_show(place: Place, seed: int) -> None:
    plays(place, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_what_tcp_mends_does_not_show_over_many_seeds(place: Place, seed: int) -> None:
    plays(place, seed)


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_link_that_is_half_open_is_named_to_all(place: Place, way: str) -> None:
    running = training(place, f"half-{way}", far=True)
    place.lab.faults("north", way, lose=1)
    try:
        lost = dict.fromkeys(("server", "east"), "north is gone: its connection broke")
        all_named(running, {**lost, "north": "server is gone: "})
    finally:
        place.lab.delay(0)


def test_a_link_that_is_half_open_for_six_seconds_is_survived_with_the_same_numbers(place: Place) -> None:
    running = training(place, "half-lasting", "lasting", far=True)
    place.lab.faults("north", "up", lose=1)
    time.sleep(6)  # longer than a heartbeat may take
    place.lab.delay(0)
    ends = {role: each.wait() for role, each in running.items()}
    assert {end.code for end in ends.values()} == {0}, ends
    assert "all seats are started again (1 of at most 4 times)" in ends["server"].said
    the_same_as_alone(place.folder, "lasting", "half-lasting")
