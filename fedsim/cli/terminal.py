"""The one way to a terminal: what strangers wrote is spelled out where a terminal would obey it instead of showing it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from fedsim.printable import LAYOUT, make_printable


class Terminal(Console):
    """A console of rich on which no text is an escape sequence, and none a picture by its name, such as ``:key:``."""

    def __init__(self, *, stderr: bool = False, highlight: bool = True) -> None:
        super().__init__(stderr=stderr, highlight=highlight, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Turn a text into what rich lays out; here its harmful characters still have the width that they will have."""
        return super().render_str(make_printable(text, LAYOUT), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the parts of what is printed; whatever came here as something else than a text is made printable, too."""
        for segment in super().render(renderable, options):
            clean = segment.control or not segment.text or make_printable(segment.text, LAYOUT) == segment.text
            yield segment if clean else Segment(make_printable(segment.text, LAYOUT), segment.style)
