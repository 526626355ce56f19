"""The device on which a process computes, by the environment variable ``FEDSIM_DEVICE``."""

from __future__ import annotations

import functools
import os

import torch

from fedsim.errors import ConfigError

DEVICE = "FEDSIM_DEVICE"
"""The environment variable that names torch's device for the networks of this process; without it the CPU."""


def find_device() -> torch.device:
    """The device that ``FEDSIM_DEVICE`` names.

    Raises:
        ConfigError: there is no such device here, or torch cannot compute on it.
    """
    name = os.environ.get(DEVICE, "").strip().lower() or "cpu"
    if reason := explain_device(name):
        raise ConfigError(f"{DEVICE}={os.environ[DEVICE]:.40}: {reason}; allowed here: {', '.join(list_devices())}")
    return torch.device(name)


@functools.cache
def explain_device(name: str) -> str:
    """Explain why torch cannot compute on a device, by a small sum there; an empty string if it can."""
    kind, _, number = name.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        return "torch finds no GPU on this machine"
    if kind == "cuda" and number.isdecimal() and int(number) >= torch.cuda.device_count():
        return f"this machine has {torch.cuda.device_count()} GPUs, counted from 0"
    try:
        device = torch.device(name)
    except RuntimeError:
        return "torch knows no such device"
    try:
        works = float(torch.ones(2, device=device).sum().cpu()) == 2.0
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError, TypeError):
        works = False
    return "" if works else "torch cannot compute on it here"


def list_devices() -> list[str]:
    """The devices on which torch can compute here."""
    names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "mps", "xpu"]
    return [name for name in names if name == "cpu" or not explain_device(name)]
