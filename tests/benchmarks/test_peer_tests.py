"""The command runs a small package with the names of the peer, whose tests are ours."""

import json

import pytest
from reelmill.benchmarks import peer_tests
from reelmill.benchmarks.peer_tests import FILES, BenchPeerTestsConfig, bench_peer_tests
from reelmill.shards.errors import ReelmillError, UsageError

PACKAGE = "from .autograd import maxsim, maxsim_pairs\n"
AUTOGRAD = """
def maxsim(Q, D, q_mask=None, d_mask=None, *, normalize=False, backward=None):
    raise ValueError(f"refused: {tuple(D.shape)}")

maxsim_pairs = maxsim
_maxsim_cross = None
"""
REFERENCE = """
import torch

def maxsim_reference(Q, D, q_mask=None, d_mask=None, *, normalize=False):
    if normalize:
        Q, D = (torch.nn.functional.normalize(side, dim=-1) for side in (Q, D))
    scores = torch.einsum("qsd,cld->qcsl", Q.float(), D.float())
    if d_mask is not None:
        scores = scores.masked_fill(~d_mask[None, :, None], -torch.inf)
    best = scores.amax(3).clamp(min=0.0)
    return (best if q_mask is None else best * q_mask[:, None]).sum(2)
"""
CONFTEST = """
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.skip(reason="CUDA not available"))
"""
SHARED = """
import pytest
import torch
from late_interaction_kernels import maxsim, maxsim_pairs
from late_interaction_kernels.autograd import _maxsim_cross

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

Q = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [3.0, 0.0]]])
D = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[4.0, 3.0], [9.0, 9.0]], [[9.0, 9.0], [9.0, 9.0]]])
KEPT = torch.tensor([[True, True], [True, False], [False, False]])
"""
TESTS = {
    "test_forward.py": """
def test_masks():
    q_mask = torch.tensor([[True, True], [True, False]])
    scores = maxsim(Q.to("cuda"), D.cuda(), q_mask, KEPT)
    assert scores.tolist() == [[4, 10, 0], [2, 7, 0]]

def test_all_documents_are_masked():
    assert maxsim(Q, D, d_mask=KEPT & False).tolist() == [[0, 0, 0], [0, 0, 0]]

def test_one_query_and_one_document():
    assert maxsim(Q[0], D[0]).shape == ()
    assert maxsim(Q[0], D).tolist() == maxsim(Q, D)[0].tolist()

def test_normalised():
    torch.testing.assert_close(maxsim(Q, D, normalize=True), _maxsim_cross(Q, D, None, None, True, "auto"))

@pytest.mark.skip(reason="of its own")
def test_skipped():
    raise AssertionError
""",
    "test_kd_pairs_fast.py": """
def test_pairs():
    want = maxsim(Q, D[:2], d_mask=KEPT[:2]).diagonal()
    assert maxsim_pairs(Q, D[:2], d_mask=KEPT[:2]).tolist() == want.tolist()
    assert maxsim(Q, D[:2, None], d_mask=KEPT[:2, None]).tolist() == want[:, None].tolist()

def test_the_peer_refuses_shapes_itself():
    for scorer, documents in ((maxsim, D[:, None]), (maxsim_pairs, D), (maxsim_pairs, D[0])):
        with pytest.raises(ValueError, match="refused"):
            scorer(Q, documents)
""",
    "test_backward.py": """
def test_gradients():
    query = torch.zeros(1, 1, 2, device="cuda", requires_grad=True)
    maxsim(query + 1, D, d_mask=KEPT, backward="unified").sum().backward()
    assert query.grad.tolist() == [[[6.0, 3.0]]]

def test_that_nobody_passes():
    raise AssertionError
""",
}


@pytest.fixture
def write_peer(tmp_path):
    def write(**more):
        files = {f"tests/{name}": SHARED + TESTS.get(name, "def test_nothing():\n    pass\n") for name in FILES}
        files |= {"tests/conftest.py": CONFTEST, "late_interaction_kernels/__init__.py": PACKAGE}
        files |= {"late_interaction_kernels/autograd.py": AUTOGRAD, "PKG-INFO": "Name: peer\nVersion: 1.2.3\n"}
        files |= {"late_interaction_kernels/reference.py": REFERENCE} | more
        for name, text in files.items():
            path = tmp_path / "peer" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "peer"

    return write


def test_both_answers_are_counted_by_file(write_peer, tmp_path, capsys):
    source, results = write_peer(), tmp_path / "results.jsonl"
    before = sorted(source.rglob("*"))
    assert bench_peer_tests(BenchPeerTestsConfig(source=source, results=results)) == 0
    assert sorted(source.rglob("*")) == before
    record = json.loads(results.read_text())
    assert (record["peer"], record["passed"]) == ("1.2.3", {"reelmill": 9, "reference": 9})
    for answer in ("reelmill", "reference"):
        assert record["files"]["test_forward.py"][answer] == {"passed": 4, "failed": 0, "skipped": 1}
        assert record["not_passed"][answer] == [
            "tests/test_backward.py::test_that_nobody_passes",
            "tests/test_forward.py::test_skipped",
        ]
    printed = capsys.readouterr().out
    assert "reelmill passes 9, the reference 9 of 11" in printed
    assert "passes nowhere         tests/test_backward.py::test_that_nobody_passes" in printed


def test_fewer_passes_than_the_reference_fail(write_peer, tmp_path, capsys, monkeypatch):
    test = "tests/test_forward.py::test_of_the_reference_alone"
    outcomes = {"reelmill": {test: "failed"}, "reference": {test: "passed"}}
    monkeypatch.setattr(peer_tests, "_outcomes", lambda source, answer: outcomes[answer])
    results = tmp_path / "results.jsonl"
    assert bench_peer_tests(BenchPeerTestsConfig(source=write_peer(), results=results)) == 1
    assert json.loads(results.read_text())["passed"] == {"reelmill": 0, "reference": 1}
    assert f"passes by the reference alone  {test}" in capsys.readouterr().out


def test_a_folder_without_the_peer_is_refused(write_peer, tmp_path):
    want = r"source must be the unpacked source of late-interaction-kernels, .* has no .*/autograd\.py"
    with pytest.raises(UsageError, match=want):
        BenchPeerTestsConfig(source=tmp_path)
    (write_peer() / "tests" / "test_backward.py").unlink()
    with pytest.raises(UsageError, match=r"has no tests/test_backward\.py"):
        BenchPeerTestsConfig(source=tmp_path / "peer")


def test_tests_that_do_not_run_say_why(write_peer, tmp_path):
    source = write_peer(**{"tests/conftest.py": "raise OSError('no such luck')\n"})
    with pytest.raises(ReelmillError, match=r"the peer's tests must run, pytest ended with 4: (.|\n)*no such luck"):
        bench_peer_tests(BenchPeerTestsConfig(source=source, results=tmp_path / "results.jsonl"))
