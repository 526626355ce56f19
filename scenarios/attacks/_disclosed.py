"""What an attacker builds from a disclosed bottom: the architecture and the parameters are known, the rows are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from fedsim.errors import ThreatModelError
from fedsim.models import ModelConfig
from fedsim.plugins import load
from fedsim.vfl.messages import Model
from fedsim.vfl.modules import load_tensors, trained_parameters

PASSES_FEATURES_ON = (nn.Flatten, nn.Identity, nn.Dropout)


def network(config: Mapping[str, object], parameters: Mapping[str, Tensor]) -> nn.Sequential:
    """The victim's bottom, built from what was disclosed (parameters and buffers), as it is when it predicts."""
    built = _build(config)
    load_tensors(built, parameters)
    return built.requires_grad_(False).eval()


def check_trained(config: Mapping[str, object], parameters: Sequence[str], who: str) -> None:
    """Refuse a bottom in which one of these parameters is frozen.

    Raises:
        ThreatModelError: no gradient of it is ever sent; ``who`` needs it.
    """
    trained = trained_parameters(_build(config))
    if frozen := [name for name in parameters if name not in trained]:
        raise ThreatModelError(f"{who} needs the gradients of {', '.join(frozen)}, which the bottom does not train")


def trained_names(config: Mapping[str, object], who: str) -> list[str]:
    """The parameters whose gradients are sent, in order.

    Raises:
        ThreatModelError: there are none; ``who`` needs some.
    """
    names = list(trained_parameters(_build(config)))
    if not names:
        raise ThreatModelError(f"{who} needs gradients of parameters, and the bottom trains none of its own")
    return names


def updated(model: Mapping[str, Tensor], message: Model) -> dict[str, Tensor]:
    """The tensors of a bottom after a message; frozen ones never travel."""
    return {**model, **message.tensors}


def _build(config: Mapping[str, object]) -> nn.Sequential:
    model = load("models", ModelConfig, config["model"])
    shape: Callable[..., tuple[int, ...]] = tuple
    return model.build(shape(config["shape"]), int(str(config["embedding"])))


def first_linear(bottom: nn.Sequential, who: str) -> tuple[str, nn.Linear]:
    """The first fully connected layer, and its name.

    Raises:
        ThreatModelError: there is none, or it lies inside a block that is no plain sequence; ``who`` needs it.
    """
    for name, layer in _in_order(bottom):
        if isinstance(layer, nn.Linear):
            return name, layer
        if any(isinstance(part, nn.Linear) for part in layer.modules()):
            raise ThreatModelError(
                f"{who} needs a bottom with a fully connected layer; here, the first is inside '{name}'"
                f" ({type(layer).__name__}): what it reads cannot be told"
            )
    raise ThreatModelError(f"{who} needs a bottom with a fully connected layer; here, no layer is one")


def check_reads_vectors(before: nn.Sequential, shape: tuple[int, ...], who: str) -> None:
    """Refuse a layer that is applied several times to a row.

    Raises:
        ThreatModelError: its gradients are then sums over places too, which the batches do not tell apart.
    """
    found = tuple(before(torch.zeros(1, *shape)).shape[1:])
    if len(found) != 1:
        raise ThreatModelError(
            f"{who} needs a fully connected layer that reads one vector a row; here, it reads {found}"
        )


def layers_before(bottom: nn.Sequential, layer: str) -> nn.Sequential:
    """The part of a bottom that comes before the named layer."""
    names = [name for name, _ in _in_order(bottom)]
    return nn.Sequential(*[each for _, each in _in_order(bottom)][: names.index(layer)])


def passes_features_on(before: nn.Sequential) -> bool:
    """Whether what comes out are the features themselves."""
    return all(isinstance(layer, PASSES_FEATURES_ON) for layer in before)


def ends_in_relu(before: nn.Sequential) -> bool:
    """Whether what comes out went through a ReLU last, so that nothing in it is negative."""
    active = [layer for layer in before if not isinstance(layer, (*PASSES_FEATURES_ON, nn.MaxPool2d))]
    return bool(active) and isinstance(active[-1], nn.ReLU)


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two models have the same parameters, to the bit."""
    return all(torch.equal(one[name], other[name]) for name in one)


def _in_order(bottom: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a sequence, and of the sequences in it, by the names of their parameters."""
    for name, layer in bottom.named_children():
        if isinstance(layer, nn.Sequential):
            yield from _in_order(layer, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", layer
