"""Building networks whose parameters take no memory until they are filled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules built in the block (by this thread) have their parameters on the meta device; buffers are real.

    Buffers stay because many are not in checkpoints (tables of rotary phases, say) and must be computed, not loaded.
    Each parameter moves as soon as it is registered, so initialisation works on the meta device and costs nothing.
    """
    owner = threading.get_ident()

    def moved(module: nn.Module, name: str, parameter: Any) -> Any:
        if parameter is None or parameter.is_meta or threading.get_ident() != owner:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(moved)
    try:
        yield
    finally:
        handle.remove()


def empty(module: nn.Module) -> None:
    """Give back the memory of all parameters; buffers move to the CPU. The module must be filled again before use."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            if not buffer.is_meta:
                part._buffers[name] = buffer.to("cpu")


def on_meta(module: nn.Module) -> list[str]:
    """Names of parameters and buffers that hold no values."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, tensor in named if tensor.is_meta]


def parameter_bytes(module: nn.Module) -> int:
    """Bytes of parameters and buffers, also of those on the meta device."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def learned(part: object) -> bool:
    """Whether ``part`` is a network with parameters."""
    return isinstance(part, nn.Module) and next(part.parameters(), None) is not None
