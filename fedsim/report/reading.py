"""Reading a run folder back. It is not trusted: what is missing or malformed is an OutputError naming the file.

A folder is looked at first (`fedsim.report.inspection`); then each file is read as a plain file of a bounded size, and what it
holds is checked (`fedsim.report.schema`) before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from fedsim.errors import ConfigError, ContentError, OutputError, suggest
from fedsim.files import read_file
from fedsim.message import RoleId
from fedsim.outcome import MODEL, SCHEMA
from fedsim.report import manifest, schema, summary
from fedsim.report.inspection import inspect_folder
from fedsim.report.replacing import await_replacement
from fedsim.report.seeds import rederive
from fedsim.report.writing import FOLDER
from fedsim.safejson import check_depth
from fedsim.safejson import parse as parse_json
from fedsim.safeyaml import MAX_BYTES as MOST_SCENARIO_BYTES
from fedsim.safeyaml import parse
from fedsim.state import digest
from fedsim.tensors import MOST_BYTES as MOST_TENSOR_BYTES
from fedsim.tensors import decode

MOST_JSON_BYTES, MOST_ROW_BYTES = 64 << 20, 1 << 30
"""Of a file of JSON, and of ``metrics.jsonl``."""
TOGETHER = 1_000
"""Rows that are checked at a time."""


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
        lines = _text(self.path, "scenario.yaml", MOST_SCENARIO_BYTES).splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(FOLDER))

    @cached_property
    def scenario(self) -> Mapping[str, Any]:
        """The resolved scenario as plain values: no plugin is needed to look at a run."""
        path = self.path / "scenario.yaml"
        try:
            found = parse(self.scenario_text, str(path))[0]
            check_depth(found)
        except ConfigError as error:
            raise OutputError(str(error)) from error
        except ValueError as error:
            raise ContentError(f"{path}: {error}") from error
        return found

    @cached_property
    def parts(self) -> Mapping[str, Any]:
        """By arm, plan and reports as `fedsim.report.record` writes them; perhaps of some seats only."""
        arms = _records(self.path)
        if list(arms) != list(self.summary["arms"]):
            raise OutputError(f"{self.path / 'seats.json'}: its arms are not those of summary.json")
        for arm in arms.values():
            if missing := {judged["victim"] for judged in arm.get("judged", ())} - arm["seats"].keys():
                names = ascii(sorted(missing))[:200]
                raise ContentError(f"{self.path / 'seats.json'}: attacks on seats that are not there: {names}")
        return arms

    @cached_property
    def records(self) -> Mapping[str, Any]:
        """By arm, plan and reports as `fedsim.report.record` writes them, of all seats."""
        path, arms = self.path / "seats.json", self.parts
        for name, arm in arms.items():
            seats, flows, tried = arm["seats"], arm["flows"], self.summary["arms"][name]["trials"]
            if missing := {flow[end] for flow in flows for end in ("from", "to")} - seats.keys():
                part, others = ", ".join(seats), ", ".join(sorted(missing))
                raise OutputError(f"{self.path}: holds the part of {part} only; this takes those of {others} as well")
            if (
                missing := {each[who] for each in (*tried, *arm["findings"]) for who in ("seat", "victim")}
                - seats.keys()
            ):
                raise ContentError(f"{path}: attacks name seats that are not there: {ascii(sorted(missing))[:200]}")
            if arm["hub"] not in seats:
                raise ContentError(f"{path}: its hub is no seat: {ascii(arm['hub'])[:200]}")
        return arms

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """What roles logged: ``{"arm", "role", ...}``."""
        path, found = self.path / "metrics.jsonl", list[dict[str, Any]]()
        lines = _text(self.path, path.name, MOST_ROW_BYTES).splitlines()
        for start in range(0, len(lines), TOGETHER):
            try:
                rows = [parse_json(line) for line in lines[start : start + TOGETHER]]
                schema.LoggedRows.validate_python(rows)
            except ValidationError as error:
                raise ContentError(
                    f"{path}: a row from line {start + 1} on: {schema.explain_mismatch(error)}"
                ) from error
            except ValueError as error:
                raise ContentError(f"{path}: not rows of JSON: {error}") from error
            found += rows
        return found

    def tensors(self, name: str, most: int = MOST_TENSOR_BYTES) -> dict[str, Tensor]:
        """The tensors in a file of this run, by name; the file has ``most`` bytes."""
        if "\0" in name or ".." in PurePath(name).parts or PurePath(name).is_absolute():
            raise ContentError(f"{self.path}: names a file outside of itself: {ascii(name)[:200]}")
        try:
            return decode(read_file(self.path, name, most))
        except ValueError as error:
            raise ContentError(f"{self.path / name}: not readable as safetensors: {error}") from error
        except OSError as error:
            why = error.strerror or str(error)
            raise OutputError(f"{self.path / name}: not readable as safetensors: {why}") from error


def read(path: Path) -> Run:
    """A finished run.

    Raises:
        OutputError: not a run folder, a run that did not come to its end, or one of another version.
    """
    there = read_manifest(path, schema.ToldManifest)
    if not (path / "summary.json").is_file():
        cause = f" ({there['cause']})" if there.get("cause") else ""
        raise OutputError(f"{path}: has no results; the run is {there['status']}{cause}")
    numbers = _json(path, "summary.json")
    if "cells" in numbers:
        raise OutputError(f"{path}: a sweep; choose one of its runs, such as {path / 'trials'}/...")
    if numbers.get("schema") != summary.SCHEMA or not isinstance(numbers.get("arms"), dict) or not numbers["arms"]:
        found = f"schema {numbers.get('schema')!r}"
        raise OutputError(f"{path / 'summary.json'}: {found}; expected schema {summary.SCHEMA} with at least one arm")
    if "seeds" not in numbers:
        return Run(path, there, _checked(schema.ToldSummary, numbers, path / "summary.json"))
    return Run(path, there, _rederived(schema.SeedsSummary, numbers, path / "summary.json"))


def is_sweep(path: Path) -> bool:
    """Whether a folder holds the report of a sweep."""
    inspect_folder(path)
    await_replacement(path)
    return (path / "summary.json").is_file() and "cells" in _json(path, "summary.json")


def read_sweep(path: Path) -> Run:
    """A sweep that came to its end, with or without runs that failed.

    Raises:
        OutputError: not the folder of a sweep, one that did not come to its end, or one of another version.
    """
    there = read_manifest(path, schema.ToldManifest)
    if not is_sweep(path):
        raise OutputError(f"{path}: holds no results of a sweep; the run is {there['status']}")
    numbers = _json(path, "summary.json")
    if numbers.get("schema") != summary.SCHEMA or not isinstance(numbers["cells"], list):
        raise OutputError(
            f"{path / 'summary.json'}: schema {numbers.get('schema')!r}; expected schema {summary.SCHEMA}"
        )
    return Run(path, there, _rederived(schema.SweepSummary, numbers, path / "summary.json"))


def read_manifest(path: Path, form: type[schema.Manifest] = schema.Manifest) -> dict[str, Any]:
    """The manifest of a run, whatever its status.

    Args:
        path: the run folder.
        form: what it must have.

    Raises:
        OutputError: not a run folder.
    """
    inspect_folder(path)
    await_replacement(path)
    if not (path / "manifest.json").is_file():
        what = "a folder without manifest.json" if path.is_dir() else "a file" if path.exists() else "no such folder"
        raise OutputError(f"{path}: {what}; expected the folder of a run")
    there = _json(path, "manifest.json")
    if there.get("schema") != manifest.SCHEMA or not {"status", "digest", "name"} <= there.keys():
        raise OutputError(f"{path / 'manifest.json'}: not the manifest of a run (schema {manifest.SCHEMA})")
    return _checked(form, there, path / "manifest.json")


def read_numbers(path: Path) -> dict[str, Any]:
    """``summary.json`` of a run whose other files are not needed.

    Raises:
        OutputError: there is none.
    """
    return _checked(schema.Summary, _json(path, "summary.json"), path / "summary.json")


def load_seats(
    path: Path, arm: str | None = None, parts: Mapping[RoleId, Path] = MappingProxyType({})
) -> dict[RoleId, tuple[dict[str, Tensor], dict[str, Any]]]:
    """What each seat needs to predict: its trained parameters and its sidecar, in roster order.

    Args:
        path: a run folder.
        arm: default: the first.
        parts: by seat, the run folder of its own that is read instead; a seat's operator may keep its model there.

    Raises:
        OutputError: not a run, no such arm or seat, the files are not whole, or a model is neither here nor in a part.
    """
    run = read(path)
    if run.over_seeds:
        raise OutputError(f"{path}: a summary over seeds; choose one of its runs: {', '.join(run.summary['runs'])}")
    name = next(iter(run.records)) if arm is None else arm
    if name not in run.records:
        raise OutputError(f"{path}: no arm '{name}'; there are: {', '.join(run.records)}")
    seats = run.records[name]["seats"]
    for role in parts:
        if role not in seats:
            raise OutputError(f"{path}: no seat '{role}'{suggest(role, seats)}")
    away = [role for role in seats if role not in parts and _is_away(seats[role])]
    if away:
        raise OutputError(_describe_away(path, away))
    return {
        role: _load_part(parts[role], role, run, name) if role in parts else _load(run, seat["model"])
        for role, seat in seats.items()
    }


def load_seat(path: Path, role: RoleId, arm: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What one seat saved: its trained parameters and its sidecar; the folder may hold the part of that seat only.

    ``arm`` is by default the first.

    Raises:
        OutputError: not a run, no such arm or seat, the files are not whole, or the seat's operator keeps them.
    """
    run = read(path)
    arms = _records(path)
    there = arms.get(arm or next(iter(arms), ""), {}).get("seats", {})
    if role not in there:
        raise OutputError(f"{path}: holds nothing of seat '{role}'{f' in arm {arm!r}' if arm else ''}")
    if _is_away(there[role]):
        raise OutputError(_describe_away(path, [role]))
    return _load(run, there[role]["model"])


