"""What every test runs under: hypothesis draws the same examples each time, torch computes on one thread."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from listening import children, words

from fedsim.sweep.tune import session

settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
settings.load_profile("same every time")
torch.set_num_threads(1)
os.environ["FEDSIM_CACHE"] = "off"  # or one test would find the models of another, and a runtime those of the next
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script it is ignored, by children too


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run what takes minutes of processor time")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: needs --slow"))


@pytest.fixture(autouse=True)
def _numbers_as_python_knows_them() -> None:
    """Playing a seat flushes denormals for the rest of the process; a test of floats must not depend on what ran before."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The one Ray of all tests that need it, with a GPU that is not there; nothing of it may be left in the end."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs fedsim-vfl[ray]")
    before = set(Path(tempfile.gettempdir()).glob("fedsim-ray-*"))
    with session(cpus=4, gpus=1):
        mine = set(Path(tempfile.gettempdir()).glob("fedsim-ray-*")) - before
        pids = children(os.getpid())
        yield
    assert [pid for pid in pids if "ray" in words(pid)] == []
    assert [path for path in mine if path.exists()] == []


@pytest.fixture
def hostile_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What machines have set up for other programs: proxies, clusters, warnings as errors; returns a long TMPDIR."""
    long = tmp_path_factory.mktemp("x" * 90)
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.setenv(name, "example.org")
    others = {
        "RAY_ADDRESS": "http://127.0.0.1:8265",
        "RAY_NAMESPACE": "other",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": "{",
        "RAY_TMPDIR": f"{long}/none",
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 0}',
        "RAY_grpc_enable_http_proxy": "1",
        "FLWR_DATABASE": f"{long}/none/x",
        "FLWR_HOME": "/proc/none",
        "HOME": "/proc/none",
        "PYTHONWARNINGS": "error",
        "PYTHONINSPECT": "1",
        "PYTHONSTARTUP": "/proc/none",
        "PYTHONIOENCODING": "ascii",
        "OMP_NUM_THREADS": "many",
    }
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    return long


@pytest.fixture
def add_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any, str, str], str]]:
    """Puts a plugin where the plugins of ``package`` are looked for, by the name of its file."""
    added: list[str] = []

    def add(package: Any, kind: str, source: str) -> str:
        (tmp_path / f"{kind}.py").write_text(source)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        importlib.invalidate_caches()
        added.append(f"{package.__name__}.{kind}")
        return kind

    yield add
    for module in added:
        sys.modules.pop(module, None)
