"""``fedsim data``: the data sets that shipped scenarios use, and getting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import progress
from rich.console import Console

from fedsim import config
from fedsim.cli.terminal import Terminal
from fedsim.dataset import Source, all_datasets, find_dataset
from fedsim.download import Progress
from fedsim.fetch import default_folder, fetch, locate
from fedsim.plugins import Plugin, describe_origin, explain_unusable, find, names, own_names
from fedsim.report.words import size
from fedsim.safeyaml import parse


def print_datasets() -> None:
    """Every data set: what it is, where it is from, who needs it, and whether it is here."""
    console, users = Terminal(), scenarios_by_file()
    for name, dataset in all_datasets().items():
        here = locate(dataset)
        lines = {
            "file": f"{dataset.file} ({size(dataset.size)}): {f'here, {here}' if here else 'not here'}",
            "needed by": ", ".join(users.get(dataset.file, ())) or "no scenario that ships",
            "origin": dataset.origin,
            "licence": dataset.licence,
            "content": f"sha256 {dataset.content}" if dataset.content else "checked by its first part",
        }
        console.print(f"[bold]{name}[/bold]: {dataset.title}", highlight=False, soft_wrap=True)
        for what, text in lines.items():
            console.print(f"  {what:10} {text}", highlight=False, markup=False, soft_wrap=True)
    for name in sorted({*names("datasets")} - {*own_names("datasets")}):
        said = explain_unusable("datasets", name) or describe_origin("datasets", name)
        console.print(f"{name}: {said}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        "\n`fedsim data fetch NAME` gets one. Scenarios look in their own folder, the current one, and $FEDSIM_DATA.",
        soft_wrap=True,
    )


def fetch_datasets(asked: Sequence[str], to: Path | None, given: Path | None, accept_changes: bool) -> None:
    """Get some data sets, one after the other.

    Raises:
        ConfigError: no such data set.
        DataError, OutputError: as `fedsim.fetch.fetch`.
    """
    datasets, folder = [find_dataset(name) for name in asked], to or default_folder()
    console = Terminal(stderr=True, highlight=False)
    with _bars(console) as bars:
        for dataset in datasets:
            place, there = fetch(dataset, folder, given, lambda source: _bar(bars, source), accept_changes)
            Terminal().print(
                f"{dataset.kind()}: {place}{' (there already)' if there else ''}",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip


def scenarios_by_file() -> dict[str, list[str]]:
    """By data file, the shipped scenarios that name it, with the profile that does; settings that are left out included."""
    known, found = {dataset.file for dataset in all_datasets().values()}, dict[str, list[str]]()
    for name, path in config.shipped().items():
        whole = dict(parse(path.read_text("utf-8"), str(path))[0])
        profiles = whole.pop("profiles", None) or {}
        plain = known.intersection(_texts(whole))
        for file in sorted(plain):
            found.setdefault(file, []).append(name)
        for profile, changes in profiles.items():
            for file in sorted(known.intersection(_texts(changes)) - plain):
                found.setdefault(file, []).append(f"{name} --profile {profile}")
    return found


def _texts(node: Any) -> list[str]:
    """Every text in a part of a scenario file; of a kind of data also those that it has by default."""
    if isinstance(node, Mapping):
        own = [text for value in node.values() for text in _texts(value)]
        return own + (_defaults(node["data"]) if isinstance(node.get("data"), Mapping) else [])
    if isinstance(node, list | tuple):
        return [text for value in node for text in _texts(value)]
    return [node] if isinstance(node, str) else []


def _defaults(data: Mapping[str, Any]) -> list[str]:
    if data.get("kind") not in names("data"):
        return []
    fields = find("data", data["kind"], Plugin).model_fields
    return [field.default for name, field in fields.items() if name not in data and isinstance(field.default, str)]


def _bars(console: Console) -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=24),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _bar(bars: progress.Progress, source: Source) -> Progress:
    if not bars.console.is_terminal:
        bars.console.print(f"{source.name}: from {source.urls[0]}", markup=False, soft_wrap=True)
    task = bars.add_task(source.name, total=None)
    return lambda have, whole: bars.update(task, completed=have, total=whole)
