"""Truth beside claim, for the eye: images put together from their parts, tables as shaded numbers."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedsim.errors import ContentError
from fedsim.metrics import psnr
from fedsim.report.view import View, compare_attacks
from fedsim.report.words import listed

MOST_COLUMNS, MOST_SAMPLES = 12, 3
"""Of a table that is shown as numbers."""
MOST_BYTES, MOST_ROWS, MOST_PIXELS = 256 << 20, 1_000, 1 << 26
"""Of what a victim keeps to show: of the file, rows, and values of images that are put together."""


@dataclass(frozen=True)
class Strip:
    """One line of pictures: what it is, and for each sample a picture (a data URI) and a note."""

    label: str
    cells: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Heat:
    """One sample of a table: by line (truth, then each arm) a label and its cells, as text and shade in [0, 1]."""

    lines: Sequence[tuple[str, Sequence[tuple[str, float]]]]


@dataclass(frozen=True)
class Gallery:
    """What is shown of one trial, of all its victims together or of one."""

    title: str
    strips: Sequence[Strip] = ()
    columns: Sequence[str] = ()
    more: int = 0
    heats: Sequence[Heat] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    """What one victim shows in one arm: truth and claim, (n, ...)."""

    view: View
    victim: str
    truth: Tensor
    claim: Tensor


def galleries(views: Sequence[View]) -> list[Gallery]:
    """Everything that victims keep to show, by attack; once for an attack that is judged by several metrics."""
    found: dict[tuple[Any, ...], list[Gallery]] = {}
    for attack in compare_attacks(views):
        tries = [(view, trial) for view, group in attack.fared(views) for trial in group.trials]
        same = tuple((view.name, trial["trial"], trial["victim"]) for view, trial in tries)
        if same not in found:
            found[same] = _of_attack(attack.matched.name, [(view, _finding(view, trial)) for view, trial in tries])
    return [gallery for each in found.values() for gallery in each]


def own_galleries(views: Sequence[View]) -> list[Gallery]:
    """What one seat keeps to show of the attacks on it, by attack, in its own run folder."""
    found: dict[str, list[tuple[View, Mapping[str, Any]]]] = {}
    for view in views:
        for judged in view.record.get("judged", ()):
            found.setdefault(f"{judged['label']} at {judged['seat']}", []).append((view, judged))
    return [gallery for attack, each in found.items() for gallery in _of_attack(attack, each)]


def _finding(view: View, trial: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``seats.json`` has of an entry of ``trials``."""
    names = ("trial", "seat", "victim")
    return next((f for f in view.record["findings"] if all(f[name] == trial[name] for name in names)), {})


def _of_attack(attack: str, findings: Sequence[tuple[View, Mapping[str, Any]]]) -> list[Gallery]:
    found = [shown for view, finding in findings if (shown := _shown(view, finding)) is not None]
    if not found:
        return []
    victims = list(dict.fromkeys(shown.victim for shown in found))
    by_victim = {victim: [shown for shown in found if shown.victim == victim] for victim in victims}
    if all(shown.truth.ndim == 4 for shown in found):
        if len(victims) > 1 and (whole := _assemble(found)):
            return [_images(f"{attack}: whole images from the parts of {listed(victims)}", whole)]
        return [_images(f"{attack}: {victim}", same) for victim, same in by_victim.items()]
    return [gallery for victim, same in by_victim.items() for gallery in _tables(f"{attack}: {victim}", same)]


def _shown(view: View, finding: Mapping[str, Any]) -> Shown | None:
    tensors = view.run.tensors(finding["shown"], MOST_BYTES) if finding.get("shown") else {}
    if not {"truth", "claim"} <= tensors.keys() or tensors["truth"].shape != tensors["claim"].shape:
        return None
    shape = tensors["truth"].shape
    if not 2 <= len(shape) <= 4 or 0 in shape or shape[0] > MOST_ROWS or tensors["truth"].is_complex():
        raise ContentError(
            f"{view.run.path / finding['shown']}: rows of shape {tuple(shape)}; a victim shows at most {MOST_ROWS} rows, as "
            "vectors or images"
        )
    return Shown(view, finding["victim"], tensors["truth"].float(), tensors["claim"].float())


def offset(columns: Any) -> tuple[int, int, int] | None:
    """Where a block begins, (channel, row, column), from its specification ``0:14, 14:28``; None if it is not one."""
    if not isinstance(columns, str):
        return None
    starts = [re.fullmatch(r"\s*(\d{0,6})\s*:\s*\d{0,6}\s*", bound) for bound in columns.split(",")]
    if len(starts) not in (2, 3) or not all(starts):
        return None
    row, col, *channel = (int(start[1] or 0) for start in starts if start)
    return (channel or [0])[0], row, col


