"""Compiling for a GPU that is not there. In a process of its own: Triton's interpreter may be on in this one."""

import json
import os
import subprocess
import sys

import pytest
import torch
from reelmill.kernels.ahead import Compiled, compile_ahead, faults
from reelmill.kernels.launch import Launch

SCRIPT = """
import json, torch
from reelmill.kernels.ahead import compile_ahead, faults
from reelmill.kernels.late_interaction.ahead import launches

CHOSEN = {
    (90, torch.bfloat16): ("forward, 12 frames, 4 prompts, masked", "text gradient, masked"),
    (100, torch.float32): ("forward, 12 frames, 4 prompts, masked",),
}
found = []
for (arch, wanted), names in CHOSEN.items():
    for name, dtype, launch in launches(arch):
        if dtype == wanted and name in names:
            compiled = compile_ahead(launch, arch)
            found.append((f"sm_{arch} {name}", compiled.registers, compiled.shared_bytes, faults(compiled, dtype)))
print(json.dumps(found))
"""


def test_kernels_compile_without_spills_and_use_the_tensor_cores_they_should(tmp_path):
    """On sm_90 for bfloat16; and on sm_100 float32 stays out of tf32, into which Triton easily slips."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found) == 3
    for name, registers, shared_bytes, wrong in found:
        assert wrong == [], name
        assert 0 < registers <= 255
        assert 0 < shared_bytes <= 227 * 1024


def test_the_gate_names_what_is_wrong():
    good = Compiled(registers=200, stack_bytes=0, shared_bytes=1024, tensor_core_instructions=4)
    spilled = Compiled(registers=255, stack_bytes=8, shared_bytes=1024, tensor_core_instructions=4)
    plain = Compiled(registers=200, stack_bytes=0, shared_bytes=1024, tensor_core_instructions=0)
    assert faults(good, torch.bfloat16) == faults(plain, torch.float32) == []
    assert faults(spilled, torch.float16) == ["spills 8 bytes of registers per thread, must spill none"]
    assert faults(plain, torch.bfloat16) == ["has no tensor-core instruction, torch.bfloat16 must use them"]
    assert faults(good, torch.float32) == ["has tensor-core instructions, which would round float32 to tf32"]


def test_the_interpreter_is_no_compiler(monkeypatch):
    launch = Launch(kernel=None, grid=(1,), arguments={}, constants={}, warps=4, stages=1)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="unset TRITON_INTERPRET"):
        compile_ahead(launch, 90)
