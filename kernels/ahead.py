"""Compiling kernels ahead of time, for an architecture and without its GPU, and reading what came out.

A change that spills registers or loses the tensor cores shows here, on any machine.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .launch import Launch
from .library import interpreted

_TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}


@dataclass(frozen=True)
class Compiled:
    """What one kernel became on one architecture."""

    registers: int
    """Of one thread."""
    stack_bytes: int
    """Of one thread; more than 0 is spilled registers."""
    shared_bytes: int
    """Of one program."""
    tensor_core_instructions: int


def faults(compiled: Compiled, dtype: torch.dtype, products: bool = True) -> list[str]:
    """What is wrong with a kernel for `dtype`, which multiplies matrices of it if `products`; empty when nothing is."""
    found = []
    if compiled.stack_bytes:
        found.append(f"spills {compiled.stack_bytes} bytes of registers per thread, must spill none")
    if products and dtype != torch.float32 and not compiled.tensor_core_instructions:
        found.append(f"has no tensor-core instruction, {dtype} must use them")
    if dtype == torch.float32 and compiled.tensor_core_instructions:
        found.append("has tensor-core instructions, which would round float32 to tf32")
    return found


def compile_ahead(launch: Launch, arch: int) -> Compiled:
    """Compile the kernel of `launch`, specialised as its arguments are, for compute capability `arch` / 10.

    The tensors among the arguments may be on the "meta" device.

    Raises:
        RuntimeError: Triton's interpreter is on: it has replaced the compiler's language in this process.
    """
    if interpreted():
        raise RuntimeError("compiling ahead of time needs Triton's compiler: unset TRITON_INTERPRET")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = _specialise(launch)
    compiled = triton.compile(
        ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", arch, 32),
        options=launch.options,
    )
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        usage = _read(tools / "cuobjdump", "--dump-resource-usage", cubin.name)
        code = _read(tools / "nvdisasm", cubin.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump printed no resource usage: {usage.strip()}")
    return Compiled(
        registers=int(found[1]),
        stack_bytes=int(found[2]),
        shared_bytes=compiled.metadata.shared,
        tensor_core_instructions=len(re.findall(r"\b(?:HMMA|HGMMA|UTC\w*MMA)\b", code)),
    )


def _read(tool: Path, *arguments: str) -> str:
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


def _specialise(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[Any]]]]:
    """Types, constants and alignments of the arguments, as Triton derives them at a launch."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = dict(launch.constants)
    attributes: dict[tuple[int], list[list[Any]]] = {}
    general = {parameter.name for parameter in launch.kernel.params if parameter.do_not_specialize}
    for position, name in enumerate(launch.kernel.arg_names):
        value = launch.arguments.get(name)
        if name in launch.constants or value is None or (type(value) is int and value == 1 and name not in general):
            signature[name] = "constexpr"
            constants.setdefault(name, value)
            continue
        if isinstance(value, Tensor):
            signature[name] = f"*{_TYPES[value.dtype]}"
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
        if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0 and name not in general):
            attributes[(position,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes
