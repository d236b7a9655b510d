"""How fast the fused operations are beside eager PyTorch, and whether their kernels compile as they should.

B videos, V frames, C classes, P prompts of all classes, L prompts of the longest class, D width.
"""

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .. import console
from ..kernels import Segments, late_interaction
from ..kernels.ahead import compile_ahead, faults
from ..kernels.late_interaction.ahead import launches
from ..kernels.launch import ARCHITECTURES
from ..kernels.library import choose, interpreted
from ..shards.errors import ReelmillError, UsageError
from .cases import LATE_INTERACTION, LateInteractionCase
from .environment import RESULTS, append, capture

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CASES = {"late_interaction": LATE_INTERACTION}
LAUNCHES = {"late_interaction": launches}
RUNS = ("forward", "training")
"""Scores alone; scores and both gradients."""

WARM_UPS = 3
CACHE_BYTES = 1 << 28
"""More than the second-level cache of any GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchKernelsConfig:
    """Time the fused operations beside eager PyTorch; an operation that errs gets no time."""

    ops: tuple[str, ...] = tuple(CASES)
    """Operations to time or to compile: late_interaction."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the embeddings."""
    repeats: int = 20
    """Timed runs of each, taken in turns, >= 3."""
    threads: int = 0
    """CPU threads; 0 leaves it to torch."""
    compiled: bool = False
    """Also time torch.compile of the eager version; on a CPU this needs a C++ compiler."""
    compile_only: bool = False
    """Time nothing: compile every kernel for sm_80, sm_90 and sm_100, without a GPU; fail on spilled registers."""
    results: Path = RESULTS / "kernels.jsonl"
    """File to which one line per case and implementation is appended."""

    def __post_init__(self) -> None:
        unknown = [op for op in self.ops if op not in CASES]
        if unknown or not self.ops:
            raise UsageError(f"ops must be some of {', '.join(CASES)}; got {', '.join(self.ops) or 'none'}")
        if self.repeats < 3:
            raise UsageError(f"repeats must be >= 3, got {self.repeats}")
        if self.threads < 0:
            raise UsageError(f"threads must be >= 0, got {self.threads}")


def bench_kernels(config: BenchKernelsConfig) -> int:
    """`reelmill bench kernels`."""
    return _compile_every_kernel(config) if config.compile_only else _time_every_case(config)


