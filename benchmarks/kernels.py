"""How fast the fused operations are beside eager PyTorch, and whether their kernels compile as they should."""

import contextlib
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .. import console
from ..kernels.ahead import compile_ahead, faults
from ..kernels.launch import ARCHITECTURES
from ..kernels.library import choose, interpreted
from ..shards.errors import UsageError
from . import entity_alignment, late_interaction, synonym_similarity, token_merge
from .compare import Version
from .environment import RESULTS, append, capture

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPS = {
    "late_interaction": late_interaction.COMPARISON,
    "synonym_cross_entropy": synonym_similarity.COMPARISON,
    "match_tokens": token_merge.MATCH_COMPARISON,
    "token_merge": token_merge.MERGE_COMPARISON,  # matching and merging
    "entity_alignment": entity_alignment.COMPARISON,
}

WARM_UPS = 3
CACHE_BYTES = 1 << 28
"""More than the second-level cache of any GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchKernelsConfig:
    """Time the fused operations beside eager PyTorch; an operation that errs gets no time."""

    ops: tuple[str, ...] = tuple(OPS)
    """Operations to time or to compile: late_interaction, synonym_cross_entropy, match_tokens, token_merge,
    entity_alignment."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the embeddings or tokens."""
    repeats: int = 20
    """Timed runs of each, taken in turns, >= 3."""
    threads: int = 0
    """CPU threads; 0 leaves it to torch."""
    compiled: bool = False
    """Also time torch.compile of the eager version; on a CPU this needs a C++ compiler."""
    compile_only: bool = False
    """Time nothing: compile every kernel for sm_80, sm_90 and sm_100, without a GPU; fail on spilled registers."""
    results: Path | None = None
    """File to which lines are appended, one per case and implementation: kernels.jsonl among the committed results; one
    per kernel with --compile-only: kernels_compiled.jsonl."""

    def __post_init__(self) -> None:
        unknown = [op for op in self.ops if op not in OPS]
        if unknown or not self.ops:
            raise UsageError(f"ops must be some of {', '.join(OPS)}; got {', '.join(self.ops) or 'none'}")
        if self.repeats < 3:
            raise UsageError(f"repeats must be >= 3, got {self.repeats}")
        if self.threads < 0:
            raise UsageError(f"threads must be >= 0, got {self.threads}")


def bench_kernels(config: BenchKernelsConfig) -> int:
    """`reelmill bench kernels`."""
    return _compile_every_kernel(config) if config.compile_only else _time_every_case(config)


def measure(
    versions: Mapping[str, Version], inputs: Any, runs_of_op: Sequence[str], repeats: int
) -> dict[str, dict[str, Any]]:
    """Median, 20th and 80th percentile of each version in milliseconds, taken in turns, and what memory it takes.

    "peak_bytes" is the most that one run holds beside its inputs, "extra_bytes" that without the gradients it gives.
    """
    figures: dict[str, dict[str, Any]] = {name: {} for name in versions}
    device = inputs.upstream.device
    for what in runs_of_op:
        runs = {
            name: functools.partial(_run, version, inputs, what == "training") for name, version in versions.items()
        }
        times_ms: dict[str, list[float]] = {name: [] for name in versions}
        for _ in range(WARM_UPS):
            for run in runs.values():
                run()
        for _ in range(repeats):
            for name, run in runs.items():
                times_ms[name].append(_milliseconds(run, device))
        for name, run in runs.items():
            fifths = statistics.quantiles(times_ms[name], n=5, method="inclusive")
            p50_ms = statistics.median(times_ms[name])
            figures[name] |= {f"{what}_p20_ms": fifths[0], f"{what}_p50_ms": p50_ms, f"{what}_p80_ms": fifths[3]}
            peak, kept = memory(run, inputs.leaves, device)
            figures[name] |= {f"{what}_peak_bytes": peak, f"{what}_extra_bytes": peak - kept}
    for name in versions:
        for what in runs_of_op:
            figures[name][f"{what}_speedup"] = figures["eager"][f"{what}_p50_ms"] / figures[name][f"{what}_p50_ms"]
    return figures


def _run(version: Version, inputs: Any, training: bool) -> None:
    with torch.set_grad_enabled(training):
        result = version(inputs)
    if training:
        for leaf in inputs.leaves:
            leaf.grad = None
        torch.autograd.backward(result, inputs.upstream.to(result.dtype))


