"""A pretended GPU: tensors on the CPU that behave as if they lay on the device ``cuda:0``.

Every operation runs on the CPU under a GPU's rules. Tensors of two devices in one operation are an
error. ``waits`` records each operation that makes the host wait for the device. The code for GPUs
thus runs with real numbers on a machine without one. This does not cover speed, CUDA graphs, NCCL,
and tensors that torch creates inside an operation, such as the double backward of convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from deep.images.operations import _cutout_colour

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
aten = torch.ops.aten
# The sizes of their results are known only on the device, so the host waits.
SIZES_FROM_VALUES = {aten.nonzero, aten.masked_select, aten._unique2, aten.bincount}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class OnGpu(Tensor):
    """A tensor of the pretended GPU; its memory is the host's."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    device = GPU  # type: ignore[assignment]
    is_cuda = True  # type: ignore[assignment]
    is_cpu = False  # type: ignore[assignment]

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy.")


class PretendedGpu(TorchDispatchMode):
    """Applies a GPU's rules to operations; ``waits`` lists the ones that the host waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.operations = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = dict(options or {})
        tensors = [t for t in tree_leaves((arguments, options)) if isinstance(t, Tensor)]
        inside = [t for t in tensors if isinstance(t, OnGpu)]
        created = torch.device(options.get("device") or "cpu").type == "cuda"
        if not inside and not created:
            return function(*arguments, **options)
        self.operations += 1
        self._look_at(function, [t for t in tensors if not isinstance(t, OnGpu)], tensors)
        if options.get("device") is not None:
            options["device"] = CPU
        result = function(*arguments, **options)
        return result if function is aten._local_scalar_dense.default else on_gpu(result)

    def _look_at(self, function: Any, outside: list[Tensor], tensors: list[Tensor]) -> None:
        operation = function.overloadpacket
        if operation is aten._local_scalar_dense or operation in SIZES_FROM_VALUES:
            self.waits.append(str(function))
        elif operation is aten._upsample_bilinear2d_aa and tensors[0].dtype == torch.uint8:
            raise RuntimeError(f"{function} is not implemented on {GPU} for 'Byte'.")
        elif operation is aten.copy_:
            self.waits += [str(function)] * bool(outside)
        elif operation in INDEXING:
            masks = [t for t in tensors[1:] if t.dtype in (torch.bool, torch.uint8)]
            self.waits += [str(function)] * bool(outside or masks)
        elif any(t.ndim > 0 for t in outside):
            raise RuntimeError(
                f"{function} got tensors of {GPU} and of the CPU; the latter have the shapes "
                f"{[tuple(t.shape) for t in outside]}."
            )


class Moves(TorchFunctionMode):
    """Moves tensors between the two devices, which torch itself cannot tell apart."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = dict(options or {})
        first = arguments[0] if arguments else None
        if function is Tensor.to:
            return self._to(*arguments, **options)
        if function in (Tensor.cpu, Tensor.cuda):
            return self._to(first, CPU if function is Tensor.cpu else GPU)
        if function in (torch.tensor, torch.as_tensor) and options.get("device") is not None:
            device = torch.device(options.pop("device"))
            return self._to(function(*arguments, **options), device)
        if function is Tensor.tolist and isinstance(first, OnGpu):
            self.gpu.waits.append("tolist")
        return function(*arguments, **options)

    def _to(self, tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
        other = options.pop("other", None)
        arguments = (*([] if other is None else [other]), *arguments)
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*arguments, **options)
        if arguments and isinstance(arguments[0], Tensor):
            device = arguments[0].device
        moves = device is not None and (device.type == "cuda") != isinstance(tensor, OnGpu)
        if moves and not non_blocking:
            self.gpu.waits.append(f"to {device}")
        if dtype is not None or memory_format is not None:
            tensor = Tensor.to(
                tensor, dtype or tensor.dtype, memory_format=memory_format or torch.preserve_format
            )
        return Move.apply(tensor, device) if moves else tensor


class Move(torch.autograd.Function):
    """A copy on the other device."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, device: torch.device) -> Tensor:
        ctx.device = tensor.device
        with torch.utils._python_dispatch._disable_current_modes():
            copy = tensor.as_subclass(Tensor).clone()
        return on_gpu(copy) if device.type == "cuda" else copy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].to(ctx.device), None


def on_gpu(value: Any) -> Any:
    """Mark a tensor, or all tensors in a structure, as lying on the GPU."""
    return tree_map(lambda t: t.as_subclass(OnGpu) if type(t) is Tensor else t, value)


class HostGenerator(torch.Generator):
    """A CPU generator that replaces the device's own."""

    def __new__(cls, device: Any = None) -> HostGenerator:
        return super().__new__(cls)


@contextmanager
def pretended_gpu(monkeypatch: Any, gpus: int = 1) -> Iterator[PretendedGpu]:
    """Makes the device "cuda" usable in this context; a process uses one of the ``gpus``."""
    for name, value in {
        "_lazy_init": None,
        "is_available": True,
        "device_count": gpus,
        "get_device_name": "a pretended GPU",
        "synchronize": None,
        "set_device": None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, result=value: result)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    monkeypatch.setattr(torch, "Generator", HostGenerator)
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda _, *options: autocast("cpu", *options))
    # By default a module that moves keeps its Parameter objects and only swaps their memory.
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    gpu = PretendedGpu()
    try:
        with gpu, Moves(gpu):
            yield gpu
    finally:
        _cutout_colour.cache_clear()  # it holds a tensor of this GPU
        torch.__future__.set_overwrite_module_params_on_conversion(before)
