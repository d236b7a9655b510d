"""What this machine has, what is missing, and how to get it."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")
ENCODERS = ("mjpeg", "libx264")
SCRATCH_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    advice: str = ""
    """What to do; empty where all is well."""
    needed: bool = False
    """Nothing works without it."""


def examine() -> list[Finding]:
    """Look at everything; a check that fails is a finding, not an error."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "gpu": _gpu,
        "dali": _dali,
        "triton": _triton,
        "codecs": _codecs,
        "ray": _ray,
        "open_clip": _open_clip,
        "disk": _disk,
    }
    findings = []
    for name, check in checks.items():
        try:
            findings.append(check())
        except Exception as error:  # whatever a broken install raises is what the person needs to read
            said = f"{type(error).__name__}: {error}"
            findings.append(Finding(name, f"broken: {said:.200}", "run ./run again, or pip install reelmill", True))
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    wrong = not (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Finding("python", f"{version}, {os.cpu_count()} CPUs", "needs 3.11 or 3.12" if wrong else "", wrong)


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        build = "CUDA" if torch.version.cuda else "CPU"
        return Finding("gpu", f"none (torch {torch.__version__}, a {build} build): every path runs on the CPU")
    device = torch.cuda.get_device_properties(0)
    return Finding("gpu", f"{torch.cuda.device_count()} x {device.name}, {device.total_memory >> 30} GiB")


def _dali() -> Finding:
    import nvidia.dali as dali
    from nvidia.dali import Pipeline, fn

    with Pipeline(batch_size=1, num_threads=1, device_id=None) as pipe:
        pipe.set_outputs(fn.constant(idata=1))
    pipe.build()
    pipe.run()
    return Finding("dali", f"{dali.__version__}, a CPU graph runs")


def _triton() -> Finding:
    version = importlib.metadata.version("triton")
    import torch

    where = "kernels compile at first use" if torch.cuda.is_available() else "no GPU: kernels run in its interpreter"
    return Finding("triton", f"{version}, {where}")


def _codecs() -> Finding:
    import av

    missing = [name for name in DECODERS if name not in av.codecs_available]
    missing += [name for name in ENCODERS if name not in av.codecs_available]
    advice = f"install the PyAV wheel, whose FFmpeg has {', '.join(missing)}" if missing else ""
    present = ", ".join(name for name in DECODERS if name not in missing)
    return Finding("codecs", f"PyAV {av.__version__}: {present}", advice, True)


def _ray() -> Finding:
    version = importlib.metadata.version("ray")
    shared_bytes = shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else 0
    advice = "give /dev/shm at least 1 GB, or Ray spills to disk" if shared_bytes < 1_000_000_000 else ""
    return Finding("ray", f"{version}, /dev/shm {shared_bytes / 1e9:.1f} GB", advice)


def _open_clip() -> Finding:
    return Finding("open_clip", importlib.metadata.version("open_clip_torch"))


def _disk() -> Finding:
    free_bytes = shutil.disk_usage(".").free
    advice = "free space: a demo needs about 2 GB with Ray's scratch" if free_bytes < SCRATCH_BYTES else ""
    return Finding("disk", f"{free_bytes / 1e9:.1f} GB free here", advice)
