import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import triton
from reelmill.benchmarks import entity_alignment, kernels, late_interaction, synonym_similarity, token_merge
from reelmill.benchmarks.cases import (
    ENTITY_ALIGNMENT,
    LATE_INTERACTION,
    SYNONYMS,
    TOKEN_MERGE,
    EntityAlignmentCase,
    LateInteractionCase,
    SynonymsCase,
    TokenMergeCase,
)
from reelmill.benchmarks.kernels import BenchKernelsConfig, bench_kernels
from reelmill.kernels import align_entities, match_tokens, merge_tokens, synonym_cross_entropy
from reelmill.kernels import late_interaction as late_interaction_op
from reelmill.kernels.ahead import Compiled
from reelmill.kernels.late_interaction.ahead import launches
from reelmill.shards.errors import ReelmillError, UsageError

CPU = torch.device("cpu")
CASES = (
    LateInteractionCase(name="even", videos=3, frames=4, lengths=(3, 3), width=8),
    LateInteractionCase(name="ragged", videos=3, frames=4, lengths=(3, 1, 5), width=8, masked=True),
)
MERGE_CASES = (
    TokenMergeCase(name="plain", images=3, tokens=12, width=5, r=3, metric_width=8),
    TokenMergeCase(name="residual", images=3, tokens=13, width=5, r=6, metric_width=8, residual=True),
)
SYNONYM_CASES = (
    SynonymsCase(name="own", videos=3, lengths=(3, 3), width=8, negative_synonyms=2),
    SynonymsCase(name="none", videos=3, lengths=(3, 1, 5), width=8),
)
ALIGNMENT_CASES = (
    EntityAlignmentCase(name="noise", regions=30, entities=40, width=8),
    EntityAlignmentCase(name="learned", regions=30, entities=40, width=8, noise=False, learned=True),
)
SMALL: dict[str, tuple[Any, ...]] = {
    "late_interaction": CASES,
    "synonym_cross_entropy": SYNONYM_CASES,
    "match_tokens": MERGE_CASES,
    "token_merge": MERGE_CASES,
    "entity_alignment": ALIGNMENT_CASES,
}


@pytest.fixture(autouse=True)
def small_cases(monkeypatch):
    for op, cases in SMALL.items():
        monkeypatch.setitem(kernels.OPS, op, replace(kernels.OPS[op], cases=cases))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_eager_late_interaction_computes_the_same(case):
    inputs = late_interaction.make_inputs(case, torch.float64, CPU)
    want_BC = late_interaction_op(
        inputs.video_BVD, inputs.text_PD, inputs.segments, video_mask_BV=inputs.valid_BV, impl="reference"
    )
    torch.testing.assert_close(late_interaction.eager(inputs), want_BC)


@pytest.mark.parametrize("case", MERGE_CASES, ids=lambda case: case.name)
def test_the_eager_token_merge_computes_the_same(case):
    inputs = token_merge.make_inputs(case, torch.float64, CPU)
    matching = match_tokens(inputs.metric_BNK, case.r, impl="reference")
    want_BMD, _ = merge_tokens(
        inputs.x_BND, matching, size_BN=inputs.size_BN, residual_BND=inputs.residual_BND, impl="reference"
    )
    torch.testing.assert_close(token_merge.eager(inputs), want_BMD)


@pytest.mark.parametrize("case", SYNONYM_CASES, ids=lambda case: case.name)
def test_the_other_ways_to_a_synonym_loss_compute_the_same(case):
    inputs = synonym_similarity.make_inputs(case, torch.float64, CPU)
    want_B = synonym_cross_entropy(
        inputs.video_BD, inputs.text_PD, inputs.segments, inputs.target_B, scale=inputs.scale, reduction="none",
        negative_PD=inputs.negative_ND, negative_offsets=inputs.negative_segments, impl="reference",
    )  # fmt: skip
    for way in (synonym_similarity.eager, *synonym_similarity.peers(case).values()):
        torch.testing.assert_close(way(inputs), want_B)


