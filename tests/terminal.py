"""The command line as a user meets it, in this process: a command, and what it leaves on the terminal."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from fedsim import cli

TABLE = """\
scenario:
  kind: baseline
  data: {kind: csv, path: table.csv, label: y, test: 0.3}
  parties: {a: {columns: "u, v"}, b: {columns: w}}
  bottom: {kind: mlp, hidden: [8]}
  embedding: 4
  batch: 8
  steps: 6
"""
"""A scenario over `write_table`."""


@dataclass(frozen=True)
class Said:
    """What a command left: exit code, standard output, standard error."""

    code: object
    out: str
    err: str


def fedsim(*words: str | Path) -> Said:
    """Call ``fedsim WORDS`` as its entry point does, in a terminal of 100 columns."""
    argv, out, err = ["fedsim", *map(str, words)], io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.dict("os.environ", {"COLUMNS": "100"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            return Said(end.code, out.getvalue(), err.getvalue())
    raise AssertionError("main never returns")


def fine(*words: str | Path) -> str:
    """The output of a command that must succeed."""
    said = fedsim(*words)
    assert said.code == 0, said.err
    return said.out


def refused(*words: str | Path) -> str:
    """The one line on standard error of a command that must be refused with exit code 2."""
    said = fedsim(*words)
    assert (said.code, said.out) == (2, ""), said
    (line,) = said.err.splitlines()
    assert line.startswith("fedsim: ")
    return line.removeprefix("fedsim: ")


def write_table(path: Path, rows: int = 60) -> None:
    """A small table: u and v decide y, w is text."""
    lines = [f"{i * 37 % 60 / 10},{i * 11 % 60 / 10},{'pqr'[i % 3]},{int(i * 37 % 60 > 30)}" for i in range(rows)]
    path.write_text("u,v,w,y\n" + "\n".join(lines) + "\n")
