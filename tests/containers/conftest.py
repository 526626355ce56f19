"""Tests that need hosts of their own say so by a marker; where these cannot be had they skip, and the run says so at its end.

``FEDSIM_NETNS`` and ``FEDSIM_DOCKER`` choose: ``auto`` (the default), ``require`` (it is a failure), ``off``.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable

import pytest
from engine import why_no_engine
from hosts import why_no_namespaces
from places import place  # noqa: F401 (the fixture)

PROBES: dict[str, Callable[[], str]] = {
    "netns": functools.cache(why_no_namespaces),
    "docker": functools.cache(why_no_engine),
}
_not_tested: defaultdict[tuple[str, str], int] = defaultdict(int)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, or fail if it must."""
    for kind, probe in PROBES.items():
        if item.get_closest_marker(kind) is None:
            continue
        variable = f"FEDSIM_{kind.upper()}"
        choice = os.environ.get(variable, "auto")
        assert choice in ("auto", "require", "off"), f"{variable}={choice}; allowed: auto, off, require"
        if not (why := f"{variable}=off" if choice == "off" else probe()):
            continue
        if choice == "require":
            pytest.fail(f"{variable}=require, but: {why}", pytrace=False)
        _not_tested[kind, why] += 1
        pytest.skip(why)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tested, and why."""
    for (kind, why), count in _not_tested.items():
        terminalreporter.section(f"NOT TESTED: {count} of {kind}", red=True, bold=True)
        terminalreporter.line(why)
