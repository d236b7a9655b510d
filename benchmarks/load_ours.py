"""ClipLoader as a way of `reelmill bench load`: served from a process of its own, as its rivals are."""

import json
import os
import sys
import time
from typing import Any


def main(setup: dict[str, Any]) -> None:
    """Serve epochs; see `load_peers`."""
    os.sched_setaffinity(0, setup["cores"])  # before any thread starts
    from ..engine import ClipLoader, LoaderConfig

    config = LoaderConfig(
        global_batch=setup["batch"],
        frames=setup["frames"],
        size=setup["size"],
        training=False,
        threads=setup["threads"],
        workers=setup["workers"],
    )
    loader = ClipLoader(setup["dataset"], config)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    batches = iter(loader)
    first = next(batches).clips_BVTCHW[:, 0]
    batches.close()  # type: ignore[attr-defined]
    means = [float(clip.mean()) for clip in first]
    print(json.dumps({"means": means, "shape": list(first.shape)}), file=out, flush=True)
    for _ in sys.stdin:
        loader.set_epoch(0)
        start, clips = time.monotonic(), 0
        for batch in loader:
            clips += int(batch.valid_B.sum())
        print(json.dumps({"seconds": time.monotonic() - start, "clips": clips}), file=out, flush=True)
    loader.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
