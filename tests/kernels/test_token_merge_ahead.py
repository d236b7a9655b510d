"""Compiling token merging for a GPU that is not there, in a process without Triton's interpreter."""

import json
import os
import subprocess
import sys

SCRIPT = """
import json, torch
from reelmill.kernels.ahead import compile_ahead, faults
from reelmill.kernels.token_merge.ahead import match_launches, merge_launches

CHOSEN = {
    (80, torch.int32): ("place",),
    (90, torch.bfloat16): ("match, width 50", "merge a residual branch, sizes, width 767"),
    (100, torch.float32): ("match, width 64",),
}
found = []
for (arch, wanted), names in CHOSEN.items():
    for name, dtype, launch in (*match_launches(arch), *merge_launches(arch)):
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
    assert len(found) == 4
    for name, registers, wrong in found:
        assert wrong == [], name
        assert 0 < registers <= 255
