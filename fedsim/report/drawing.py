"""Where everything stands in the drawing of a run: seats, links, stages on their ends, taps. Lengths in pixels.

Parties stand on the left, the hub on the right; messages to the hub run above, messages from the hub below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from fedsim.report.view import View
from fedsim.report.words import listed, number, settings

WIDTH, LEFT, RIGHT, TOP = 1060, 290, 790, 8
"""Of the drawing; where links begin and end; above the first seat."""
LINE, ROOM, GAP = 17, 122, 16
"""Height of a line of text, least height of a seat, space between seats."""
MARGIN = 14
"""Between the border of a box and its text."""
LETTER = 6.3
"""Mean width of a letter of the small type."""


@dataclass(frozen=True)
class Box:
    """A seat: its corner, its size, lines of text, whether it is the hub."""

    x: int
    y: int
    width: int
    height: int
    name: str
    lines: Sequence[str]
    hub: bool


@dataclass(frozen=True)
class Arrow:
    """One direction of a link, and the kinds of message that take it."""

    x1: int
    x2: int
    y: int
    kinds: str
    label_y: int


@dataclass(frozen=True)
class Mark:
    """A stage or a tap, with its centre; ``partly``: not in every arm."""

    x: float
    y: int
    width: float
    text: str
    tap: bool
    partly: bool


@dataclass(frozen=True)
class Drawing:
    """A whole drawing, for the arms that share its seats and flows, and what its marks mean."""

    arms: Sequence[str]
    height: int
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    marks: Sequence[Mark]
    legend: Sequence[str]


Placed = dict[tuple[Any, ...], list[str]]
"""By what lies where, the arms in which it does."""


def drawings(views: Sequence[View]) -> list[Drawing]:
    """One drawing for all arms with the same seats and flows."""
    shapes: dict[str, list[View]] = {}
    for view in views:
        boxes = {role: _describe(role, view.record) for role in view.record["seats"]}
        shapes.setdefault(repr((view.record["hub"], boxes, _flows(view.record))), []).append(view)
    return [_draw(same) for same in shapes.values()]


def _draw(views: Sequence[View]) -> Drawing:
    record = views[0].record
    hub, others = record["hub"], [role for role in record["seats"] if role != record["hub"]]
    texts = {role: _describe(role, record) for role in record["seats"]}
    stages, taps = _stages(views), _taps(views)
    boxes, arrows, marks, y = [], list[Arrow](), list[Mark](), TOP
    kinds, staged, tapped = _kinds(record), _by_end(stages), _by_seat(taps, hub)
    for role in others:
        height = max(ROOM, LINE * (len(texts[role]) + 2))
        boxes.append(Box(8, y, _width(role, record), height, role, texts[role], False))
        up, down = y + height // 2 - 26, y + height // 2 + 26
        arrows += _arrows(kinds, role, hub, up, down)
        marks += _row(staged, tapped.get(role, ({}, {})), role, hub, up, down, len(views))
        y += height + GAP
    height = max(y - GAP - TOP, LINE * (len(texts[hub]) + 3), ROOM)
    boxes.append(Box(RIGHT, TOP, _width(hub, record), height, hub, texts[hub], True))
    legend = [*_legend(stages, taps, len(views)), *_relayed(record)]
    return Drawing([view.name for view in views], TOP + height + 8, boxes, arrows, marks, legend)


def _flows(record: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """The flows that something took: a plan allows for more than is sent."""
    taken = {(t["from"], t["to"], t["message"]) for t in record["traffic"]}
    return [f for f in record["flows"] if (f["from"], f["to"], f["message"]) in taken]


def _kinds(record: Mapping[str, Any]) -> Mapping[tuple[str, str], list[str]]:
    """By sender and addressee, the kinds of message that were sent, each once."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for flow in _flows(record):
        found.setdefault((flow["from"], flow["to"]), {})[flow["message"]] = None
    return {way: list(kinds) for way, kinds in found.items()}


def _by_end(stages: Placed) -> Mapping[tuple[str, ...], Placed]:
    """The stages of each end of each link: sender, addressee and which end."""
    found: dict[tuple[str, ...], Placed] = {}
    for key, who in stages.items():
        found.setdefault(key[:3], {})[key] = who
    return found


def _by_seat(taps: Placed, hub: str) -> Mapping[str, tuple[Placed, Placed]]:
    """By seat, the taps of its own, and those that the hub has on its link to it."""
    found: dict[str, tuple[Placed, Placed]] = {}
    for key, who in taps.items():
        found.setdefault(key[0], ({}, {}))[0][key] = who
        if key[0] == hub:
            found.setdefault(key[1], ({}, {}))[1][key] = who
    return found


def _describe(role: str, record: Mapping[str, Any]) -> list[str]:
    """What sits at a seat, in lines short enough for its box."""
    seat = record["seats"][role]
    described = seat["describe"]
    lines = []
    if classes := described.get("classes"):
        lines.append(f"holds the labels: {len(classes)} classes")
        if "parameters" in described:
            lines.append(f"top model, {number(described['parameters'])} parameters")
    own = described.get("own") or (described if described.get("input") else None)
    if own:
        lines += _features(own, seat["columns"])
    if not lines:
        lines = [f"{key}: {value}" for key, value in described.items() if isinstance(value, str | int | float)]
    if rows := described.get("rows"):
        lines.append(", ".join(f"{number(count)} {name} rows" for name, count in rows.items()))
    if "left_out" in described:
        lines.append(f"{number(described['left_out'])} rows left out: not at every seat")
    lines += [f"wrapped in {settings(wrapper)}" for wrapper in seat["wrappers"]]
    letters = int((_width(role, record) - 2 * MARGIN) / LETTER)
    return [part for line in lines for part in wrap(line, letters, max_lines=2, placeholder="…")]


