"""Reading a run folder back. It is not trusted: what is missing or malformed is an OutputError naming the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from fedsim.errors import ConfigError, OutputError
from fedsim.message import RoleId
from fedsim.report import manifest, summary
from fedsim.report.replacing import await_replacement
from fedsim.report.seeds import rederive
from fedsim.report.writing import FOLDER
from fedsim.safeyaml import parse


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: where it lies.
        manifest: see `fedsim.report.manifest`.
        summary: the public contract, over one run or several seeds.
    """

    path: Path
    manifest: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.manifest["name"])

    @property
    def over_seeds(self) -> bool:
        """Whether this is a summary over the runs of several seeds."""
        return "seeds" in self.summary

    @cached_property
    def scenario_text(self) -> str:
        """The resolved scenario file, without the line that says where on this machine its data lies."""
        lines = _text(self.path / "scenario.yaml").splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(FOLDER))

    @cached_property
    def scenario(self) -> Mapping[str, Any]:
        """The resolved scenario as plain values: no plugin is needed to look at a run."""
        try:
            return parse(self.scenario_text, str(self.path / "scenario.yaml"))[0]
        except ConfigError as error:
            raise OutputError(str(error)) from error

    @cached_property
    def records(self) -> Mapping[str, Any]:
        """By arm, plan and reports as `fedsim.report.record` writes them."""
        arms = _json(self.path / "seats.json").get("arms")
        if not isinstance(arms, dict) or list(arms) != list(self.summary["arms"]):
            raise OutputError(f"{self.path / 'seats.json'}: its arms are not those of summary.json")
        for arm in arms.values():
            if missing := {flow[end] for flow in arm["flows"] for end in ("from", "to")} - arm["seats"].keys():
                part, others = ", ".join(arm["seats"]), ", ".join(sorted(missing))
                raise OutputError(f"{self.path}: holds the part of {part} only; this takes those of {others} as well")
        return arms

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """What roles logged: ``{"arm", "role", ...}``."""
        path = self.path / "metrics.jsonl"
        try:
            return [dict(json.loads(line)) for line in _text(path).splitlines()]
        except (ValueError, TypeError) as error:
            raise OutputError(f"{path}: not rows of JSON: {error}") from error

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors in a file of this run, by name."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise OutputError(f"{self.path}: names a file outside of itself: {name}")
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{path}: not readable as safetensors: {error}") from error
        return tensors


def read(path: Path) -> Run:
    """A finished run.

    Raises:
        OutputError: not a run folder, a run that did not come to its end, or one of another version.
    """
    there = read_manifest(path)
    if not (path / "summary.json").is_file():
        cause = f" ({there['cause']})" if there.get("cause") else ""
        raise OutputError(f"{path}: has no results; the run is {there['status']}{cause}")
    numbers = _json(path / "summary.json")
    if "cells" in numbers:
        raise OutputError(f"{path}: a sweep; choose one of its runs, such as {path / 'trials'}/...")
    if numbers.get("schema") != summary.SCHEMA or not isinstance(numbers.get("arms"), dict) or not numbers["arms"]:
        found = f"schema {numbers.get('schema')!r}"
        raise OutputError(f"{path / 'summary.json'}: {found}; expected schema {summary.SCHEMA} with at least one arm")
    return Run(path, there, rederive(numbers) if "seeds" in numbers else numbers)


def is_sweep(path: Path) -> bool:
    """Whether a folder holds the report of a sweep."""
    await_replacement(path)
    return (path / "summary.json").is_file() and "cells" in _json(path / "summary.json")


def read_sweep(path: Path) -> Run:
    """A sweep that came to its end, with or without runs that failed.

    Raises:
        OutputError: not the folder of a sweep, one that did not come to its end, or one of another version.
    """
    there = read_manifest(path)
    if not is_sweep(path):
        raise OutputError(f"{path}: holds no results of a sweep; the run is {there['status']}")
    numbers = _json(path / "summary.json")
    if numbers.get("schema") != summary.SCHEMA or not isinstance(numbers["cells"], list):
        raise OutputError(
            f"{path / 'summary.json'}: schema {numbers.get('schema')!r}; expected schema {summary.SCHEMA}"
        )
    return Run(path, there, rederive(numbers))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run, whatever its status.

    Raises:
        OutputError: not a run folder.
    """
    await_replacement(path)
    if not (path / "manifest.json").is_file():
        what = "a folder without manifest.json" if path.is_dir() else "a file" if path.exists() else "no such folder"
        raise OutputError(f"{path}: {what}; expected the folder of a run")
    there = _json(path / "manifest.json")
    if there.get("schema") != manifest.SCHEMA or not {"status", "digest", "name"} <= there.keys():
        raise OutputError(f"{path / 'manifest.json'}: not the manifest of a run (schema {manifest.SCHEMA})")
    return there


def load_seats(path: Path, arm: str | None = None) -> dict[RoleId, tuple[dict[str, Tensor], dict[str, Any]]]:
    """What each seat needs to predict: its trained parameters and its sidecar, in roster order.

    Args:
        path: a run folder.
        arm: default: the first.

    Raises:
        OutputError: not a run, no such arm, or the files are not whole.
    """
    run = read(path)
    if run.over_seeds:
        raise OutputError(f"{path}: a summary over seeds; choose one of its runs: {', '.join(run.summary['runs'])}")
    name = next(iter(run.records)) if arm is None else arm
    if name not in run.records:
        raise OutputError(f"{path}: no arm '{name}'; there are: {', '.join(run.records)}")
    seats = run.records[name]["seats"]
    return {
        role: (run.tensors(f"{seat['model']}.safetensors"), _json(path / f"{seat['model']}.json"))
        for role, seat in seats.items()
    }


def load_seat(path: Path, role: RoleId, arm: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What one seat saved: its trained parameters and its sidecar; the folder may hold the part of that seat only.

    ``arm`` is by default the first.

    Raises:
        OutputError: not a run, no such arm or seat, or the files are not whole.
    """
    run = read(path)
    arms = _json(path / "seats.json").get("arms", {})
    there = arms.get(arm or next(iter(arms), ""), {}).get("seats", {})
    if role not in there:
        raise OutputError(f"{path}: holds nothing of seat '{role}'{f' in arm {arm!r}' if arm else ''}")
    stem = there[role]["model"]
    return run.tensors(f"{stem}.safetensors"), _json(path / f"{stem}.json")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: not readable: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise OutputError(f"{path}: expected an object, found {type(value).__name__}")
    return value
