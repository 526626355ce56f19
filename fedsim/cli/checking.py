"""``fedsim check``: the whole validation and the plan, with the data looked at and nothing trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.plan import Plan
from fedsim.role import Role
from fedsim.seeding import Rng, determine, simulated_secret

LOOK: dict[str, Any] = {"box": box.SIMPLE_HEAD, "title_justify": "left"}


def print_plan(source: str, overrides: Sequence[str]) -> None:
    """Validate a file, build every seat, and say who holds, sends and attacks what.

    Raises:
        InputError: what `fedsim run` would refuse before its first step.
    """
    file = config.read(source, overrides)
    console = Console()
    for name, arm in file.arms().items():
        determine(arm.threads)
        plan = arm.plan()
        roles = {role: _build(arm, plan, role) for role in plan.roster}
        console.rule(f"{escape(name)}: {arm.scenario.kind()}, digest {arm.digest()[:8]}", align="left")
        console.print(_seats(arm, plan, roles))
        console.print(_links(plan, roles))
        if plan.aims:
            console.print(_trials(plan))
    console.print("ok: nothing was trained", style="bold")


def _build(file: ScenarioFile, plan: Plan, role: str) -> Role:
    return plan.seats[role].build(Rng.root(file.seed), Rng.secret(simulated_secret(file.seed, role)))


def _seats(file: ScenarioFile, plan: Plan, roles: Mapping[str, Role]) -> Table:
    table = Table("seat", "holds", "model", "parameters", "rows", title="Who holds what", **LOOK)
    for name, role in roles.items():
        about = role.describe()
        for each in (about, *([own] if (own := about.get("own")) else [])):
            table.add_row(
                f"{name} (hub)" if name == plan.hub else name,
                escape(_holds(file, name, each)),
                escape(_model(each)),
                f"{each.get('parameters', 0):,}",
                _rows(each.get("rows", {})),
            )
    return table


def _holds(file: ScenarioFile, name: str, about: Mapping[str, Any]) -> str:
    if "classes" in about:
        classes = [str(c) for c in about["classes"]]
        shown = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
        return f"labels: {shown}"
    columns: list[str] = list(about.get("columns", ()))
    if not columns:
        return f"pixels {file.resolved()['scenario']['parties'][name]['columns']}, {_shape(about)}"
    return f"{len(columns)} inputs: {', '.join(columns[:6])}{', ...' if len(columns) > 6 else ''}"


def _shape(about: Mapping[str, Any]) -> str:
    return " x ".join(map(str, about.get("input", ())))


def _model(about: Mapping[str, Any]) -> str:
    if "model" not in about:
        return "top"
    return f"{about['model']['kind']} -> {about['embedding']}"


def _rows(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {purpose}" for purpose, count in rows.items())


def _links(plan: Plan, roles: Mapping[str, Role]) -> Table:
    table = Table("from", "to", "message", "stages on the way", title="Who sends what to whom", **LOOK)
    table.add_column("bytes a step", justify="right")
    total = 0
    for flow in plan.flows:
        on_the_way = [
            f"{defence.caption()} at {end}"
            for link in plan.links
            if link.joins(flow.frm, flow.to) and link.message in ("*", flow.kind)
            for end, defences in ((flow.frm, link.sender), (flow.to, link.receiver))
            for defence in defences
        ]
        party = flow.frm if flow.to == plan.hub else flow.to
        size = roles[party].describe().get("bytes", {}).get(flow.kind, 0)
        if flow.kind == "Model" and flow.to == plan.hub:
            size = 0  # once, before the first step
        total += size
        table.add_row(flow.frm, flow.to, flow.kind, escape(", ".join(on_the_way)), f"{size:,}" if size else "once")
    table.add_section()
    table.add_row("", "", "all", "", f"{total:,}")
    return table


def _trials(plan: Plan) -> Table:
    table = Table("attack", "at", "against", "knows", "metric", title="Who attacks", **LOOK)
    for aim in plan.aims:
        table.add_row(escape(aim.attack.caption()), aim.seat, aim.victim, ", ".join(aim.knows) or "nothing", aim.metric)
    return table