def _milliseconds(run: Callable[[], None], device: torch.device) -> float:
    if device.type == "cpu":
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)
    torch.empty(CACHE_BYTES, dtype=torch.uint8, device=device).zero_()  # leaves nothing of the last run in the cache
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def memory(run: Callable[[], None], leaves: Sequence[Tensor], device: torch.device) -> tuple[int, int]:
    """Bytes of tensors that one run holds at its height, beside its inputs, and those that it leaves: its gradients.

    On a CPU each block that torch takes or gives back is counted by its profiler, exactly; what a library below torch
    takes for itself is not seen.
    """
    for leaf in leaves:
        leaf.grad = None
    if device.type == "cpu":
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=False
        ) as profiler:
            run()
        events = profiler.profiler.kineto_results.events()
        held = list(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]"))
        return max(held), held[-1]
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before, torch.cuda.memory_allocated(device) - before


def _time_every_case(config: BenchKernelsConfig) -> int:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_cuda = device.type == "cuda"
    cases = [(op, case) for op in config.ops for case in OPS[op].cases if on_cuda or not case.gpu_only]
    environment, results = capture(), config.results or RESULTS / "kernels.jsonl"
    rows: list[tuple[str, str]] = []
    common: dict[str, Any] = {"bench": "kernels", "dtype": config.dtype, "repeats": config.repeats}
    with _threads(config.threads) as common["threads"], console.progress(len(cases), "cases") as bar:
        for op, case in cases:
            comparison = OPS[op]
            inputs = comparison.make_inputs(case, DTYPES[config.dtype], device)
            comparison.verify(case, inputs)
            versions: dict[str, Version] = {"reelmill": comparison.fused, "eager": comparison.eager}
            versions |= comparison.peers(case)
            if config.compiled:
                versions["compiled"] = torch.compile(comparison.eager)
            for name, figures in measure(versions, inputs, comparison.runs, config.repeats).items():
                impl = choose("auto", inputs.leaves[0]) if name == "reelmill" else None
                which = {"op": op, "case": asdict(case), "version": name, "impl": impl}
                append(results, common | which | figures | environment)
                cells = [
                    f"{what} {figures[f'{what}_p50_ms']:.2f} ms (x{figures[f'{what}_speedup']:.2f})"
                    for what in comparison.runs
                ]
                rows.append((f"{op}, {case.name}, {name}", ", ".join(cells)))
            bar.update()
    where = environment["machine"]["gpu"] or f"{environment['machine']['cpu']}, {common['threads']} threads"
    title = f"kernels in {config.dtype} on {where}: median (and speed beside eager)"
    console.table(title, [*rows, ("appended to", str(results))])
    return 0


@contextlib.contextmanager
def _threads(count: int) -> Iterator[int]:
    """Let torch use `count` threads, or as many as it did for 0; gives their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield count or before
    finally:
        torch.set_num_threads(before)


def _compile_every_kernel(config: BenchKernelsConfig) -> int:
    if interpreted():
        raise UsageError("--compile-only needs Triton's compiler: unset TRITON_INTERPRET")
    plans = [(op, arch, *plan) for op in config.ops for arch in ARCHITECTURES for plan in OPS[op].launches(arch)]
    environment, results = capture(), config.results or RESULTS / "kernels_compiled.jsonl"
    where = {"triton": environment["versions"]["triton"], "commit": environment["commit"], "date": environment["date"]}
    rows: list[tuple[str, str]] = []
    faulty = 0
    with console.progress(len(plans), "kernels") as bar:
        for op, arch, name, dtype, launch in plans:
            compiled = compile_ahead(launch, arch)
            wrong = faults(compiled, dtype, launch.products)
            faulty += bool(wrong)
            size = f"{compiled.registers} registers, {console.human_bytes(compiled.shared_bytes)} shared"
            kind = str(dtype).removeprefix("torch.")
            which = {"bench": "kernels_compiled", "op": op, "kernel": name, "dtype": kind, "arch": arch}
            append(results, which | asdict(compiled) | {"wrong": wrong} | where)
            rows.append((f"{op} sm_{arch} {kind}: {name}", f"WRONG: {'; '.join(wrong)}" if wrong else size))
            bar.update()
    rows += [("wrong", f"{faulty} of {len(plans)}"), ("appended to", str(results))]
    console.table("kernels, compiled ahead of time", rows)
    return 1 if faulty else 0
