"""What a torch module is made of and how it behaves: its tensors, its buffers, whether it draws random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""The layers of torch that normalise over the rows of a batch."""
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_DRAWING = (
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
"""Layers of torch that draw in training without a dropout layer in them."""


class SizeLimit(TorchFunctionMode):
    """Refuses to make tensors beyond a number of values, before any memory is taken; see `limited_tensors`."""

    MAKERS = frozenset({"empty", "zeros", "ones", "full", "rand", "randn", "normal", "arange", "eye", "empty_strided"})

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what a call of torch is to make."""
        if getattr(func, "__name__", "") in self.MAKERS:
            sizes = (kwargs or {}).get("size", args[0] if args and isinstance(args[0], tuple | list) else args)
            if all(isinstance(size, int) for size in sizes):
                self.left -= math.prod(sizes)
                if self.left < 0:  # here only: what restores a mode of torch on the way out is such a function, too
                    raise ValueError("it has far more parameters than were saved")
        return func(*args, **(kwargs or {}))


def limited_tensors(most: int) -> AbstractContextManager[object]:
    """While a network is built whose sizes somebody else has named: at most so many numbers.

    Raises:
        ValueError: there would be more.
    """
    return SizeLimit(most)


def model_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The live tensors of a module by name: all parameters, then all buffers, persistent or not."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def trained_parameters(module: nn.Module) -> dict[str, Tensor]:
    """The live parameters that are trained, by name: those that require a gradient."""
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy values into the parameters and buffers of a module; each of its tensors has to be there.

    Raises:
        KeyError: one is not there.
    """
    with torch.no_grad():
        for name, tensor in model_tensors(module).items():
            tensor.copy_(tensors[name])


def has_dropout(module: nn.Module) -> bool:
    """Whether a layer of the module drops values in training."""
    return any(isinstance(part, _DROPOUTS) and part.p > 0 for part in module.modules())


def may_draw(module: nn.Module) -> bool:
    """Whether a pass may draw random numbers; of a layer that is not torch's own nobody knows, so it may."""
    return any(_may_draw(part) for part in module.modules())


def _may_draw(part: nn.Module) -> bool:
    if isinstance(part, _DROPOUTS):
        return part.p > 0
    return isinstance(part, _DRAWING) or not type(part).__module__.startswith("torch.nn.modules.")


@contextmanager
def scratch_buffers(module: nn.Module) -> Iterator[None]:
    """Inside, the module's buffers are copies; afterwards they are what they were.

    The buffers themselves are put aside, not written back: a graph that was made inside refers to the copies, and autograd
    refuses to go back through a tensor that was written to since.
    """
    owned = [
        (part, name, tensor)
        for part in module.modules()
        for name, tensor in part.named_buffers(recurse=False, remove_duplicate=False)
    ]
    copies: dict[int, Tensor] = {}
    for part, name, tensor in owned:
        setattr(part, name, copies.setdefault(id(tensor), tensor.clone()))
    try:
        yield
    finally:
        for part, name, tensor in owned:
            setattr(part, name, tensor)


def allow_single_rows(module: nn.Module) -> None:
    """Let batch normalisation use its running statistics where a training batch has one value a channel, which has none."""
    for part in module.modules():
        if isinstance(part, BATCH_NORMS) and part.track_running_stats:
            part.register_forward_pre_hook(_leave_training)
            part.register_forward_hook(_return_to_training, always_call=True)


def _leave_training(part: nn.Module, inputs: tuple[Any, ...]) -> None:
    x = inputs[0]
    if part.training and x.ndim > 1 and x.numel() == x.shape[1]:
        part.training = False
        part._one_value_a_channel = True  # type: ignore[assignment]


def _return_to_training(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if part.__dict__.pop("_one_value_a_channel", False):
        part.training = True
