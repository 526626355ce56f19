"""Every interval of the documentation is the one of values on record, to the last digit that is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fedsim.confidence import estimate_mean

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def derive() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import derive_intervals
    finally:
        sys.path.pop(0)
    return derive_intervals


def test_every_interval_is_that_of_the_series_that_is_named(derive: ModuleType) -> None:
    sources, count = derive.sources(), 0
    for page in derive.PAGES:
        named = sources.get(str(page.relative_to(ROOT)), [])
        found = derive.intervals(page)
        assert [each["interval"] for each in named] == [" ".join(one.match[0].split()) for one in found], (
            f"{page.name}: run benchmarks/derive_intervals.py"
        )
        for one, each in zip(found, named, strict=True):
            (series, *_) = [
                s for s in derive.on_record(derive.RESULTS / f"{_record(each['of'])}.json") if s.where == each["of"]
            ]
            estimate = series.estimate
            assert estimate.has_interval
            assert one.is_near("mean", estimate.mean), each
            assert one.has_ends(estimate.low, estimate.high), each
            count += 1
    assert count > 500


def _record(where: str) -> str:
    return where.removeprefix("minus ").partition(" > ")[0]


def test_no_page_speaks_of_bootstrap_intervals_of_means(derive: ModuleType) -> None:
    """A word that comes back with a text of former times."""
    for page in derive.PAGES:
        for line in page.read_text("utf-8").splitlines():
            assert "bootstrap 95 %" not in line, f"{page.name}: {line}"


def test_what_drifts_from_the_record_is_named(derive: ModuleType, tmp_path: Path) -> None:
    values = [0.91, 0.90, 0.94, 0.89, 0.92]
    sure = estimate_mean(values)
    record = {"summary": {"arms": {"plain": {"task": {"accuracy": {"mean": sure.mean, "values": values}}}}}}
    record_path = tmp_path / "made_up.json"
    record_path.write_text(json.dumps(record))
    page, link = tmp_path / "page.md", "[record](results/made_up.json)"
    derive_results, derive.RESULTS = derive.RESULTS, tmp_path
    try:
        page.write_text(f"Good: {sure.mean:.3f} ({sure.low:.3f} to {sure.high:.3f}). {link}")
        bound, wrong = derive.bind(page, [])
        assert ([each["of"] for each in bound], wrong) == (["made_up > summary > arms > plain > task > accuracy"], [])
        page.write_text(f"Bad: {sure.mean:.3f} ({sure.low:.3f} to {sure.high + 0.001:.3f}). {link}")
        assert "no such interval on record" in derive.bind(page, [])[1][0]
        low, high = derive.Series("", tuple(values)).former
        page.write_text(f"Former: {sure.mean:.3f} ({low:.3f} to {high:.3f}). {link}")
        derive.rewrite(page)
        assert f"{sure.mean:.3f} ({sure.low:.3f} to {sure.high:.3f})" in page.read_text()
    finally:
        derive.RESULTS = derive_results
