"""A step learns the same however its videos are cut into batches and ranks, and its texts into chunks."""

import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

CHILD = Path(__file__).with_name("rank_child.py")
CASES: list[dict[str, Any]] = [
    {"ranks": ranks, "accumulate": accumulate, "chunk": chunk, "kind": kind, "text_learns": learns}
    for ranks, accumulate, chunk, kind, learns in (
        (2, 1, 100, "apart", "all"),
        (2, 4, 1, "apart", "all"),
        (4, 2, 100, "apart", "all"),
        (2, 1, 2, "coupled", "all"),
        (2, 4, 100, "coupled", "all"),
        (4, 2, 1, "coupled", "all"),
        (2, 2, 2, "apart", "projection"),
    )
]


@pytest.fixture(scope="module")
def gradients():
    """What the ranks run, in this process: one rank."""
    spec = importlib.util.spec_from_file_location("rank_child", CHILD)
    assert spec is not None
    assert spec.loader is not None
    child = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(child)
    return child.gradients


@pytest.fixture(scope="module")
def whole(gradients, mini_model):
    """One rank, one batch, one chunk of texts."""
    return {kind: gradients(mini_model.name, kind=kind) for kind in ("apart", "coupled")}


@pytest.fixture(scope="module")
def of_ranks(mini_model, tmp_path_factory):
    """The gradients that every rank of every case ended with."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = [case | {"model": mini_model.name, "folder": str(folder), "port": free_port()} for case in CASES]
    subprocess.run([sys.executable, str(CHILD), json.dumps(cases)], check=True, timeout=300)
    return [
        [load_file(folder / f"{number}-{rank}.safetensors") for rank in range(case["ranks"])]
        for number, case in enumerate(CASES)
    ]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def assert_same(found, wanted):
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-9, msg=f"{name} differs")


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(map(str, case.values())) for case in CASES])
def test_ranks_and_batches_add_up_to_one(of_ranks, whole, number):
    case = CASES[number]
    for found in of_ranks[number]:
        wanted = whole[case["kind"]]
        if case["text_learns"] == "projection":
            wanted = {name: value for name, value in wanted.items() if name in found}
            assert "model.clip.text_projection" in wanted
        assert found.keys() == wanted.keys()
        assert_same(found, wanted)


@pytest.mark.parametrize("kind", ["apart", "coupled"])
def test_batches_and_chunks_add_up_to_one(gradients, mini_model, whole, kind):
    found = gradients(mini_model.name, accumulate=4, kind=kind, chunk=2)
    assert found.keys() == whole[kind].keys()
    assert_same(found, whole[kind])


def test_the_step_counts_what_counts(whole):
    assert whole["apart"]["counted"] == 6  # of 8 videos one has no label and one no pixels of its own
    assert whole["apart"]["loss.classes"] > 0
    assert whole["coupled"].keys() >= {"loss.down", "loss.along"}


@pytest.mark.parametrize("learns", ["projection", "none"])
def test_text_that_does_not_learn_changes_nothing_else(gradients, mini_model, whole, learns):
    kept = {"projection": {"model.clip.text_projection"}, "none": set()}[learns]
    found = gradients(mini_model.name, text_learns=learns, chunk=2)
    text = {name for name in found if name.startswith("model.clip.") and ".visual." not in name}
    assert text == kept | {"model.clip.logit_scale"}
    assert_same(found, {name: value for name, value in whole["apart"].items() if name in found})
