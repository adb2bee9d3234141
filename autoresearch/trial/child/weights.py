"""The weights a trial hands in: state dicts cleaned of wrappers, and the safetensors files they travel as."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load

# torch dtype -> its name in a safetensors header.
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def clean_state(
    state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, torch.Tensor]:
    """Return a state dict under the keys `build_model` gives it, checked against their shapes.

    Compile and parallel wrappers put `_orig_mod` and `module` anywhere into a key; they are removed.

    Raises:
        RuntimeError: keys or shapes differ; names the first few.
        TypeError: a value is no tensor.
    """
    cleaned: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        name = ".".join(part for part in key.split(".") if part != "_orig_mod")
        if name not in shapes:
            name = ".".join(part for part in name.split(".") if part != "module")
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"`submit`: `{name}` is no tensor; only tensors can be handed in")
        cleaned[name] = value.detach()
    missing = [name for name in shapes if name not in cleaned]
    unknown = [name for name in cleaned if name not in shapes]
    wrong = [
        f"{name} {tuple(cleaned[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if name in cleaned and tuple(cleaned[name].shape) != shape
    ]
    for problem, names in (("lacks", missing), ("has the unknown", unknown), ("has", wrong)):
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            raise RuntimeError(
                f"`submit`: the model {problem} {', '.join(names[:4])}{more}; "
                "it must fit `build_model(vocab_size, max_seq_len, device)`, which judging calls again"
            )
    return cleaned


def encode_weights(state: Mapping[str, torch.Tensor]) -> tuple[bytes, list[torch.Tensor]]:
    """Return the start of a safetensors file and the tensors whose bytes follow it, each stored once.

    `safetensors.torch.save` refuses tensors that share memory, and makes the file in memory by two copies of all
    weights on top of those that come from the device: within the time and memory of handing in.

    Raises:
        RuntimeError: a tensor has a type the format does not know.
    """
    names: dict[tuple[Any, ...], str] = {}
    metadata: dict[str, str] = {}
    entries: dict[str, Any] = {}
    tensors: list[torch.Tensor] = []
    offset = 0
    for name, tensor in state.items():
        if tensor.dtype not in _DTYPES:
            raise RuntimeError(
                f"`submit`: `{name}` has the type {tensor.dtype}, which weights cannot have"
            )
        identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and identity in names:
            metadata[f"alias:{name}"] = names[identity]
            continue
        names[identity] = name
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        tensors.append(tensor)
        offset = end
    if metadata:
        entries["__metadata__"] = metadata
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header, tensors


def decode_weights(data: memoryview) -> dict[str, torch.Tensor]:
    """Return the tensors of a file that `encode_weights` began."""
    state: dict[str, torch.Tensor] = load(bytes(data))
    size = int.from_bytes(data[:8], "little")
    for key, target in json.loads(bytes(data[8 : 8 + size])).get("__metadata__", {}).items():
        if key.startswith("alias:"):
            state[key.removeprefix("alias:")] = state[target]
    return state
