"""The child's side of `workers`; arguments: the shared memory, CPU seconds, memory in MB, options of the graph."""

import json
import math
import os
import resource
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...shards.table import Packets
from ..media import limits
from .config import LoaderConfig
from .decode import decode_windows
from .sampling import Colours, View

TABLE = (np.int64, np.int64, np.int64, np.bool_, np.bool_)


def _serve(memory: int, cpu_seconds: int, memory_mb: int, setup: dict[str, Any]) -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.MAX_WRITTEN_BYTES, limits.MAX_WRITTEN_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits.MAX_OPEN_FILES, limits.MAX_OPEN_FILES))
    decoder = _Decoder(setup)
    reply: dict[str, Any] = {"ready": True}
    while True:
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()
        line = sys.stdin.buffer.readline()
        if not line:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        budget = math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds
        resource.setrlimit(resource.RLIMIT_CPU, (budget, resource.RLIM_INFINITY))
        try:
            reply = _answer(memory, decoder, json.loads(line))
        except MemoryError:
            reply = {"error": f"needs more than {memory_mb} MB of memory"}
        except Exception as error:  # whatever a library raises on strange media is that medium's fault
            reply = {"error": str(error) or type(error).__name__}


class _Decoder:
    def __init__(self, setup: dict[str, Any]) -> None:
        self._config = LoaderConfig(global_batch=1, threads=1, **setup)
        self._graph: Any = None

    def __call__(self, head: str, data: bytes, packets: Packets, views: list[View], **video: Any) -> list[NDArray[Any]]:
        if head != "dali-cpu":
            return decode_windows(data, packets, views, **video)
        if self._graph is None:
            from .graph import VideoGraph  # DALI, which the other heads do not need

            self._graph = VideoGraph(self._config, decoder="cpu", max_views=len(views), convert=np.from_dlpack)
        found: list[NDArray[Any]] = self._graph.whole([data] * len(views), views)
        return found


def _read(memory: int, size: int) -> bytes:
    data = os.pread(memory, size, 0)
    while len(data) < size:  # one call takes at most 2 GiB
        data += os.pread(memory, size - len(data), len(data))
    return data


def _answer(memory: int, decoder: _Decoder, request: dict[str, Any]) -> dict[str, Any]:
    size, count = request["bytes"], request["packets"]
    data, place = _read(memory, size), size
    columns: list[Any] = []
    for dtype in TABLE:
        columns.append(np.frombuffer(os.pread(memory, count * np.dtype(dtype).itemsize, place), dtype))
        place += columns[-1].nbytes
    views = [
        View(**(view | {"frames": np.array(view["frames"], np.int64), "colours": Colours(**view["colours"])}))
        for view in request["views"]
    ]
    video = {"codec": request["codec"], "rotation": request["rotation"]}
    found = decoder(request["head"], data, Packets(*columns), views, **video)
    place = 0
    for array in found:
        left = np.ascontiguousarray(array).data.cast("B")
        while left:
            done = os.pwrite(memory, left, place)
            left, place = left[done:], place + done
    return {"dtype": found[0].dtype.name, "shapes": [array.shape for array in found]}


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
