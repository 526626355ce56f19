"""``fedsim predict``: a class and the probability of each class for every new row."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim import config
from fedsim.errors import ConfigError
from fedsim.message import RoleId
from fedsim.plan import NewRows, complete
from fedsim.report.reading import load_seats, read
from fedsim.report.writing import reporting_failures, write_named
from fedsim.runtime.local import memory, play_all


def write_predictions(
    folder: Path, path: str, files: Sequence[str], overrides: Sequence[str], out: Path | None, parts: Sequence[str] = ()
) -> None:
    """Predict new rows with the first arm of a run; a CSV to ``out`` or to the terminal, and the score if labels are there.

    Args:
        folder: the run.
        path: a file with the columns of all parties, or "".
        files: ``SEAT=FILE`` for each seat that has a file of its own.
        overrides: of the settings of the data, such as ``scenario.data.separator=;``.
        out: where to write.
        parts: ``SEAT=RUN`` for each seat whose model lies in a run folder of its own.

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
    classes: list[str] = hub.sidecar["classes"]
    ids: Sequence[str] | None = hub.sidecar.get("ids")
    named = [] if ids is None else ["id"]
    rows = (
        [i, *([] if ids is None else [ids[i]]), classes[int(row.argmax())], *(f"{p:.6f}" for p in row.tolist())]
        for i, row in enumerate(hub.tensors["probabilities"])
    )
    _write([["row", *named, "prediction", *(f"p({name})" for name in classes)], *rows], out, folder)
    if "scores" in hub.sidecar:
        print(_describe_scores(hub.sidecar), file=sys.stderr if out is None else sys.stdout)


def _by_seat(path: str, files: Sequence[str]) -> dict[RoleId, str]:
    """By seat, its file.

    Raises:
        ConfigError: an entry is not SEAT=FILE, a seat stands twice, or there is nothing at all.
    """
    found: dict[RoleId, str] = {}
    for each in files:
        seat, sign, file = each.partition("=")
        if not (seat and sign and file):
            raise ConfigError(f"--data {each}: expected SEAT=FILE, such as --data north=new.csv")
        if seat in found:
            raise ConfigError(f"--data {each}: seat '{seat}' has a file already, {found[seat]}")
        found[seat] = file
    if not path and not found:
        raise ConfigError(
            "no new rows: expected a file with the columns of all parties, or --data SEAT=FILE for each party"
        )
    return found


def _by_part(parts: Sequence[str]) -> dict[RoleId, Path]:
    """By seat, the run folder of its own.

    Raises:
        ConfigError: an entry is not SEAT=RUN, or a seat stands twice.
    """
    found: dict[RoleId, Path] = {}
    for each in parts:
        seat, sign, folder = each.partition("=")
        if not (seat and sign and folder):
            raise ConfigError(f"--part {each}: expected SEAT=RUN, such as --part north=runs/north")
        if seat in found:
            raise ConfigError(f"--part {each}: seat '{seat}' has a folder already, {found[seat]}")
        found[seat] = Path(folder)
    return found


def _tell(role: RoleId, row: Mapping[str, Any]) -> None:
    """Say what is for people; predictions may go to standard output."""
    if "notice" in row:
        print(row["notice"], file=sys.stderr)


def _describe_scores(sidecar: Mapping[str, Any]) -> str:
    """The metrics over all rows that have labels, as training scores held-out rows."""
    from fedsim.report.words import number

    count = sidecar["labelled"]
    scores = ", ".join(f"{name.replace('_', ' ')} {number(value, name)}" for name, value in sidecar["scores"].items())
    return (
        f"score over {count:,} rows with labels: {scores}" if count != 1 else f"score over 1 row with a label: {scores}"
    )


def _write(lines: Iterable[list[object]], out: Path | None, run: Path) -> None:
    if out is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
        return
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(lines)
    with reporting_failures(out):
        if out.exists() and not out.is_file():  # such as /dev/stdout
            out.write_text(table.getvalue(), encoding="utf-8")
        else:
            write_named(out, table.getvalue().encode(), [run])
