"""Work on one untrusted video happens in a child process with limits on CPU time and memory.

A decoder that crashes, hangs or eats memory takes its child along and nothing else. Requests and replies are JSON
lines; the child knows only the functions that `child` lists. Limits count CPU time, not wall time, so that what
a video is found to be does not depend on how busy the machine is; a generous wall-clock guard covers a child that
sleeps.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

from ...shards.ledger import Reason
from ..errors import MediaError
from .limits import MAX_REPLY_BYTES

WALL_PER_CPU_SECOND = 10
WALL_GRACE_SECONDS = 60
READ_BYTES = 1 << 20


class Sandbox:
    """A child process that probes and transcodes; it starts on first use and again after it died."""

    def __init__(self, cpu_seconds: int, memory_mb: int) -> None:
        self._cpu_seconds, self._memory_mb = cpu_seconds, memory_mb
        self._child: subprocess.Popen[bytes] | None = None

    def call(self, name: str, **arguments: Any) -> Any:
        """Run one of the child's functions.

        Raises:
            MediaError: the function found the video unusable, or the child died of it.
            OSError: the disk refused what the function wrote.
        """
        child = self._start()
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps([name, arguments]).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        try:
            [(kind, value)] = json.loads(self._read_line(child)).items()
        except (ValueError, AttributeError):  # a decoder that was taken over may write anything
            raise self._end("crashed", "the decoder's process answered nonsense") from None
        if kind == "media":
            reason, detail = value
            raise MediaError(reason, detail)
        if kind == "os":
            raise OSError(*value)
        return value

    def _read_line(self, child: subprocess.Popen[bytes]) -> bytes:
        """The child's answer; waiting for it and its length have limits."""
        assert child.stdout is not None
        deadline = time.monotonic() + self._cpu_seconds * WALL_PER_CPU_SECOND + WALL_GRACE_SECONDS
        answer, poll = bytearray(), select.poll()
        poll.register(child.stdout, select.POLLIN)
        while not answer.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise self._end("limit", f"took more than {self._cpu_seconds} s of CPU time")
            piece = os.read(child.stdout.fileno(), READ_BYTES)
            if not piece:
                raise self._death()
            answer += piece
            if len(answer) > MAX_REPLY_BYTES:
                raise self._end("limit", f"what is found must fit {MAX_REPLY_BYTES} bytes")
        return bytes(answer)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.close()
        if self._child is None:
            # -P: the working folder may hold what was downloaded, and no module comes from there
            command = [sys.executable, "-P", "-m", f"{__package__}.child"]
            command += [str(self._cpu_seconds), str(self._memory_mb)]
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each of its threads takes address space
            )
        return self._child

    def _death(self) -> MediaError:
        """Why the child ended by itself."""
        assert self._child is not None
        try:
            code = self._child.wait(WALL_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return self._end("crashed", "the decoder's process stopped answering")
        self.close()
        if code == -signal.SIGXCPU:
            return MediaError("limit", f"took more than {self._cpu_seconds} s of CPU time")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return MediaError("crashed", f"the decoder ended its process: {name}")

    def _end(self, reason: Reason, detail: str) -> MediaError:
        """End a child that is no longer listened to."""
        self.close()
        return MediaError(reason, detail)