class Inputs(NamedTuple):
    """Unit vectors of one case. The eager version gets its text padded, outside the time."""

    video_BVD: Tensor
    text_PD: Tensor
    text_CLD: Tensor
    segments: Segments
    valid_BV: Tensor | None
    present_CL: Tensor | None
    grad_BC: Tensor

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The same numbers in another dtype, as leaves of their own."""
        sides = {name: getattr(self, name) for name in ("video_BVD", "text_PD", "text_CLD")}
        return self._replace(**{name: side.detach().to(dtype).requires_grad_() for name, side in sides.items()})


Version = Callable[[Inputs], Tensor]


def make_inputs(case: LateInteractionCase, dtype: torch.dtype, device: torch.device) -> Inputs:
    """The same numbers on every machine."""
    random = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    segments = Segments.from_lengths(case.lengths)
    text_PD = unit(torch.randn(segments.total, case.width, generator=random), dim=-1)
    present_CL = torch.arange(segments.longest) < torch.tensor(case.lengths)[:, None]
    valid_BV = (torch.arange(case.videos * case.frames) % 4 != 3).view(case.videos, case.frames)
    return Inputs(
        video_BVD=unit(torch.randn(case.videos, case.frames, case.width, generator=random), dim=-1).to(device),
        text_PD=text_PD.to(device),
        text_CLD=torch.nn.utils.rnn.pad_sequence(list(torch.split(text_PD, list(case.lengths))), batch_first=True).to(
            device
        ),
        segments=segments.to(device),
        valid_BV=valid_BV.to(device) if case.masked else None,
        present_CL=None if present_CL.all() else present_CL.to(device),
        grad_BC=torch.randn(case.videos, len(case.lengths), generator=random).to(device),
    ).to(dtype)


def fused(inputs: Inputs) -> Tensor:
    """What reelmill runs."""
    return late_interaction(inputs.video_BVD, inputs.text_PD, inputs.segments, video_mask_BV=inputs.valid_BV)


def eager(inputs: Inputs) -> Tensor:
    """What one writes without it: AP-CLIP Eq. 4-6 over padded classes."""
    similarity_BCVL = torch.einsum("bvd,cld->bcvl", inputs.video_BVD, inputs.text_CLD)
    present_C1L = None if inputs.present_CL is None else inputs.present_CL[:, None]
    valid_B1V = None if inputs.valid_BV is None else inputs.valid_BV[:, None]
    to_text_BC = _mean(_hide(similarity_BCVL, present_C1L).amax(3), valid_B1V)
    valid_B1V1 = None if valid_B1V is None else valid_B1V[..., None]
    to_video_BC = _mean(_hide(similarity_BCVL, valid_B1V1).amax(2), inputs.present_CL)
    return 0.5 * (to_text_BC + to_video_BC)


def _hide(values: Tensor, kept: Tensor | None) -> Tensor:
    return values if kept is None else values.masked_fill(~kept, -torch.inf)


def _mean(values: Tensor, kept: Tensor | None) -> Tensor:
    return values.mean(-1) if kept is None else values.masked_fill(~kept, 0).sum(-1) / kept.sum(-1)


def verify(case: LateInteractionCase, inputs: Inputs) -> None:
    """Hold the op, with its gradients, to twice the error that eager makes in float32, and a last digit.

    Raises:
        ReelmillError: it errs more.
    """
    truth, theirs, mine = (
        _results(version, inputs.to(dtype))
        for version, dtype in ((eager, torch.float64), (eager, torch.float32), (fused, inputs.video_BVD.dtype))
    )
    for name, true, near, found in zip(("scores", "video gradient", "text gradient"), truth, theirs, mine, strict=True):
        error = (found.double() - true).abs().max().item()
        digit = torch.finfo(found.dtype).eps * true.abs().max().item()
        budget = 2 * (near.to(found.dtype).double() - true).abs().max().item() + digit
        if not error <= budget:
            raise ReelmillError(f"late_interaction, {case.name}: {name} must err at most {budget:.1e}, got {error:.1e}")


def _results(version: Version, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    scores_BC = version(inputs)
    torch.autograd.backward(scores_BC, inputs.grad_BC.to(scores_BC.dtype))
    text_grad = inputs.text_PD.grad
    if text_grad is None:
        padded_grad = inputs.text_CLD.grad
        assert padded_grad is not None
        text_grad = padded_grad.flatten(0, 1) if inputs.present_CL is None else padded_grad[inputs.present_CL]
    assert inputs.video_BVD.grad is not None
    return scores_BC.detach(), inputs.video_BVD.grad, text_grad


def measure(versions: Mapping[str, Version], inputs: Inputs, repeats: int) -> dict[str, dict[str, Any]]:
    """Median, 20th and 80th percentile of each version in milliseconds, taken in turns; on CUDA also peak bytes."""
    figures: dict[str, dict[str, Any]] = {name: {} for name in versions}
    for what in RUNS:
        runs = {
            name: functools.partial(_run, version, inputs, what == "training") for name, version in versions.items()
        }
        times_ms: dict[str, list[float]] = {name: [] for name in versions}
        for _ in range(WARM_UPS):
            for run in runs.values():
                run()
        for _ in range(repeats):
            for name, run in runs.items():
                times_ms[name].append(_milliseconds(run, inputs.video_BVD.device))
        for name, run in runs.items():
            fifths = statistics.quantiles(times_ms[name], n=5)
            p50_ms = statistics.median(times_ms[name])
            figures[name] |= {f"{what}_p20_ms": fifths[0], f"{what}_p50_ms": p50_ms, f"{what}_p80_ms": fifths[3]}
            figures[name][f"{what}_peak_bytes"] = _peak_bytes(run, inputs.video_BVD.device)
    for name in versions:
        for what in RUNS:
            figures[name][f"{what}_speedup"] = figures["eager"][f"{what}_p50_ms"] / figures[name][f"{what}_p50_ms"]
    return figures


def _run(version: Version, inputs: Inputs, training: bool) -> None:
    with torch.set_grad_enabled(training):
        scores_BC = version(inputs)
    if training:
        inputs.video_BVD.grad = inputs.text_PD.grad = inputs.text_CLD.grad = None
        torch.autograd.backward(scores_BC, inputs.grad_BC.to(scores_BC.dtype))


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


def _peak_bytes(run: Callable[[], None], device: torch.device) -> int | None:
    """Most memory that one run takes beside its inputs; None on a CPU."""
    if device.type == "cpu":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return int(torch.cuda.max_memory_allocated(device) - before)


def _time_every_case(config: BenchKernelsConfig) -> int:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    versions: dict[str, Version] = {"reelmill": fused, "eager": eager}
    if config.compiled:
        versions["compiled"] = torch.compile(eager)
    on_cuda = device.type == "cuda"
    cases = [(op, case) for op in config.ops for case in CASES[op] if on_cuda or not case.gpu_only]
    environment = capture()
    rows: list[tuple[str, str]] = []
    common: dict[str, Any] = {"bench": "kernels", "dtype": config.dtype, "repeats": config.repeats}
    with _threads(config.threads) as common["threads"], console.progress(len(cases), "cases") as bar:
        for op, case in cases:
            inputs = make_inputs(case, DTYPES[config.dtype], device)
            verify(case, inputs)
            for name, figures in measure(versions, inputs, config.repeats).items():
                impl = choose("auto", inputs.video_BVD) if name == "reelmill" else None
                which = {"op": op, "case": asdict(case), "version": name, "impl": impl}
                append(config.results, common | which | figures | environment)
                cells = [
                    f"{what} {figures[f'{what}_p50_ms']:.2f} ms (x{figures[f'{what}_speedup']:.2f})" for what in RUNS
                ]
                rows.append((f"{op}, {case.name}, {name}", ", ".join(cells)))
            bar.update()
    where = environment["machine"]["gpu"] or f"{environment['machine']['cpu']}, {common['threads']} threads"
    title = f"kernels in {config.dtype} on {where}: median (and speed beside eager)"
    console.table(title, [*rows, ("appended to", str(config.results))])
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
    plans = [(op, arch, *plan) for op in config.ops for arch in ARCHITECTURES for plan in LAUNCHES[op](arch)]
    rows: list[tuple[str, str]] = []
    faulty = 0
    with console.progress(len(plans), "kernels") as bar:
        for op, arch, name, dtype, launch in plans:
            compiled = compile_ahead(launch, arch)
            wrong = faults(compiled, dtype)
            faulty += bool(wrong)
            size = f"{compiled.registers} registers, {console.human_bytes(compiled.shared_bytes)} shared"
            kind = str(dtype).removeprefix("torch.")
            rows.append((f"{op} sm_{arch} {kind}: {name}", f"WRONG: {'; '.join(wrong)}" if wrong else size))
            bar.update()
    console.table("kernels, compiled ahead of time", [*rows, ("wrong", f"{faulty} of {len(plans)}")])
    return 1 if faulty else 0
