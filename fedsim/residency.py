"""What a seat owns stays with it: the one place that decides what of a seat's outcome leaves for another operator.

A seat owns its rows, ids and labels, the names and categories of its columns, and its trained parameters. They stay in the
seat's own run folder unless its operator agrees to share them, in settings of the seat's own and never in the scenario alone.
Metrics, the scores and the claims of attacks, and counts of traffic leave always.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fedsim import safeyaml
from fedsim.config import ScenarioFile
from fedsim.errors import ConfigError, FedsimError, ProtocolError, TransportError, WireError, suggest
from fedsim.message import Message, RoleId
from fedsim.outcome import MODEL, SAMPLES, SCHEMA, SeatReport
from fedsim.state import digest

MAX_SETTINGS_BYTES = 1 << 16
COUNTS = ("embedding", "parameters", "left_out")
"""Facts of a seat's description that are one number each."""
TABLES = ("rows", "bytes")
"""Facts that are numbers by a name: of a split of the rows, or of a kind of message."""
PLAIN = ("model", "step")
"""Facts that follow from the scenario file: the settings of the model, and the name of a step."""


class SeatSettingsError(ConfigError):
    """A seat cannot play a scenario with the settings that its operator gives it; the text quotes nothing of its own."""


TOLD = (SeatSettingsError, ProtocolError, TransportError, WireError)
"""Errors about what lies between seats: their texts hold nothing of a seat's own."""
ROW_SPLITS = ("train", "test", "held-out")


@dataclass(frozen=True)
class SharingConsent:
    """What the operator of a seat agrees to hand to the hub's operator when a run is over, and where all the rest goes.

    Attributes:
        samples: rows of truth beside each claim, at most; how many a victim has to show is up to the scenario.
        share_model: the trained parameters.
        share_schema: names of columns, categories and scale, and what is drawn with them.
        runs: the folder in which the seat's own run folders are made; empty: ``runs`` in the current folder.
    """

    samples: int = 0
    share_model: bool = False
    share_schema: bool = False
    runs: str = ""


CONSENT_KEYS = ("samples", "share_model", "share_schema", "runs")


def read_consent(settings: Mapping[str, Any]) -> SharingConsent:
    """Read the consent among the settings of a seat, and in the file that ``sharing`` names among them.

    Raises:
        ConfigError: the file cannot be read, or a value is none of those allowed.
    """
    path = str(settings.get("sharing", ""))
    found = read_sharing_file(Path(path)) if path else {}
    found |= {key: settings[key] for key in CONSENT_KEYS if key in settings}
    return SharingConsent(
        **{key: _check_value(key, value, path or "the seat's settings") for key, value in found.items()}
    )


