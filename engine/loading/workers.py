"""Videos that nobody vouches for are decoded in child processes, within limits on CPU time, memory and the clock.

A decoder that crashes or hangs takes its process along and nothing else: another one takes its place, and the sample
is decoded again. A request is a JSON line; the video, its packet table and the frames that come back lie in memory that
both sides see, of which the parent believes nothing but its size.
"""

import json
import math
import os
import queue
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...shards.errors import DamageError, ReelmillError
from ...shards.table import Packets
from ..media.limits import MAX_PIXELS, task_memory_bytes
from .config import LoaderConfig
from .meter import Meter
from .sampling import View

TRIES = 2
"""Processes that one sample may end before it counts as bad."""
START_SECONDS = 60.0
"""That a process may take before it is ready."""
MAX_REPLY_BYTES = 1 << 20
READ_BYTES = 1 << 16
DTYPES: dict[str, Any] = {"uint8": np.uint8, "float32": np.float32}


class Workers:
    """`config.workers` processes that decode; `decode` is called from several threads.

    Args:
        config: of the loader.
        meter: counts what is decoded.
    """

    def __init__(self, config: LoaderConfig, meter: Meter) -> None:
        self._meter = meter
        self._children = [_Child(config) for _ in range(config.workers)]
        self._free: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        for child in self._children:
            self._free.put(child)
        self._end = weakref.finalize(self, _close, self._children)

    def decode(
        self, data: bytes, packets: Packets, views: Sequence[View], *, head: str, codec: str, rotation: int
    ) -> list[Any]:
        """Decode what the views of a video show; waits for a free process.

        Args:
            data: the whole video file.
            packets: its packet table.
            views: of it.
            head: "dali-cpu", else as `decode.decode_windows` decodes.
            codec: FFmpeg's name.
            rotation: degrees clockwise that turn a frame upright.

        Returns:
            Per view, (T, h, w, 3) uint8 in the size of its window; of dali-cpu (T, 3, size, size) float32.

        Raises:
            DamageError: it does not decode, or ended two processes.
            ReelmillError: no process starts.
        """
        request = {"head": head, "codec": codec, "rotation": rotation, "views": [_plain(view) for view in views]}
        for _ in range(TRIES):
            child = self._free.get()
            try:
                child.start()
                with self._meter.decoding(head, len(data)):
                    return child.call(request, data, packets)
            except _DiedError as error:
                died = error
            finally:
                self._free.put(child)
        if died.starting:
            raise ReelmillError(f"{TRIES} decoding processes in turn did not start, the last one {died}")
        raise DamageError(f"it ended {TRIES} decoding processes, the last one {died}")

    def close(self) -> None:
        """End the processes."""
        self._end()


class _DiedError(Exception):
    """A process is gone, or had to be ended; the text goes on from "the process"."""

    starting = False
    """Before it was asked anything."""


class _Child:
    """One process, and another one in its place after it died."""

    def __init__(self, config: LoaderConfig) -> None:
        self._setup = {name: value for name, value in asdict(config).items() if name in SETUP}
        self._seconds = config.sample_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._memory = -1

    def start(self) -> None:
        """Have a process that waits to be asked."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is not None:
            return
        self._memory = os.memfd_create("reelmill-worker")
        self._process = subprocess.Popen(
            _command(self._memory, self._seconds, self._setup),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._memory,),
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each of its threads takes address space
        )
        try:
            self._reply(self._process, START_SECONDS)
        except _DiedError as error:
            error.starting = True
            raise

    def call(self, request: dict[str, Any], data: bytes, packets: Packets) -> list[Any]:
        """What it decodes; it must have been started."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        table = [packets.offset, packets.size, packets.pts, packets.shown, packets.keyframe]
        place = 0
        for piece in (data, *(column.tobytes() for column in table)):
            place += _write(self._memory, memoryview(piece), place)
        try:
            line = json.dumps(request | {"bytes": len(data), "packets": len(packets)}).encode()
            process.stdin.write(line + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._gone(process) from None
        reply = self._reply(process, self._seconds)
        try:
            return self._found(reply, request)
        finally:
            if self._process is not None:
                os.ftruncate(self._memory, 0)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            os.close(self._memory)

    def _reply(self, process: "subprocess.Popen[bytes]", seconds: float) -> dict[str, Any]:
        """One line; waiting for it and its length have limits."""
        assert process.stdout is not None
        deadline, answer, poll = time.monotonic() + seconds, bytearray(), select.poll()
        poll.register(process.stdout, select.POLLIN)
        while not answer.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self.close()
                raise _DiedError(f"gave no answer in {seconds} s")
            piece = os.read(process.stdout.fileno(), READ_BYTES)
            if not piece:
                raise self._gone(process)
            answer += piece
            if len(answer) > MAX_REPLY_BYTES:
                self.close()
                raise _DiedError(f"answered with more than {MAX_REPLY_BYTES} bytes")
        try:
            reply = json.loads(bytes(answer))
        except ValueError:
            reply = None
        if not isinstance(reply, dict):  # a decoder that was taken over may write anything
            self.close()
            raise _DiedError("answered nonsense")
        return reply

    def _gone(self, process: "subprocess.Popen[bytes]") -> _DiedError:
        process.kill()  # it may have closed its end and go on
        code = process.wait()
        self.close()
        return _DiedError(f"by signal {-code}" if code < 0 else f"with exit code {code}")

    def _found(self, reply: dict[str, Any], request: dict[str, Any]) -> list[Any]:
        if "error" in reply:
            raise DamageError(str(reply["error"]))
        try:
            dtype, shapes = DTYPES[reply["dtype"]], [tuple(map(int, shape)) for shape in reply["shapes"]]
            frames = [len(view["frames"]) for view in request["views"]]
            good = [
                len(shape) == 4 and min(shape) > 0 and shape[0] == t for shape, t in zip(shapes, frames, strict=True)
            ]
            pixels = max(math.prod(shape[1:]) for shape in shapes)
        except (KeyError, TypeError, ValueError):
            good, pixels = [False], 0
        if not all(good) or pixels > 3 * MAX_PIXELS:
            self.close()
            raise _DiedError("answered nonsense")
        found, place = [], 0
        for shape in shapes:
            array = np.empty(shape, dtype)
            if not _read_into(self._memory, array.data.cast("B"), place):
                self.close()
                raise _DiedError("answered with less than it said")
            place += array.nbytes
            found.append(array)
        return found


SETUP = ("size", "mean", "std", "dtype", "training", "colour_jitter", "grey")
"""Options that the graph of dali-cpu is made from."""


def _command(memory: int, seconds: float, setup: dict[str, Any]) -> list[str]:
    # -P: the working folder may hold what was downloaded, and no module comes from there
    command = [sys.executable, "-P", "-m", f"{__package__}.worker_child", str(memory), str(math.ceil(seconds))]
    return [*command, str(task_memory_bytes(MAX_PIXELS) >> 20), json.dumps(setup)]


def _plain(view: View) -> dict[str, Any]:
    return asdict(view) | {"frames": view.frames.tolist()}


def _close(children: Sequence[_Child]) -> None:
    for child in children:
        child.close()


def _write(descriptor: int, data: memoryview, place: int) -> int:
    done = 0
    while done < len(data):  # one call takes at most 2 GiB
        done += os.pwrite(descriptor, data[done:], place + done)
    return done


def _read_into(descriptor: int, data: memoryview, place: int) -> bool:
    done = 0
    while done < len(data):
        read = os.preadv(descriptor, [data[done:]], place + done)
        if not read:
            return False
        done += read
    return True
