"""``fedsim predict``: a class and the probability of each class for every new row."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from collections.abc import Iterable
from pathlib import Path

from fedsim import config
from fedsim.files import atomic_write
from fedsim.plan import complete
from fedsim.report.reading import load_seats, read
from fedsim.report.writing import reporting_failures
from fedsim.runtime.local import memory, play_all


def write_predictions(folder: Path, data: str, out: Path | None) -> None:
    """Predict the rows of ``data`` with the first arm of a run; a CSV to ``out`` or to the terminal.

    Raises:
        InputError: not a run, a scenario that predicts nothing, or a file that does not fit it.
    """
    read(folder)
    arm = next(iter(config.read(str(folder / "scenario.yaml")).arms().values()))
    plan = arm.scenario.predictor(data, load_seats(folder))
    plan = complete(plan, [link for link in arm.links if plan.carries(link)], {}, ())  # defences hold for queries too
    reports = {report.role: report for report in asyncio.run(play_all(arm, memory(plan), plan=plan))}
    hub = reports[plan.hub]
    classes: list[str] = hub.sidecar["classes"]
    probabilities = hub.tensors["probabilities"]
    rows = ([i, classes[int(row.argmax())], *(f"{p:.6f}" for p in row.tolist())] for i, row in enumerate(probabilities))
    _write([["row", "prediction", *(f"p({name})" for name in classes)], *rows], out)


def _write(lines: Iterable[list[object]], out: Path | None) -> None:
    if out is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
        return
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(lines)
    with reporting_failures(out):
        if out.exists() and not out.is_file():  # such as /dev/stdout
            out.write_text(table.getvalue(), encoding="utf-8")
        else:
            atomic_write(out, table.getvalue().encode())
