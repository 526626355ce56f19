"""The lower bound on a target error: its terms worked out by hand, and what it says of runs."""

from __future__ import annotations

import math

import pytest
import torch

from fedsim.config import read
from fedsim.figure import Lines, figure
from fedsim.parties.bound import Domain, bound, disagreement, majority, mmd
from fedsim.runtime.local import Local
from fedsim.seeding import Rng


def domain(*places: tuple[float, int, int]) -> Domain:
    """Rows (at, label, how many) in one dimension."""
    z = [[float(at)] for at, _, count in places for _ in range(count)]
    return Domain(torch.tensor(z), torch.tensor([label for _, label, count in places for _ in range(count)]))


def test_domains_that_lie_on_each_other_with_labels_swapped_leave_no_head_a_chance() -> None:
    source, target = domain((0, 0, 5), (10, 1, 5)), domain((0, 1, 5), (10, 0, 5))
    found = bound(source, target, 0.1, 2)
    assert found["labelling_mismatch"] == 1
    assert found["marginal_mismatch"] == 0
    assert found["lower_bound"] == pytest.approx(
        0.9
    )  # a head that errs on .1 of the source is right on .1 of the target


def test_a_target_elsewhere_is_not_ruled_out_by_its_labels_alone() -> None:
    """45 pairs, 20 of distance 0 and 25 of distance 10: the median is 10, the kernel across exp(-1/2)."""
    source, target = domain((0, 0, 5)), domain((10, 1, 5))
    apart = math.sqrt(2 - 2 * math.exp(-0.5))
    found = bound(source, target, 0.0, 2)
    assert found["marginal_mismatch"] == pytest.approx(apart)
    assert found["lower_bound"] == pytest.approx(1 - apart)
    assert bound(source, target, 0.5, 2)["lower_bound"] == 0


def test_the_labelling_mismatch_is_the_larger_of_the_two() -> None:
    source, target = domain((0, 0, 5), (10, 1, 5)), domain((0, 0, 4), (0, 1, 1), (10, 0, 5))
    assert disagreement(source, target, 2) == 0.5  # at 10 the target says 0
    assert disagreement(target, source, 2) == 0.6  # and one of its rows at 0 is a 1
    assert bound(source, target, 0.0, 2)["labelling_mismatch"] == 0.6


def test_a_row_that_is_left_out_is_not_its_own_neighbour() -> None:
    among = domain((0, 1, 1), (1, 0, 3), (9, 1, 3))
    own = torch.tensor([0, 1, 6])
    assert majority(among.z[own], among, 2, 1).tolist() == [1, 0, 1]
    assert majority(among.z[own], among, 2, 1, leave_out=own).tolist() == [0, 0, 1]


def test_the_discrepancy_of_equal_laws_is_near_nothing_and_that_of_others_is_what_theory_says() -> None:
    """Normal laws of unit variance, means d apart, kernel width s: MMD^2 = 2 s / sqrt(s^2 + 2) (1 - exp(-d^2 / 2(s^2 + 2)))."""
    z = torch.randn(3, 1000, 1, generator=Rng.root(1).torch()).double()
    assert mmd(z[0], z[1]) < 0.05
    other = z[1] + 3
    squared = torch.pdist(torch.cat([z[0], other])).square().median()
    s = float(squared.sqrt())
    theory = 2 * s / math.sqrt(s**2 + 2) * (1 - math.exp(-9 / (2 * (s**2 + 2))))
    assert mmd(z[0], other) == pytest.approx(math.sqrt(theory), rel=0.05)


def test_a_run_reports_the_bound_at_each_evaluation_and_draws_it() -> None:
    settings = ["scenario.steps=20", "scenario.evaluate=10", "scenario.data.count=600"]
    file = read("uda_poisoning", [*settings, "scenario.data.rows=400", "scenario.data.test=150"]).arms()["clean"]
    hub = next(report for report in Local().run(file, lambda role, row: None) if report.rows)
    tests = [row["test"] for row in hub.rows if "test" in row]
    assert len(tests) == 2
    for test in tests:
        gap = test["labelling_mismatch"] - (1 - test["source_accuracy"]) - test["marginal_mismatch"]
        assert test["lower_bound"] == pytest.approx(max(0, gap))
    drawn = figure(hub.figures[0])
    assert isinstance(drawn, Lines)
    error = next(line for line in drawn.lines if line.name == "target error")
    assert list(error.y) == pytest.approx([1 - test["accuracy"] for test in tests])