def check_models_present(run: Run, arm: str) -> None:
    """Check that a run folder has what every seat of an arm has trained.

    Raises:
        OutputError: the operator of a seat keeps its model; names the seats.
    """
    if away := [role for role, seat in run.records[arm]["seats"].items() if _is_away(seat)]:
        raise OutputError(_describe_away(run.path, away))


def _load(run: Run, stem: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return run.tensors(f"{stem}.safetensors"), _json(run.path, f"{stem}.json")


def _load_part(path: Path, role: RoleId, whole: Run, arm: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A seat's model from the run folder of its own, which must be the one that the whole run reports."""
    tensors, sidecar = load_seat(path, role)
    expected, found = whole.summary["arms"][arm]["weights_sha256"].get(role), digest(tensors)
    if found != expected:
        raise OutputError(
            f"{path}: the model of {role} there is {found[:8]}, and {whole.path} reports {str(expected)[:8]}: another run"
        )
    return tensors, sidecar


def _is_away(seat: Mapping[str, Any]) -> bool:
    """Whether a seat's operator keeps what it takes to use its model."""
    return bool({MODEL, SCHEMA} & set(seat.get("withheld") or ()))


def _describe_away(path: Path, roles: Sequence[RoleId]) -> str:
    who, them = ", ".join(roles), "its" if len(roles) == 1 else "their"
    return (
        f"{path}: {who} {'keeps' if len(roles) == 1 else 'keep'} {them} trained model in {them} own run folder; "
        f"predict with --part {roles[0]}=RUN for each, or agree to it there: share_model, share_schema"
    )


def _records(path: Path) -> dict[str, Any]:
    """By arm, what ``seats.json`` has."""
    found: dict[str, Any] = _checked(schema.Seats, _json(path, "seats.json"), path / "seats.json")["arms"]
    return found


def _text(root: Path, name: str, most: int) -> str:
    if "\0" in name:
        raise ContentError(f"{root}: names a file that cannot be: {ascii(name)[:200]}")
    try:
        return read_file(root, name, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ContentError(f"{root / name}: not readable: {error.reason} (byte {error.start})") from error
    except OSError as error:
        raise OutputError(f"{root / name}: not readable: {error.strerror or error}") from error


def _json(root: Path, name: str) -> dict[str, Any]:
    text = _text(root, name, MOST_JSON_BYTES)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ContentError(f"{root / name}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise OutputError(f"{root / name}: expected an object, found {type(value).__name__}")
    return value


def _rederived(form: type[schema.Checked], value: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same with intervals that are computed anew, where they have to be."""
    _checked(form, value, path)
    try:
        found = rederive(value)
    except (ValueError, ArithmeticError) as error:
        raise ContentError(f"{path}: values over seeds of which no interval can be computed: {error}") from error
    return _checked(form, found, path)


def _checked(form: type[schema.Checked], value: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same values, if they are what they have to be."""
    try:
        form.model_validate(value)
    except ValidationError as error:
        raise ContentError(f"{path}: {schema.explain_mismatch(error)}") from error
    return value
