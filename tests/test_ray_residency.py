"""What the seats of another machine own stays there when Ray places them, unless that machine's own settings share it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from marked_tables import ATTACKED, SEATS, marks, marks_of, read_folder, scenario, search, write
from safetensors.torch import load_file

if find_spec("ray") is None:  # to import it here would keep other tests from starting it as fedsim does
    pytest.skip("needs fedsim-vfl[ray]", allow_module_level=True)

PATIENCE = 300.0


def test_no_object_row_or_log_of_ray_is_of_what_a_machine_keeps(tmp_path: Path) -> None:
    write(tmp_path)
    files = {seat: str(tmp_path / seat / f"{seat}.csv") for seat in SEATS}
    (tmp_path / "s.yaml").write_text(json.dumps(scenario(files, **ATTACKED).resolved()))
    (short := Path("/tmp") / f"rr-{os.getpid()}").mkdir()
    command = [sys.executable, Path(__file__).with_name("ray_residency.py"), tmp_path, tmp_path / "s.yaml"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "TMPDIR": str(short)}
    said = subprocess.run(command, env=env, capture_output=True, timeout=PATIENCE, check=False)
    shutil.rmtree(short)
    assert said.returncode == 0, said.stderr.decode()
    logs = {"logs": (tmp_path / "logs").read_bytes(), "printed": said.stdout + said.stderr}
    assert len(logs["logs"]) > 1000
    for what, shared in (("kept", False), ("shared", True)):
        places = {"objects": (tmp_path / f"{what}.seen").read_bytes(), **logs}
        for party in ("north", "east"):
            (folder,) = (tmp_path / f"runs-{what}").glob(f"*-{party}")
            assert "Truth and reconstruction" in (folder / "report.html").read_text()
            (shown,) = folder.rglob("*-shown.safetensors")
            owned = {**marks(party), **marks_of(f"{party} truth", load_file(shown)["truth"])}
            owned |= marks_of(f"{party} weights", load_file(folder / f"model/{party}.safetensors")["0.weight"])
            assert search(read_folder(folder), owned)
            found = search(places, owned)
            assert {each.partition(": ")[0] for each in found} == ({"objects"} if shared else set())
            assert not [each for each in found if "patient" in each]
    withheld = {what: json.loads((tmp_path / f"{what}.json").read_text()) for what in ("kept", "shared")}
    assert withheld["kept"] == {
        "server": None,
        "north": ["model", "schema", "samples"],
        "east": ["model", "schema", "samples"],
    }
    assert withheld["shared"]["server"] is None
    assert "model" not in withheld["shared"]["north"]
