"""The contract of a scenario: its plan is pure data that hangs together, and making it loads nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, TypeVar

from fedsim.message import Message
from fedsim.plan import Plan, Scenario
from fedsim.plugins import Plugin, Settings
from fedsim.testing.expect import check_metadata, expect, no_errors

TRUTHS = frozenset({"features", "labels"})
C = TypeVar("C", bound=Settings)


def check_scenario(config: Scenario) -> None:
    """Check a scenario with these settings.

    The plan is the same each time and needs no data (it is made once with every location pointing nowhere); the hub is
    a seat; every flow joins two seats and carries a known kind of message; each seat has something to do with the hub.

    Raises:
        ConformanceError: says which part of the contract is broken.
    """
    kind = config.kind()
    check_metadata(config)
    with no_errors(f"{kind}: making its plan"):
        plan, again = config.plan(), config.plan()
    same = (plan.hub, plan.roster, plan.flows) == (again.hub, again.roster, again.flows)
    expect(same, f"{kind}: two plans of the same settings differ")
    with tempfile.TemporaryDirectory() as empty, no_errors(f"{kind}: making its plan where there is no data"):
        elsewhere = moved(config, Path(empty) / "missing").plan()
    expect(elsewhere.roster == plan.roster, f"{kind}: its seats depend on where the data lies")
    _check_plan(plan, kind)


def _check_plan(plan: Plan, kind: str) -> None:
    expect(plan.hub in plan.seats, f"{kind}: hub '{plan.hub}' is none of the seats {', '.join(plan.roster)}")
    for flow in plan.flows:
        ends = flow.frm in plan.seats and flow.to in plan.seats and flow.frm != flow.to
        expect(ends, f"{kind}: {flow.kind} flows {flow.frm} -> {flow.to}, which does not join two seats")
        expect(flow.kind in Message.kinds, f"{kind}: nobody defines a message of kind {flow.kind}")
    for role, seat in plan.seats.items():
        expect(seat.truths <= TRUTHS, f"{kind}: seat {role} holds {sorted(seat.truths)}; allowed: {sorted(TRUTHS)}")
        expect(callable(seat.build), f"{kind}: seat {role} cannot be built")
        joined = role == plan.hub or bool(plan.kinds_between(role, plan.hub))
        expect(joined, f"{kind}: nothing flows between seat {role} and the hub {plan.hub}")


def moved(config: C, to: Path) -> C:
    """The same settings with every location, its own or a nested plugin's, pointing at ``to``."""
    update: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Settings):
            update[name] = moved(value, to)
        elif isinstance(config, Plugin) and name in config.location and isinstance(value, str | Path):
            update[name] = type(value)(str(to))
    return config.model_copy(update=update)
