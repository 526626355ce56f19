"""What an attacker builds from a disclosed bottom: the architecture and the parameters are known, the rows are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fedsim.models import ModelConfig
from fedsim.plugins import load


def network(config: Mapping[str, object], parameters: Mapping[str, Tensor]) -> nn.Sequential:
    """The victim's bottom, built from what was disclosed."""
    model = load("models", ModelConfig, config["model"])
    shape: Callable[..., tuple[int, ...]] = tuple
    built = model.build(shape(config["shape"]), int(str(config["embedding"])))
    built.load_state_dict(dict(parameters))
    return built.requires_grad_(False).eval()


def layers_before(bottom: nn.Sequential, layer: str) -> nn.Sequential:
    """The part of a bottom that comes before the named layer."""
    names = [name for name, _ in bottom.named_children()]
    return nn.Sequential(*list(bottom.children())[: names.index(layer)])


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two models have the same parameters, to the bit."""
    return all(torch.equal(one[name], other[name]) for name in one)
