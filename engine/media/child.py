"""The child's side of `sandbox`: arguments are CPU seconds and memory in MB; JSON lines in, JSON lines out."""

import json
import math
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

from ..errors import MediaError
from . import limits
from .look import look
from .remux import copy_span, remux
from .transcode import to_h264, to_intra

CALLS: dict[str, Callable[..., Any]] = {
    "look": look,
    "remux": remux,
    "copy_span": copy_span,
    "to_intra": to_intra,
    "to_h264": to_h264,
}
READERS = ("look",)  # they write nothing, so an OSError of theirs is the video's


def _serve(cpu_seconds: int, memory_mb: int) -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.MAX_WRITTEN_BYTES, limits.MAX_WRITTEN_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits.MAX_OPEN_FILES, limits.MAX_OPEN_FILES))
    for line in sys.stdin.buffer:
        name, arguments = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        budget = math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds
        resource.setrlimit(resource.RLIMIT_CPU, (budget, resource.RLIM_INFINITY))
        try:
            reply = {"value": CALLS[name](**arguments)}
        except MediaError as error:
            reply = {"media": [error.reason, error.detail]}
        except MemoryError:
            reply = {"media": ["limit", f"needs more than {memory_mb} MB of memory"]}
        except OSError as error:
            text = error.strerror or str(error)
            reply = {"media": ["unreadable", text]} if name in READERS else {"os": [error.errno, text, error.filename]}
        except Exception as error:  # whatever else a library raises on strange media is that medium's fault
            reply = {"media": ["crashed", f"{type(error).__name__}: {error}"]}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
