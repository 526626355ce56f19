"""What a terminal shows while a run goes on: training, then each claim. On no terminal, a line an arm."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich import progress
from rich.console import Console

from fedsim.config import ScenarioFile
from fedsim.message import RoleId
from fedsim.net import Watch


class Progress:
    """A live display over all arms; a context."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def arm(self, title: str, file: ScenarioFile) -> Watch:
        """Begin an arm: the bars of the one before stay as they are."""
        if not self._console.is_terminal:
            self._console.print(f"{title}: {getattr(file.scenario, 'steps', '')} steps")
        bars = self._bars
        training = bars.add_task(f"{title}: training", total=getattr(file.scenario, "steps", None), note="")
        attacks = bars.add_task(f"{title}: attacks", total=max(len(file.plan().aims), 1), note="", visible=False)
        claims: dict[str, float] = {}
        notes: dict[str, str] = {}

        def watch(role: RoleId, row: Mapping[str, Any]) -> None:
            if "claim" in row:
                claims[row["claim"]] = row["done"]
                bars.update(attacks, completed=sum(claims.values()), note=row["claim"], visible=True)
            elif "loss" in row:
                notes["loss"] = f"loss {row['loss']:.3f}"
                bars.update(training, completed=row["step"] + 1, note=" ".join(notes.values()))
            elif "test" in row:
                notes["test"] = f"test accuracy {row['test'].get('accuracy', float('nan')):.3f}"

        return watch
