"""The count of the text encoder's work, on the tiny model."""

import json

import pytest
from reelmill.benchmarks.text_cost import BenchTextConfig, bench_text
from reelmill.shards.errors import UsageError


def test_the_ratio_is_that_of_tokens_batches_and_ranks(tmp_path, capsys):
    results = tmp_path / "text.jsonl"
    config = BenchTextConfig(
        model="reelmill-tiny", classes=10, prompts=2, words=5, ranks=2, global_batch=16, rank_batch=2, results=results
    )
    assert bench_text(config) == 0
    line = json.loads(results.read_text())
    assert line["tokens"] == [24, 8]
    # 4 batches on each of 2 ranks; attention makes a long context cost a little more than its length
    assert 8 * 24 / 8 < line["ratio"] < 8 * 24 / 8 * 1.5
    assert "in every batch, 24 tokens" in capsys.readouterr().out

    small = BenchTextConfig(**{name: getattr(config, name) for name in config.__dataclass_fields__} | {"chunk": 3})
    assert bench_text(small) == 0
    chunked = json.loads(results.read_text().splitlines()[1])
    assert chunked["ratio"] == pytest.approx(line["ratio"] * 3 / 4)


def test_counts_must_be_positive():
    with pytest.raises(UsageError, match="ranks must be > 0, got 0"):
        BenchTextConfig(ranks=0)