def test_a_wrong_synonym_loss_gets_no_time(monkeypatch):
    for case in SYNONYM_CASES:
        inputs = synonym_similarity.make_inputs(case, torch.float32, CPU)
        synonym_similarity.verify(case, inputs)
        right = synonym_similarity.fused
        with monkeypatch.context() as patch:
            patch.setattr(synonym_similarity, "fused", lambda inputs, right=right: right(inputs) * (1 + 1e-5))
            with pytest.raises(ReelmillError, match=r"synonym_cross_entropy, .*: .* must err at most .*, got"):
                synonym_similarity.verify(case, inputs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_line_per_case_and_version(tmp_path, capsys, dtype):
    results = tmp_path / "kernels.jsonl"
    threads = torch.get_num_threads()
    assert bench_kernels(BenchKernelsConfig(dtype=dtype, repeats=3, threads=1, results=results)) == 0
    assert torch.get_num_threads() == threads
    records = [json.loads(line) for line in results.read_text().splitlines()]
    shown = [(record["op"], record["case"]["name"], record["version"]) for record in records]
    versions = {"none": ("reelmill", "eager", "native")}
    assert shown == [
        (op, case.name, version)
        for op, cases in SMALL.items()
        for case in cases
        for version in versions.get(case.name, ("reelmill", "eager"))
    ]
    for record in records:
        assert (record["bench"], record["dtype"]) == ("kernels", dtype)
        assert (record["threads"], record["repeats"]) == (1, 3)
        assert record["versions"]["torch"] == torch.__version__
        runs = ("forward",) if record["op"] == "match_tokens" else ("forward", "training")
        assert ("training_p50_ms" in record) == ("training" in runs)
        for what in runs:
            assert 0 < record[f"{what}_p20_ms"] <= record[f"{what}_p50_ms"] <= record[f"{what}_p80_ms"]
            kept = record[f"{what}_peak_bytes"] - record[f"{what}_extra_bytes"]
            assert record[f"{what}_extra_bytes"] > 0
            assert (kept > 0) == (what == "training")
        if record["version"] == "eager":
            assert all(record[f"{what}_speedup"] == 1 for what in runs)
    printed = capsys.readouterr().out
    assert "late_interaction, ragged, reelmill" in printed
    assert "match_tokens, plain, reelmill" in printed


def test_a_wrong_operation_gets_no_time(monkeypatch, tmp_path):
    inputs = late_interaction.make_inputs(CASES[0], torch.float32, CPU)
    late_interaction.verify(CASES[0], inputs)
    right = late_interaction.fused
    monkeypatch.setattr(late_interaction, "fused", lambda inputs: right(inputs) * (1 + 1e-5))
    with pytest.raises(ReelmillError, match=r"late_interaction, even: scores must err at most .*e-\d+, got .*e-\d+"):
        late_interaction.verify(CASES[0], inputs)
    results = tmp_path / "kernels.jsonl"
    with pytest.raises(ReelmillError, match="late_interaction, even: scores must err at most"):
        bench_kernels(BenchKernelsConfig(repeats=3, results=results))
    assert not results.exists()


def test_a_wrong_matching_or_merging_gets_no_time(monkeypatch):
    case = MERGE_CASES[1]
    inputs = token_merge.make_inputs(case, torch.float32, CPU)
    token_merge.verify(case, inputs)
    right = token_merge.fused
    monkeypatch.setattr(token_merge, "fused", lambda inputs: right(inputs) * (1 + 1e-5))
    with pytest.raises(ReelmillError, match=r"token_merge, residual: tokens must err at most .*e-\d+, got .*e-\d+"):
        token_merge.verify(case, inputs)
    monkeypatch.setattr(token_merge, "fused_match", lambda inputs: match_tokens(-inputs.x_BND, inputs.r))
    with pytest.raises(ReelmillError, match=r"match_tokens, residual: similarity must err at most .*, got"):
        token_merge.verify_match(case, inputs)


@pytest.mark.parametrize("case", ALIGNMENT_CASES, ids=lambda case: case.name)
def test_the_eager_entity_alignment_computes_the_same(monkeypatch, case):
    inputs = entity_alignment.make_inputs(case, torch.float64, CPU)
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda noise: noise.fill_(1.0))  # of which the Gumbel noise is 0
    want_RD, _ = align_entities(inputs.region_RD, inputs.entity_KD, scale=entity_alignment.SCALE, impl="reference")
    found_RD = entity_alignment.eager(inputs)
    torch.testing.assert_close(found_RD, want_RD)
    for mine, want in zip(
        *(torch.autograd.grad(rows_RD, inputs.leaves, inputs.upstream) for rows_RD in (found_RD, want_RD)), strict=True
    ):
        torch.testing.assert_close(mine, want)


@pytest.mark.parametrize(
    ("case", "wrong"), list(zip(ALIGNMENT_CASES, ("region gradient", "entity gradient"), strict=True))
)
def test_a_wrong_alignment_gets_no_time(monkeypatch, case, wrong):
    inputs = entity_alignment.make_inputs(case, torch.float32, CPU)
    entity_alignment.verify(case, inputs)

    def faulty(region_RD, entity_KD, **options):
        side = {"region gradient": region_RD, "entity gradient": entity_KD}[wrong]
        bent = side.detach() + (side - side.detach()) * (1 + 1e-3)  # the same, but for its gradient
        sides = (bent, entity_KD) if wrong == "region gradient" else (region_RD, bent)
        return align_entities(*sides, **options)

    monkeypatch.setattr(entity_alignment, "align_entities", faulty)
    with pytest.raises(ReelmillError, match=rf"entity_alignment, {case.name}: {wrong} must err at most .*, got"):
        entity_alignment.verify(case, inputs)
    monkeypatch.setattr(
        entity_alignment, "align_entities", lambda *sides, **_: align_entities(*sides, scale=1.0, seed=9)
    )
    with pytest.raises(ReelmillError, match=rf"entity_alignment, {case.name}: best logit must err at most .*, got"):
        entity_alignment.verify(case, inputs)


