"""What run folders are written with: JSON, text and tensors, each file in one step."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fedsim.config import ScenarioFile
from fedsim.errors import OutputError, restore_text
from fedsim.files import atomic_write
from fedsim.report.summary import finite

FOLDER = "folder: "
"""How the line of ``scenario.yaml`` begins that says where the data lies; no page shows it."""


@contextlib.contextmanager
def reporting_failures(path: Path) -> Iterator[None]:
    """Turn what the system says about a path that cannot be written, such as a full disk, into one line for the user."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def scenario_text(file: ScenarioFile) -> str:
    """The resolved file as YAML that reads back to the same digest; the folder of its data, if any, in a line of its own."""
    values = file.resolved()
    folder = values.pop("folder")
    last = f"{FOLDER}{json.dumps(folder)}\n" if folder else ""
    head = " ".join(f"# {file.name}, resolved: every default is written out".split()) + "\n"  # a name is one line here
    return head + yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110) + last


def json_bytes(value: Any) -> bytes:
    """Plain values as indented JSON; a number that is not finite becomes null."""
    return (json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def json_line(row: Mapping[str, Any]) -> str:
    """A row of ``metrics.jsonl``."""
    return json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any, sync: bool = True) -> None:
    """Write plain values as `json_bytes` gives them, in one step; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json_bytes(value), sync=sync)


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Write a file so that a reader, at any moment, finds the old one or the new one, whole; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, restore_text(text).encode(), sync=sync)  # a path that is no UTF-8 may stand in it


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Dumper(yaml.SafeDumper):
    """Writes each value out, and quotes what our loader would take for a number: the text ``1e-3``."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