def _width(role: str, record: Mapping[str, Any]) -> int:
    """Of a seat's box."""
    return WIDTH - RIGHT - 8 if role == record["hub"] else LEFT - 8


def _features(own: Mapping[str, Any], columns: Any) -> list[str]:
    spec = columns if isinstance(columns, str) else ", ".join(columns or own.get("columns") or ())
    shape = " × ".join(str(size) for size in own["input"])
    model = own.get("model") or {}
    return [
        f"holds {'pixels' if len(own['input']) == 3 else 'columns'} {spec}",
        f"{shape} inputs a row",
        f"{settings(model).partition(' (')[0]}, {number(own.get('parameters'))} parameters",
        f"sends embeddings of {own.get('embedding')} numbers",
    ]


def _arrows(sent: Mapping[tuple[str, str], list[str]], role: str, hub: str, up: int, down: int) -> list[Arrow]:
    ways = {(role, hub): (LEFT, RIGHT, up, up - 15), (hub, role): (RIGHT, LEFT, down, down + 23)}
    found = []
    for (frm, to), (x1, x2, y, label_y) in ways.items():
        if kinds := sent.get((frm, to)):
            found.append(Arrow(x1, x2, y, ", ".join(kinds), label_y))
    return found


def _stages(views: Sequence[View]) -> Placed:
    found: Placed = {}
    for view in views:
        for d in view.record["defences"]:
            plugin = {k: v for k, v in d.items() if k not in ("from", "to", "message", "end")}
            key = (d["from"], d["to"], d["end"], d["kind"], d["message"], settings(plugin))
            found.setdefault(key, []).append(view.name)
    return found


def _taps(views: Sequence[View]) -> Placed:
    found: Placed = {}
    for view in views:
        for f in view.record["findings"]:
            found.setdefault((f["seat"], f["victim"], f["attack"]["kind"], settings(f["attack"])), []).append(view.name)
    return found


def _row(
    stages: Mapping[tuple[str, ...], Placed],
    taps: tuple[Placed, Placed],
    role: str,
    hub: str,
    up: int,
    down: int,
    arms: int,
) -> list[Mark]:
    """The marks on the link between one seat and the hub; those at one end stand side by side."""
    marks: list[Mark] = []
    for frm, to, y in ((role, hub, up), (hub, role, down)):
        for end in ("sender", "receiver"):
            here = stages.get((frm, to, end), {})
            at_role = (end == "sender") == (frm == role)
            marks += _side_by_side([(key[3], len(who) < arms) for key, who in here.items()], at_role, y, tap=False)
    for at_role in (True, False):
        # the seat that attacks has the tap at its own end, over both directions
        here = taps[0 if at_role else 1]
        words = [(k[2] if k[1] in (role, hub) else f"{k[2]} at {k[1]}", len(who) < arms) for k, who in here.items()]
        marks += _side_by_side(words, at_role, (up + down) // 2, tap=True)
    return marks


def _side_by_side(words: Sequence[tuple[str, bool]], at_role: bool, y: int, tap: bool) -> list[Mark]:
    marks, edge = [], 16.0
    for text, partly in dict.fromkeys(words):
        short = text if len(text) <= 24 else text[:23] + "…"
        width = LETTER * len(short) + (42 if tap else 18)
        x = LEFT + edge + width / 2 if at_role else RIGHT - edge - width / 2
        marks.append(Mark(round(x, 1), y, math.ceil(width), short, tap, partly))
        edge += width + 8
    return marks


def _legend(stages: Placed, taps: Placed, arms: int) -> list[str]:
    """What each mark is, with its settings; links with the same mark in one line."""
    lines: dict[tuple[str, str], list[str]] = {}
    for (frm, to, end, _, message, text), who in stages.items():
        start = f"Stage {text}: changes {'every message' if message == '*' else message} at the {end}'s end of"
        lines.setdefault((start, _only(who, arms)), []).append(f"{frm} → {to}")
    for (seat, victim, _, text), who in taps.items():
        start = f"Eye {text}: {seat} looks at what it exchanges with"
        lines.setdefault((start, _only(who, arms)), []).append(victim)
    return [f"{start} {listed(links)}{only}." for (start, only), links in lines.items()]


def _only(who: Sequence[str], arms: int) -> str:
    names = [f"“{name}”" for name in dict.fromkeys(who)]
    return f" (only in {listed(names)})" if len(names) < arms else ""


def _relayed(record: Mapping[str, Any]) -> list[str]:
    """Flows that pass the hub unread."""
    flows = [f for f in _flows(record) if record["hub"] not in (f["from"], f["to"])]
    return [f"Relayed by the hub, unread: {f['message']} {f['from']} → {f['to']}." for f in flows]
