"""Rays that belong to somebody else, and machines on which one can hardly be started. Each run has a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from terminal import TABLE, fine, write_table

from fedsim.errors import ConfigError
from fedsim.runtime.ray import resolve_address

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs fedsim-vfl[ray]")


def test_a_run_does_not_depend_on_what_the_machine_has_set_up_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile_environment: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    monkeypatch.delenv("PYTHONINSPECT")  # it is for whoever starts a command, and is not passed on to seats
    monkeypatch.delenv("PYTHONWARNINGS")
    fine("run", "s.yaml", "--out", "alone")
    command = [sys.executable, "-m", "fedsim", "run", "s.yaml", "--runtime", "ray", "--out", "apart"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "ignored" in line)
    for told in (
        "s: ignored: RAY_ADDRESS=http://127.0.0.1:8265, ",
        " RAY_JOB_CONFIG_JSON_ENV_VAR={, RAY_NAMESPACE=other, ",
    ):
        assert told in line
    assert line.endswith("; this run starts a Ray of its own; to join another: runtime.address")
    alone, apart = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("alone", "apart"))
    assert (alone["weights_sha256"], alone["task"]) == (apart["weights_sha256"], apart["task"])
    assert list(hostile_environment.glob("fedsim*")) == []


@pytest.mark.parametrize(
    ("there", "address", "found", "told"),
    [
        ("", "", "", ""),
        ("10.0.0.1:6379", "", "", "ignored: RAY_ADDRESS=10.0.0.1:6379; this run starts a Ray of its own"),
        ("auto", "local", "", "ignored: RAY_ADDRESS=auto"),
        ("10.0.0.1:6379", "auto", "10.0.0.1:6379", "joins the Ray at 10.0.0.1:6379, as RAY_ADDRESS says"),
        ("ray://10.0.0.1:10001", "auto", "ray://10.0.0.1:10001", "joins the Ray at ray://10.0.0.1:10001"),
        ("http://10.0.0.1:8265", "auto", "auto", "ignored: RAY_ADDRESS=http://10.0.0.1:8265, a dashboard"),
        ("", "auto", "auto", ""),
        ("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.2:6379", ""),
    ],
)
def test_which_ray_is_meant(there: str, address: str, found: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_ADDRESS", there)
    joined, line = resolve_address(address)
    assert (joined, line.startswith(told), bool(line)) == (found, True, bool(told))


def test_a_dashboard_cannot_be_joined() -> None:
    with pytest.raises(
        ConfigError, match=r"runtime.address: 'http://127.0.0.1:8265' is a dashboard for jobs; expected auto"
    ):
        resolve_address("http://127.0.0.1:8265")