def _assemble(found: Sequence[Shown]) -> list[Shown]:
    """Whole images, one `Shown` an arm; empty if the parts do not say where they belong. Pixels of nobody are NaN."""
    whole = []
    for view in dict.fromkeys(id(shown.view) for shown in found):
        parts = [shown for shown in found if id(shown.view) == view]
        at = [offset(part.view.record["seats"][part.victim]["columns"]) for part in parts]
        places = [place for place in at if place is not None]
        if len(places) < len(parts) or len({len(part.truth) for part in parts}) > 1:
            return []
        truth, claim = (_paste([getattr(part, name) for part in parts], places) for name in ("truth", "claim"))
        whole.append(Shown(parts[0].view, "", truth, claim))
    return whole


def _paste(parts: Sequence[Tensor], places: Sequence[tuple[int, int, int]]) -> Tensor:
    """Parts (n, c, h, w) onto one canvas (n, C, H, W)."""
    ends = [(c + t.shape[1], h + t.shape[2], w + t.shape[3]) for t, (c, h, w) in zip(parts, places, strict=True)]
    whole = (len(parts[0]), *(max(sizes) for sizes in zip(*ends, strict=True)))
    if math.prod(whole) > MOST_PIXELS:
        raise ContentError(
            f"columns put the parts of {whole[0]} images so far apart that each has {' x '.join(map(str, whole[1:]))} values; "
            f"{MOST_PIXELS:,} of all are drawn at most"
        )
    canvas = torch.full(whole, torch.nan)
    for t, (c, h, w), (c2, h2, w2) in zip(parts, places, ends, strict=True):
        canvas[:, c:c2, h:h2, w:w2] = t
    return canvas


def _images(title: str, found: Sequence[Shown]) -> Gallery:
    strips: list[Strip] = []
    truth: Tensor | None = None
    for shown in found:
        if truth is None or not torch.equal(shown.truth.nan_to_num(-1), truth.nan_to_num(-1)):
            name = "truth" if truth is None else f"truth, {shown.view.name}"
            truth = shown.truth
            strips.append(Strip(name, [(_png(image), "") for image in truth]))
        levels = psnr(truth.nan_to_num(0), shown.claim.nan_to_num(0)).tolist()
        cells = [(_png(image), f"{level:.0f} dB") for image, level in zip(shown.claim, levels, strict=True)]
        strips.append(Strip(_label(found, shown), cells))
    return Gallery(title, strips)


def _label(found: Sequence[Shown], shown: Shown) -> str:
    return shown.view.name if len(found) > 1 else "rebuilt"


def _png(image: Tensor) -> str:
    """An image (C, h, w) in [0, 1] as a data URI: three channels in colour, otherwise the first in grey."""
    from matplotlib.image import imsave

    pixels = image if len(image) == 3 else image[:1].expand(3, -1, -1)
    filled = torch.where(pixels.isnan(), torch.full_like(pixels, 0.85), pixels.clamp(0, 1))
    buffer = io.BytesIO()
    imsave(buffer, filled.permute(1, 2, 0).contiguous().numpy(), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _tables(title: str, found: Sequence[Shown]) -> list[Gallery]:
    """A table for the arms that show the same rows of the same columns, and one for each arm that shows others."""
    alike: dict[str, list[Shown]] = {}
    for shown in found:
        alike.setdefault(repr((_columns(shown), shown.truth.tolist())), []).append(shown)
    several = len(alike) > 1
    return [
        _table(f"{title}, {listed([s.view.name for s in same])}" if several else title, same, len(found) > 1)
        for same in alike.values()
    ]


def _columns(shown: Shown) -> list[str]:
    names = shown.view.record["seats"][shown.victim]["describe"].get("columns")
    return [str(name) for name in names or range(shown.truth.flatten(1).shape[1])]


def _table(title: str, same: Sequence[Shown], arms: bool) -> Gallery:
    """``arms``: whether lines have the names of arms."""
    truth, names = same[0].truth.flatten(1), _columns(same[0])
    heats = [
        Heat(
            [
                ("truth", _cells(truth[i])),
                *((s.view.name if arms else "rebuilt", _cells(s.claim.flatten(1)[i])) for s in same),
            ]
        )
        for i in range(min(MOST_SAMPLES, len(truth)))
    ]
    return Gallery(title, columns=names[:MOST_COLUMNS], more=max(0, truth.shape[1] - MOST_COLUMNS), heats=heats)


def _cells(row: Tensor) -> list[tuple[str, float]]:
    """Text and shade of a row's first cells; standardised values from -2.5 to 2.5 span the shades."""
    return [(f"{v:.1f}".replace("-0.0", "0.0"), min(1.0, max(0.0, (v + 2.5) / 5))) for v in row[:MOST_COLUMNS].tolist()]
