"""The pytest plugin under which `bench peer-tests` runs the tests of late-interaction-kernels.

The peer's scorers are answered by another implementation: by reelmill's late interaction, or by the peer's own dense
reference. Where there is no GPU the device "cuda" is the CPU, and tests are not skipped for want of CUDA.

Q queries of S tokens, C documents of up to L tokens, K documents of one query, D width.
"""

import importlib
import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..kernels import Segments, late_interaction

PEER = "late_interaction_kernels"

Answer = Callable[[Tensor, Tensor, Tensor | None, Tensor | None, bool], Tensor]
"""Scores (Q, C) of queries (Q, S, D) and documents (C, L, D), their masks, and whether to normalise both."""


def reelmill_answer(
    query_QSD: Tensor, document_CLD: Tensor, mask_QS: Tensor | None, mask_CL: Tensor | None, normalize: bool
) -> Tensor:
    """MaxSim as one direction of late interaction, added up: masked tokens of a document are cut out of its class."""
    if normalize:  # unit vectors stay float32: rounded to 16 bits, other documents would win
        query_QSD, document_CLD = (
            torch.nn.functional.normalize(side.float(), dim=-1, eps=1e-12) for side in (query_QSD, document_CLD)
        )
    text_PD, lengths = document_CLD.flatten(0, 1), [document_CLD.shape[1]] * len(document_CLD)
    if mask_CL is not None:
        text_PD, lengths = document_CLD[mask_CL.bool()], mask_CL.bool().sum(1).tolist()
    some = [c for c, length in enumerate(lengths) if length]
    if not some:
        return torch.zeros(len(query_QSD), len(lengths), device=query_QSD.device)
    segments = Segments.from_lengths([lengths[c] for c in some], text_PD.device)
    scores_QC = late_interaction(
        query_QSD,
        text_PD,
        segments,
        video_mask_BV=None if mask_QS is None else mask_QS.bool(),
        weights=(1, 0),
        reduce="sum",
    )
    if len(some) == len(lengths):
        return scores_QC
    return scores_QC.new_zeros(len(query_QSD), len(lengths)).index_copy(
        1, torch.tensor(some, device=scores_QC.device), scores_QC
    )


def reference_answer(
    query_QSD: Tensor, document_CLD: Tensor, mask_QS: Tensor | None, mask_CL: Tensor | None, normalize: bool
) -> Tensor:
    """The same by the peer's dense reference."""
    reference = importlib.import_module(f"{PEER}.reference")
    scores_QC: Tensor = reference.maxsim_reference(query_QSD, document_CLD, mask_QS, mask_CL, normalize=normalize)
    return scores_QC


ANSWERS: dict[str, Answer] = {"reelmill": reelmill_answer, "reference": reference_answer}


class Scorers:
    """The peer's entry points with its arguments and shapes; wrong shapes go to its own, which refuse them."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.theirs: Any = importlib.import_module(f"{PEER}.autograd")
        self.their_maxsim, self.their_pairs = self.theirs.maxsim, self.theirs.maxsim_pairs

    def install(self) -> None:
        """Put them in the place of the peer's; its kernel without chunks, a test's yardstick, is its reference."""
        package: Any = importlib.import_module(PEER)
        for module in (self.theirs, package):
            module.maxsim, module.maxsim_pairs = self.maxsim, self.maxsim_pairs
        self.theirs._maxsim_cross = lambda *inputs: reference_answer(*inputs[:5])

    def maxsim(
        self,
        Q: Tensor,
        D: Tensor,
        q_mask: Tensor | None = None,
        d_mask: Tensor | None = None,
        *,
        normalize: bool = False,
        backward: str | None = None,
    ) -> Tensor:
        """(Q, C), or (Q, K) for documents (Q, K, L, D); a side without its first dimension has none in the scores."""
        if Q.shape[-1] != D.shape[-1] or (D.dim() == 4 and (Q.dim() != 3 or len(Q) != len(D))):
            refused: Tensor = self.their_maxsim(Q, D, q_mask, d_mask, normalize=normalize, backward=backward)
            return refused
        if D.dim() == 4:
            return torch.cat(list(self._rows(Q, D, q_mask, d_mask, normalize)))
        mask_QS, mask_CL = (mask if mask is None or mask.dim() == 2 else mask[None] for mask in (q_mask, d_mask))
        sides = Q if Q.dim() == 3 else Q[None], D if D.dim() == 3 else D[None]
        scores_QC = self.answer(*sides, mask_QS, mask_CL, normalize)
        return scores_QC[(slice(None) if Q.dim() == 3 else 0, slice(None) if D.dim() == 3 else 0)]

    def maxsim_pairs(
        self,
        Q: Tensor,
        D: Tensor,
        q_mask: Tensor | None = None,
        d_mask: Tensor | None = None,
        *,
        normalize: bool = False,
        backward: str | None = None,
    ) -> Tensor:
        """(Q,): the score of each query with the document of the same number."""
        if Q.dim() != 3 or D.dim() != 3 or len(Q) != len(D):
            refused: Tensor = self.their_pairs(Q, D, q_mask, d_mask, normalize=normalize, backward=backward)
            return refused
        mask_Q1L = None if d_mask is None else d_mask[:, None]
        return torch.cat(list(self._rows(Q, D[:, None], q_mask, mask_Q1L, normalize)))[:, 0]

    def _rows(
        self, Q: Tensor, D: Tensor, mask_QS: Tensor | None, mask_QKL: Tensor | None, normalize: bool
    ) -> Iterator[Tensor]:
        """(1, K) for each query: its documents are scored with no other query."""
        for q in range(len(Q)):
            mask_1S = None if mask_QS is None else mask_QS[q : q + 1]
            yield self.answer(Q[q : q + 1], D[q], mask_1S, None if mask_QKL is None else mask_QKL[q], normalize)


class CudaOnCpu(TorchFunctionMode):
    """What asks torch for the device "cuda" gets the CPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func` with the device renamed."""
        if func is Tensor.cuda:
            return args[0]
        renamed = {name: _renamed(value) for name, value in (kwargs or {}).items()}
        return func(*map(_renamed, args), **renamed)


def _renamed(value: Any) -> Any:
    return "cpu" if isinstance(value, str) and value.startswith("cuda") else value


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which implementation answers, and where the outcomes go."""
    parser.addoption("--answer", choices=list(ANSWERS), required=True)
    parser.addoption("--outcomes", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Replace the scorers before a test module imports them."""
    Scorers(ANSWERS[config.getoption("--answer")]).install()
    config.pluginmanager.register(Outcomes(config.getoption("--outcomes")))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lift what skips a test for want of CUDA."""
    for item in items:
        for node in item.listchain():
            node.own_markers[:] = [mark for mark in node.own_markers if not _wants_cuda(mark)]


def _wants_cuda(mark: pytest.Mark) -> bool:
    return mark.name in ("skip", "skipif") and "CUDA" in str(mark.kwargs.get("reason", ""))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Run a test on the CPU where there is no GPU."""
    if torch.cuda.is_available():
        return (yield)
    with CudaOnCpu():
        return (yield)


class Outcomes:
    """Writes what became of each test, by its id: passed, failed or skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of set-up, call and tear-down."""
        if report.when == "call" or report.outcome != "passed":
            self.found[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        """Write them all."""
        self.path.write_text(json.dumps(self.found))