def read_sharing_file(path: Path) -> dict[str, Any]:
    """Read a file with the keys of `SharingConsent`, in YAML; an empty file agrees to nothing.

    Raises:
        ConfigError: it cannot be read, or has another key.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SETTINGS_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"sharing: {path} cannot be read: {getattr(error, 'strerror', '') or error}") from error
    if len(text) > MAX_SETTINGS_BYTES:
        raise ConfigError(f"sharing: {path} is longer than {MAX_SETTINGS_BYTES} bytes")
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        return {}
    values = safeyaml.parse(text, str(path))[0]
    for key in values:
        if key not in CONSENT_KEYS:
            raise ConfigError(f"sharing: {path}: no setting '{key}'{suggest(str(key), CONSENT_KEYS)}")
    return values


def _check_value(key: str, value: Any, where: str) -> Any:
    if key == "samples":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"{where}: samples: expected a number of rows, 0 or more; found {value!r:.40}")
    elif key == "runs":
        if not isinstance(value, str):
            raise ConfigError(f"{where}: runs: expected a folder; found {value!r:.40}")
    elif not isinstance(value, bool):
        raise ConfigError(f"{where}: {key}: expected true or false; found {value!r:.40}")
    return value


def release_report(report: SeatReport, file: ScenarioFile, consent: SharingConsent) -> SeatReport:
    """Copy a seat's report without what its operator keeps.

    Args:
        report: everything, as the seat's own run folder has it.
        file: the scenario that was played, which every operator has.
        consent: the seat's own.

    Returns:
        A report whose ``withheld`` names what was left out. A text leaves only if the scenario file says it already.
    """
    known = _known_texts(file)
    withheld = {
        MODEL: not consent.share_model and bool(report.tensors),
        SCHEMA: not consent.share_schema and bool(report.sidecar),
        SAMPLES: any(len(rows) > consent.samples for rows in report.exhibits.values()),
    }
    shares_schema = consent.share_schema
    return replace(
        report,
        rows=[_release_row(row, known) for row in report.rows],
        tensors=report.tensors if consent.share_model else {},
        sidecar=report.sidecar if shares_schema else {},
        describe=report.describe if shares_schema else _release_facts(report.describe, known, consent),
        exhibits=_release_samples(report.exhibits, consent.samples),
        figures=report.figures if shares_schema else (),
        withheld=tuple(name for name, is_kept in withheld.items() if is_kept),
        weights_sha256=digest(report.tensors),
        judged=(),
    )


def release_row(row: Mapping[str, Any], file: ScenarioFile) -> dict[str, Any] | None:
    """What of a logged row leaves while a run goes on: the numbers of a step, and no words for people; None: nothing."""
    if "step" not in row:
        return None
    return _release_row(row, _known_texts(file))


def _known_texts(file: ScenarioFile) -> frozenset[str]:
    """The texts that tell another operator nothing new: every seat has the scenario file."""
    return frozenset(_texts(file.resolved())) | frozenset(file.plan().roster) | Message.kinds.keys()


def _release_samples(exhibits: Mapping[str, Tensor], most: int) -> dict[str, Tensor]:
    return {name: rows[:most].clone() for name, rows in exhibits.items()} if most else {}


def _release_row(row: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """A row of metrics, in which only texts of the scenario are left."""
    return {key: _release_value(value, known) for key, value in row.items()}


def _release_value(value: Any, known: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _release_value(each, known) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_release_value(each, known) for each in value]
    if isinstance(value, str):
        return value if value in known else None
    return value if value is None or isinstance(value, bool | int | float) else None


def _release_facts(facts: Mapping[str, Any], known: Collection[str], consent: SharingConsent) -> dict[str, Any]:
    """Of what a seat says of itself the sizes and counts that the page needs, by name; all else belongs to the schema."""
    found: dict[str, Any] = {name: facts[name] for name in COUNTS if _is_number(facts.get(name))}
    for name in TABLES:
        if isinstance(table := facts.get(name), Mapping):
            names = {*ROW_SPLITS, *Message.kinds}
            found[name] = {key: value for key, value in table.items() if key in names and _is_number(value)}
    if isinstance(shape := facts.get("input"), list) and all(map(_is_number, shape)):
        found["input"] = shape
    found |= {name: kept for name in PLAIN if (kept := _release_value(facts.get(name), known)) is not None}
    if around := facts.get("around"):
        found["around"] = [_release_deed(deed, known, consent) for deed in around]
    return found


def _release_deed(deed: Mapping[str, Any], known: Collection[str], consent: SharingConsent) -> dict[str, Any]:
    """What a wrapper counted. How far it moved a cell is as good as the cell, and the weights it changed are the model's."""
    counts = {name: value for name, value in deed.get("numbers", {}).items() if type(value) is int}
    kept: dict[str, Any] = {"numbers": counts}
    if deed.get("kind") in known:
        kept["kind"] = deed["kind"]
    if "knowledge" in deed:
        facts = deed["knowledge"].items()
        kept["knowledge"] = {key: [name for name in names if name in known] for key, names in facts}
    if "changes" in deed:
        kept["changes"] = deed["changes"] if consent.share_model else []
    return kept


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(node: Any) -> Iterator[str]:
    """Every text in plain values, names of keys as well."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(node, list | tuple):
        for each in node:
            yield from _texts(each)


def describe_failure(error: BaseException) -> str:
    """What other operators may be told of an error at a seat.

    What lies between seats is told as it is; of all else, such as a faulty cell of a table, only the kind of error.
    """
    if isinstance(error, TOLD):
        return str(error)
    return f"it failed with {type(error).__name__}" if isinstance(error, Exception) else "it was interrupted"


def release_error(role: RoleId, error: BaseException) -> tuple[str, str]:
    """The class and the text under which an error at a seat is told at the hub; the seat's own log has the rest."""
    if isinstance(error, TOLD):
        return name_error(error), str(error)
    kind = type(error) if isinstance(error, FedsimError) else FedsimError
    return kind.__name__, f"{role}: {describe_failure(error)}; its own log says why"


def name_error(error: BaseException) -> str:
    """Name the class under which another process raises an error again: those of `fedsim.errors` are known there."""
    return ConfigError.__name__ if isinstance(error, SeatSettingsError) else type(error).__name__


def log_failure(role: RoleId, error: BaseException) -> None:
    """Write an error in full to the seat's own log, the standard error output of its process."""
    if isinstance(error, FedsimError):
        print(f"fedsim: {role}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error, file=sys.stderr)
