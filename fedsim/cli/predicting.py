"""``fedsim predict``: a class and the probability of each class for every new row."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim import config
from fedsim.errors import ConfigError
from fedsim.message import RoleId
from fedsim.outcome import SeatReport
from fedsim.plan import NewRows, complete
from fedsim.printable import print_data, print_text
from fedsim.report.reading import load_seats, read
from fedsim.report.writing import reporting_failures, write_named
from fedsim.runtime.local import memory, play_all

FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]")
"""How a cell begins that spreadsheets compute; some take the wide forms of these signs, too, and skip spaces."""
NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*%?")


def write_predictions(
    folder: Path,
    path: str,
    files: Sequence[str],
    overrides: Sequence[str],
    out: Path | None,
    parts: Sequence[str] = (),
    spreadsheet: bool = False,
) -> None:
    """Predict new rows with the first arm of a run; a CSV to ``out`` or to the terminal, and the score if labels are there.

    Args:
        folder: the run.
        path: a file with the columns of all parties, or "".
        files: ``SEAT=FILE`` for each seat that has a file of its own.
        overrides: of the settings of the data, such as ``scenario.data.separator=;``.
        out: where to write.
        parts: ``SEAT=RUN`` for each seat whose model lies in a run folder of its own.
        spreadsheet: write labels and ids so that no spreadsheet takes one for a formula; some differ from the table then.

    Raises:
        InputError: not a run, a scenario that predicts nothing, or files that do not fit it.
    """
    read(folder)
    for each in overrides:
        if not each.startswith("scenario.data."):
            raise ConfigError(f"--set {each}: of a trained run only the settings under scenario.data can change")
    arm = next(iter(config.read(str(folder / "scenario.yaml"), overrides).arms().values()))
    plan = arm.scenario.predictor(NewRows(path, _by_seat(path, files)), load_seats(folder, parts=_by_part(parts)))
    plan = complete(plan, [link for link in arm.links if plan.carries(link)], {}, ())  # defences hold for queries too
    reports = {report.role: report for report in asyncio.run(play_all(arm, memory(plan), _tell, plan))}
    hub = reports[plan.hub]
    lines = _make_lines(hub)
    if spreadsheet:
        lines = [[disarm_formula(cell) for cell in line] for line in lines]
    elif found := next((cell for line in lines for cell in line if is_formula(cell)), None):
        print_text(
            f"a spreadsheet would run '{found:.60}' as a formula; for one write the file with --spreadsheet", err=True
        )
    _write(lines, out, folder)
    if "scores" in hub.sidecar:
        print_text(_describe_scores(hub.sidecar), err=out is None)


def _make_lines(hub: SeatReport) -> list[list[object]]:
    """The lines of the file, from what the hub has computed."""
    classes: list[str] = hub.sidecar["classes"]
    ids: Sequence[str] | None = hub.sidecar.get("ids")
    lines: list[list[object]] = [
        ["row", *([] if ids is None else ["id"]), "prediction", *(f"p({name})" for name in classes)]
    ]
    for i, row in enumerate(hub.tensors["probabilities"]):
        shares = (f"{p:.6f}" for p in row.tolist())
        lines.append([i, *([] if ids is None else [ids[i]]), classes[int(row.argmax())], *shares])
    return lines


def is_formula(cell: object) -> bool:
    """Whether a spreadsheet that opens a CSV file would compute a cell instead of showing it; a number is shown as it is."""
    return isinstance(cell, str) and FORMULA.match(cell) is not None and NUMBER.fullmatch(cell) is None


def disarm_formula(cell: object) -> object:
    """Return a cell with an apostrophe in front if it would be computed: spreadsheets take what follows for text."""
    return f"'{cell}" if is_formula(cell) else cell


def _by_seat(path: str, files: Sequence[str]) -> dict[RoleId, str]:
    """By seat, its file.

    Raises:
        ConfigError: an entry is not SEAT=FILE, a seat stands twice, or there is nothing at all.
    """
    found = _split_by_seat("--data", "file", files, "FILE", "new.csv")
    if not path and not found:
        raise ConfigError(
            "no new rows: expected a file with the columns of all parties, or --data SEAT=FILE for each party"
        )
    return found


def _by_part(parts: Sequence[str]) -> dict[RoleId, Path]:
    """By seat, the run folder of its own; raises as `_split_by_seat`."""
    return {
        seat: Path(folder) for seat, folder in _split_by_seat("--part", "folder", parts, "RUN", "runs/north").items()
    }


def _split_by_seat(option: str, what: str, entries: Sequence[str], value: str, example: str) -> dict[RoleId, str]:
    """Split entries of the form SEAT=VALUE.

    Raises:
        ConfigError: an entry has another form, or a seat stands twice.
    """
    found: dict[RoleId, str] = {}
    for each in entries:
        seat, sign, given = each.partition("=")
        if not (seat and sign and given):
            raise ConfigError(f"{option} {each}: expected SEAT={value}, such as {option} north={example}")
        if seat in found:
            raise ConfigError(f"{option} {each}: seat '{seat}' has a {what} already, {found[seat]}")
        found[seat] = given
    return found


def _tell(role: RoleId, row: Mapping[str, Any]) -> None:
    """Say what is for people; predictions may go to standard output."""
    if "notice" in row:
        print_text(row["notice"], err=True)


def _describe_scores(sidecar: Mapping[str, Any]) -> str:
    """The metrics over all rows that have labels, as training scores held-out rows."""
    from fedsim.report.words import number

    count = sidecar["labelled"]
    scores = ", ".join(f"{name.replace('_', ' ')} {number(value, name)}" for name, value in sidecar["scores"].items())
    return (
        f"score over {count:,} rows with labels: {scores}" if count != 1 else f"score over 1 row with a label: {scores}"
    )


def _write(lines: Iterable[list[object]], out: Path | None, run: Path) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(lines)
    if out is None:
        print_data(table.getvalue())
        return
    with reporting_failures(out):
        if out.exists() and not out.is_file():  # such as /dev/stdout
            out.write_text(table.getvalue(), encoding="utf-8")
        else:
            write_named(out, table.getvalue().encode(), [run])
