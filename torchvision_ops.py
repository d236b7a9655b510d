"""Let torchvision import beside a CPU build of torch, where its wheel's compiled operators do not load.

torchvision's wheel is built against CUDA; beside a CPU torch its library is skipped and the import stops at
`operator torchvision::nms does not exist`, because Python code attaches a fake to an operator that nobody defined.
open_clip needs only the transforms and FrozenBatchNorm2d, so the two operators that the import asks for are declared
(without a kernel: a call still fails loudly) and the import is made again. A build of torch with CUDA or ROCm, where
the real operators must exist, never takes this path.
"""

import importlib

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_keep_alive: list[torch.library.Library] = []  # an operator goes when the library object that declared it goes


def import_torchvision() -> None:
    """Import torchvision; where a CPU torch lacks its operators, declare them and import it again.

    Raises:
        RuntimeError: the import fails for any other reason, or on a build of torch for a GPU.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if not is_missing_operator(error, torch.version.cuda or torch.version.hip):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _keep_alive.append(library)
        importlib.import_module("torchvision")


def is_missing_operator(error: RuntimeError, gpu_version: str | None) -> bool:
    """Whether `error` is the known failure of torchvision's wheel beside a CPU torch.

    Args:
        error: what the import raised.
        gpu_version: of the CUDA or ROCm that torch was built for; None for a CPU build.
    """
    return gpu_version is None and "operator torchvision::nms does not exist" in str(error)