def test_every_case_fits_its_machine():
    assert len({case.name for case in LATE_INTERACTION}) == len(LATE_INTERACTION)
    on_cpu = [case for case in LATE_INTERACTION if not case.gpu_only]
    assert on_cpu
    assert sum(case.flops for case in on_cpu) < 6e9
    assert len({case.name for case in ENTITY_ALIGNMENT}) == len(ENTITY_ALIGNMENT)
    products = [case.regions * case.entities * case.width for case in ENTITY_ALIGNMENT if not case.gpu_only]
    assert max(products) < 6e9
    assert len({case.name for case in TOKEN_MERGE}) == len(TOKEN_MERGE)
    assert max(case.images * case.tokens * case.width for case in TOKEN_MERGE if not case.gpu_only) < 1e7
    assert len({case.name for case in SYNONYMS}) == len(SYNONYMS)
    assert max(sum(case.lengths) * case.width for case in SYNONYMS if not case.gpu_only) < 1e7


def test_compile_only_fails_when_one_kernel_spills(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    good = Compiled(registers=200, stack_bytes=0, shared_bytes=1024, tensor_core_instructions=4)
    spilled = Compiled(registers=255, stack_bytes=8, shared_bytes=1024, tensor_core_instructions=4)
    name, dtype, launch = next(launches(90))
    for op in kernels.OPS:
        plans = [(name, dtype, launch)] if op == "late_interaction" else []
        monkeypatch.setitem(
            kernels.OPS, op, replace(kernels.OPS[op], launches=partial(lambda plans, arch: plans, plans))
        )
    monkeypatch.setattr(kernels, "compile_ahead", lambda launch, arch: good)
    results = tmp_path / "compiled.jsonl"
    assert bench_kernels(BenchKernelsConfig(compile_only=True, results=results)) == 0
    monkeypatch.setattr(kernels, "compile_ahead", lambda launch, arch: spilled if arch == 100 else good)
    assert bench_kernels(BenchKernelsConfig(compile_only=True, results=results)) == 1
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(record["arch"], record["stack_bytes"], len(record["wrong"])) for record in records] == [
        (80, 0, 0), (90, 0, 0), (100, 0, 0), (80, 0, 0), (90, 0, 0), (100, 8, 1),
    ]  # fmt: skip
    for record in records:
        assert (record["op"], record["kernel"], record["dtype"]) == ("late_interaction", name, "bfloat16")
        assert (record["shared_bytes"], record["tensor_core_instructions"]) == (1024, 4)
        assert record["triton"] == triton.__version__
    printed = capsys.readouterr().out
    assert f"late_interaction sm_100 bfloat16: {name}" in printed
    assert "WRONG: spills 8 bytes of registers per thread, must spill none" in printed
    assert "1 of 3" in printed


def test_memory_is_counted_to_the_byte():
    leaf = torch.zeros(1, requires_grad=True)

    def run():
        large = torch.empty(1 << 20, dtype=torch.uint8)
        small = torch.empty(1 << 19, dtype=torch.uint8)
        del large
        leaf.grad = torch.empty(1 << 10).sum()[None]
        del small

    for _ in range(2):  # a gradient of the run before counts in neither
        assert kernels.memory(run, [leaf], CPU) == ((1 << 20) + (1 << 19), 4)


def test_compile_only_refuses_the_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UsageError, match="--compile-only needs Triton's compiler: unset TRITON_INTERPRET"):
        bench_kernels(BenchKernelsConfig(compile_only=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ops": ("softmax",)},
            "ops must be some of late_interaction, .*, match_tokens, token_merge, entity_alignment; got softmax",
        ),
        (
            {"ops": ()},
            "ops must be some of late_interaction, .*, match_tokens, token_merge, entity_alignment; got none",
        ),
        ({"repeats": 2}, "repeats must be >= 3, got 2"),
        ({"threads": -1}, "threads must be >= 0, got -1"),
    ],
)
def test_wrong_options_are_named(change, message):
    with pytest.raises(UsageError, match=message):
        BenchKernelsConfig(**change)
