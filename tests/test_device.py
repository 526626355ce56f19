"""``FEDSIM_DEVICE``: a device on which torch cannot compute is refused in one line, before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from terminal import fine, refused

from fedsim.errors import ConfigError
from fedsim.vfl.device import explain_device, find_device, list_devices


@pytest.mark.parametrize("name", ["", "cpu", "CPU", " cpu ", "cpu:0"])
def test_the_cpu_has_many_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_DEVICE", name)
    assert find_device().type == "cpu"


@pytest.mark.parametrize(
    "name", ["cuda:99", "cuda:-1", "cuda:x", "meta", "gpu", "none", "0", "cpu:7:7", "hpu", "größe"]
)
def test_a_device_that_is_not_here_is_refused_with_those_that_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_DEVICE", name)
    with pytest.raises(ConfigError, match=rf"^FEDSIM_DEVICE={name}: .*; allowed here: cpu"):
        find_device()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("runtime", ["local", "processes", "ray", "flower"])
def test_a_gpu_that_is_not_here_is_one_line_and_no_run_folder(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (
        find_spec({"ray": "ray", "flower": "flwr"}.get(runtime, "torch")) is None
    ):  # to import Ray here would start too early
        pytest.skip("needs an extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_DEVICE", "cuda")
    said = refused("run", "baseline", "--runtime", runtime)
    assert said.startswith("FEDSIM_DEVICE=cuda: torch finds no GPU on this machine; allowed here: cpu")
    monkeypatch.setenv("FEDSIM_TOKEN", "t")
    assert refused("seat", "baseline", "--role", "server", "--listen", "127.0.0.1:0", "--simulate") == said
    assert list(tmp_path.iterdir()) == []


def test_a_seat_in_a_process_of_its_own_refuses_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine, where whoever starts the run cannot look."""
    from small import small

    from fedsim.runtime.processes import Processes

    monkeypatch.setenv("FEDSIM_DEVICE", "meta")
    with pytest.raises(ConfigError, match="FEDSIM_DEVICE=meta: torch cannot compute on it here"):
        Processes().run(small("baseline"), lambda role, row: None)


def test_the_devices_of_this_machine_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_devices()[0] == "cpu"
    assert all(explain_device(name) == "" for name in list_devices())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_DEVICE", list_devices()[-1])
    assert "report:" in fine("run", "baseline", "--set", "scenario.steps=2")
