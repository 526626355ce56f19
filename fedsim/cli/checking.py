"""``fedsim check``: the whole validation and the plan, with the data looked at and nothing trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedsim import config
from fedsim.axes import Sweep, short
from fedsim.cli.tables import bare
from fedsim.cli.terminal import Terminal
from fedsim.config import ScenarioFile
from fedsim.experiment import build
from fedsim.message import Flow, RoleId
from fedsim.plan import Aim, Plan
from fedsim.role import Role

WIDEST = 36
"""Characters of a list of columns or classes."""
CELLS = 40
"""Cells of a sweep that are listed."""
Section = list[tuple[str, ...]]
"""The rows of a table."""


def print_plan(source: str, overrides: Sequence[str], profile: str) -> None:
    """Validate a file, build every seat, and say who holds, sends and attacks what; of later arms, what differs.

    Raises:
        InputError: what `fedsim run` would refuse before its first step.
    """
    file = config.read(source, overrides, profile)
    console = Terminal()
    before: list[Section] = []
    for name, arm in file.arms().items():
        plan, away = arm.plan(), arm.scenario.away()
        roles = {} if away else build(file, name, arm)
        for role in plan.roster if away else ():
            if role not in away:
                arm.scenario.look(role)
        holds = _seats(arm, plan, roles) or _unseen(arm, plan)
        sections = [holds, _around(plan), _links(plan, roles), _trials(plan)]
        console.print(f"[bold]{escape(name)}[/bold]: {arm.scenario.kind()}, digest {arm.digest()[:8]}", highlight=False)
        for i, (table, rows) in enumerate(zip(_tables(), sections, strict=True)):
            if not rows and not (before and before[i]):
                continue
            console.print()
            if not rows:
                console.print(f"[italic]{table.title}[/italic]: none")
                continue
            if before and rows == before[i]:
                console.print(f"[italic]{table.title}[/italic]: as above")
                continue
            for row in rows:
                table.add_row(*map(escape, row))
            console.print(table)
        before = sections
        console.print()
        for role, about in ((role, each.describe()) for role, each in roles.items()):
            for notice in (*about.get("notices", ()), *(about.get("own") or {}).get("notices", ())):
                console.print(f"{role}: {notice}", highlight=False, markup=False, soft_wrap=True)
        if away:
            tables = ", ".join(f"{path} of {role}" for role, path in away.items())
            console.print(f"not here, so that rows were not matched: {tables}", highlight=False, markup=False)
    if file.sweep is not None:
        _print_cells(console, file, file.sweep)
    console.print("ok: nothing was trained", style="bold")


def _print_cells(console: Console, file: ScenarioFile, sweep: Sweep) -> None:
    """What a sweep plays: a row a cell, with the axes side by side."""
    cells, axes = file.cells(), short(sweep.axes)
    total = len(cells) * sweep.seeds
    played = min(total, sweep.budget.trials or total)
    console.print(f"[bold]{escape(file.name)}[/bold]: sweep, digest {file.sweep_digest()[:8]}", highlight=False)
    console.print()
    name = f"{len(cells)} cells, {sweep.seeds} seeds each: {played} runs"
    table = bare(name + (f" of {total}" if played < total else ""), *axes.values(), "attacks", "digest")
    for cell, one in cells[:CELLS]:
        attacks = ", ".join(row[0] for row in _trials(one.plan())) or "none"
        labels = (escape(cell.choices[axis].label) for axis in axes)
        table.add_row(*labels, escape(attacks), one.digest()[:8])
    console.print(table)
    if len(cells) > CELLS:
        console.print(f"and {len(cells) - CELLS} more")
    console.print()


def _tables() -> tuple[Table, Table, Table, Table]:
    """Empty: who holds what, what is around seats, who sends what, who attacks."""
    holds = bare("Who holds what", "seat", "holds", "model")
    holds.add_column("parameters", justify="right")
    holds.add_column("rows: train, test", justify="right")
    sends = bare("Who sends what to whom", "from", "to", "message", "stages on the way")
    sends.add_column("bytes a step", justify="right", no_wrap=True)
    around = bare("What is around seats", "seat", "wrapper", "is told")
    return holds, around, sends, bare("Who attacks", "attack", "at", "against", "knows", "metric")


def _seats(file: ScenarioFile, plan: Plan, roles: Mapping[RoleId, Role]) -> Section:
    found: Section = []
    for name, role in roles.items():
        about = role.describe()
        for each in (about, *([own] if (own := about.get("own")) else [])):
            seat = f"{name} (hub)" if name == plan.hub else name
            rows = ", ".join(f"{count:,}" for count in each.get("rows", {}).values())
            if left_out := each.get("left_out"):
                rows += f" ({left_out:,} left out)"
            model = _model(each)
            parameters = f"{each['parameters']:,}" if "parameters" in each else "0" if model == "none" else "?"
            found.append((seat, _holds(file, name, each), model, parameters, rows))
    return found


def _unseen(file: ScenarioFile, plan: Plan) -> Section:
    """The same by the file alone, where each seat has a table of its own and they are not all here."""
    scenario = file.resolved()["scenario"]
    found: Section = []
    for name in plan.seats:
        seat = f"{name} (hub)" if name == plan.hub else name
        if name == plan.hub:
            found.append((seat, "labels", "top", "?", "?"))
        if party := scenario["parties"].get(name):
            columns = party["columns"] if isinstance(party["columns"], str) else ", ".join(party["columns"])
            kind, width = (party[key] or scenario[key] for key in ("bottom", "embedding"))
            found.append((seat, f"columns {columns}", f"{kind['kind']} -> {width}", "?", "?"))
    return found


def _around(plan: Plan) -> Section:
    """A row for each wrapper, innermost first, and for each seat that is told something."""
    return [
        (role, caption, ", ".join(seat.told) or "nothing")
        for role, seat in plan.seats.items()
        for caption in [w.caption() for w in plan.wrappers.get(role, ())] or ["none"] * bool(seat.told)
    ]


def _holds(file: ScenarioFile, name: RoleId, about: Mapping[str, Any]) -> str:
    if "holds" in about:
        return str(about["holds"])
    if "classes" in about:
        return f"labels: {_listed(map(str, about['classes']))}"
    columns: list[str] = list(about.get("columns", ()))
    if columns:
        return f"{len(columns)} inputs: {_listed(columns)}"
    if "input" not in about:
        return "no data"
    shape = " x ".join(map(str, about["input"]))
    return f"pixels {file.resolved()['scenario']['parties'][name]['columns']} ({shape})"


def _listed(names: Iterable[str]) -> str:
    """As many names as fit."""
    text = ""
    for name in names:
        if len(text) + len(name) > WIDEST:
            return f"{text}, ..." if text else f"{name[:WIDEST]}..."
        text += f", {name}" if text else name
    return text


def _model(about: Mapping[str, Any]) -> str:
    model = about.get("model", "top" if "classes" in about else "none")
    return model if isinstance(model, str) else f"{model['kind']} -> {about['embedding']}"


def _links(plan: Plan, roles: Mapping[RoleId, Role]) -> Section:
    """A row for each kind of message; parties that send or are sent the same share it."""
    same: dict[tuple[bool, str, str, int], list[RoleId]] = {}
    abouts = {name: role.describe() for name, role in roles.items()}
    step, total = next((about["step"] for about in abouts.values() if "step" in about), ""), 0
    for flow in plan.flows:
        up = flow.to == plan.hub
        party = flow.frm if up else flow.to
        once = up and flow.kind == "Model"
        size = 0 if once or not roles else abouts[party].get("bytes", {}).get(flow.kind, 0)
        total += size
        same.setdefault((up, flow.kind, _stages(plan, flow), size), []).append(party)
    everyone = len(plan.seats) - 1
    rows: Section = []
    for (up, kind, stages, size), parties in same.items():
        who = f"each of {everyone}" if len(parties) == everyone > 2 else ", ".join(parties)
        each = " each" if len(parties) > 1 else ""
        ends = (who, plan.hub) if up else (plan.hub, who)
        rows.append((*ends, kind, stages, f"{size:,}{each}" if size else "outside of steps" if roles else "?"))
    return [*rows, ("", "", f"all of a {step}" if step else "all", "", f"{total:,}")] if roles else rows


def _stages(plan: Plan, flow: Flow) -> str:
    """The defences on the way of a message, in order, each with the end of the link at which it works."""
    ends = [
        (f"at the {end}", defence)
        for link in plan.links
        if link.joins(flow.frm, flow.to) and link.message in ("*", flow.kind)
        for end in ("sender", "receiver")
        for defence in getattr(link, end)
    ]
    return ", ".join(f"{defence.caption()} {where}" for where, defence in ends)


def _trials(plan: Plan) -> Section:
    """A row for each attack, whatever the number of its victims."""
    same: dict[int, list[Aim]] = {}
    for aim in plan.aims:
        same.setdefault(aim.number, []).append(aim)
    return [
        (
            aims[0].attack.caption(),
            aims[0].seat,
            ", ".join(aim.victim for aim in aims),
            ", ".join(aims[0].knows) or "nothing",
            aims[0].metric,
        )
        for aims in same.values()
    ]
