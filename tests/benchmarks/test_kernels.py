import json

import pytest
import torch
from reelmill.benchmarks import kernels
from reelmill.benchmarks.cases import LATE_INTERACTION, LateInteractionCase
from reelmill.benchmarks.kernels import BenchKernelsConfig, bench_kernels, eager, make_inputs, verify
from reelmill.kernels import late_interaction
from reelmill.kernels.ahead import Compiled
from reelmill.kernels.late_interaction.ahead import launches
from reelmill.shards.errors import ReelmillError, UsageError

CPU = torch.device("cpu")
CASES = (
    LateInteractionCase(name="even", videos=3, frames=4, lengths=(3, 3), width=8),
    LateInteractionCase(name="ragged", videos=3, frames=4, lengths=(3, 1, 5), width=8, masked=True),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_eager_version_computes_the_same(case):
    inputs = make_inputs(case, torch.float64, CPU)
    want_BC = late_interaction(
        inputs.video_BVD, inputs.text_PD, inputs.segments, video_mask_BV=inputs.valid_BV, impl="reference"
    )
    torch.testing.assert_close(eager(inputs), want_BC)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_line_per_case_and_version(monkeypatch, tmp_path, capsys, dtype):
    monkeypatch.setitem(kernels.CASES, "late_interaction", CASES)
    results = tmp_path / "kernels.jsonl"
    threads = torch.get_num_threads()
    assert bench_kernels(BenchKernelsConfig(dtype=dtype, repeats=3, threads=1, results=results)) == 0
    assert torch.get_num_threads() == threads
    records = [json.loads(line) for line in results.read_text().splitlines()]
    shown = [(record["case"]["name"], record["version"]) for record in records]
    assert shown == [(case.name, version) for case in CASES for version in ("reelmill", "eager")]
    for record in records:
        assert (record["bench"], record["op"], record["dtype"]) == ("kernels", "late_interaction", dtype)
        assert (record["threads"], record["repeats"]) == (1, 3)
        assert record["versions"]["torch"] == torch.__version__
        for what in ("forward", "training"):
            assert 0 < record[f"{what}_p20_ms"] <= record[f"{what}_p50_ms"] <= record[f"{what}_p80_ms"]
        if record["version"] == "eager":
            assert record["forward_speedup"] == record["training_speedup"] == 1
    assert "late_interaction, ragged, reelmill" in capsys.readouterr().out


def test_a_wrong_operation_gets_no_time(monkeypatch, tmp_path):
    monkeypatch.setitem(kernels.CASES, "late_interaction", CASES)
    inputs = make_inputs(CASES[0], torch.float32, CPU)
    verify(CASES[0], inputs)
    right = kernels.fused
    monkeypatch.setattr(kernels, "fused", lambda inputs: right(inputs) * (1 + 1e-5))
    with pytest.raises(ReelmillError, match=r"late_interaction, even: scores must err at most .*e-\d+, got .*e-\d+"):
        verify(CASES[0], inputs)
    results = tmp_path / "kernels.jsonl"
    with pytest.raises(ReelmillError, match="late_interaction, even: scores must err at most"):
        bench_kernels(BenchKernelsConfig(repeats=3, results=results))
    assert not results.exists()


def test_every_case_fits_its_machine():
    assert len({case.name for case in LATE_INTERACTION}) == len(LATE_INTERACTION)
    on_cpu = [case for case in LATE_INTERACTION if not case.gpu_only]
    assert on_cpu
    assert sum(case.flops for case in on_cpu) < 5e9


def test_compile_only_fails_when_one_kernel_spills(monkeypatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    good = Compiled(registers=200, stack_bytes=0, shared_bytes=1024, tensor_core_instructions=4)
    spilled = Compiled(registers=255, stack_bytes=8, shared_bytes=1024, tensor_core_instructions=4)
    name, dtype, launch = next(launches(90))
    monkeypatch.setitem(kernels.LAUNCHES, "late_interaction", lambda arch: [(name, dtype, launch)])
    monkeypatch.setattr(kernels, "compile_ahead", lambda launch, arch: good)
    assert bench_kernels(BenchKernelsConfig(compile_only=True)) == 0
    monkeypatch.setattr(kernels, "compile_ahead", lambda launch, arch: spilled if arch == 100 else good)
    assert bench_kernels(BenchKernelsConfig(compile_only=True)) == 1
    printed = capsys.readouterr().out
    assert f"late_interaction sm_100 bfloat16: {name}" in printed
    assert "WRONG: spills 8 bytes of registers per thread, must spill none" in printed
    assert "1 of 3" in printed


def test_compile_only_refuses_the_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UsageError, match="--compile-only needs Triton's compiler: unset TRITON_INTERPRET"):
        bench_kernels(BenchKernelsConfig(compile_only=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ops": ("softmax",)}, "ops must be some of late_interaction; got softmax"),
        ({"ops": ()}, "ops must be some of late_interaction; got none"),
        ({"repeats": 2}, "repeats must be >= 3, got 2"),
        ({"threads": -1}, "threads must be >= 0, got -1"),
    ],
)
def test_wrong_options_are_named(change, message):
    with pytest.raises(UsageError, match=message):
        BenchKernelsConfig(**change)
