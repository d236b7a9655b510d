"""Compiling entity alignment for a GPU that is not there, in a process without Triton's interpreter."""

import json
import os
import subprocess
import sys

SCRIPT = """
import json, torch
from reelmill.kernels.ahead import compile_ahead, faults
from reelmill.kernels.entity_alignment.ahead import launches

CHOSEN = {
    (80, torch.bfloat16): ("search, width 509", "take"),
    (90, torch.bfloat16): ("search, seed", "pull, seed"),
    (100, torch.float32): ("mean, width 509, noise",),
}
found = []
for (arch, wanted), names in CHOSEN.items():
    for name, dtype, launch in launches(arch):
        if dtype == wanted and name in names:
            compiled = compile_ahead(launch, arch)
            found.append((f"sm_{arch} {name}", compiled.registers, faults(compiled, dtype, launch.products)))
print(json.dumps(found))
"""


def test_kernels_compile_without_spills_and_use_the_tensor_cores_they_should(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found) == 5
    for name, registers, wrong in found:
        assert wrong == [], name
        assert 0 < registers <= 255
