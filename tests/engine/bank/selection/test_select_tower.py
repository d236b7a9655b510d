"""`bank select` by a text tower, and the options of both ways."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import reelmill
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.bank.selection import select
from reelmill.engine.bank.selection.config import SelectConfig
from reelmill.engine.bank.texts.clip_text import open_clip_texts
from reelmill.shards.bank import Bank
from reelmill.shards.bank.files import read_record
from reelmill.shards.errors import UsageError


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def tower(tmp_path_factory) -> tuple[str, Path]:
    """A tiny text tower with random weights: which texts it prefers means nothing, but it does so always."""
    import torch
    from reelmill.torchvision_ops import import_torchvision

    import_torchvision()
    import open_clip

    models = Path(reelmill.__file__).parent / "train" / "model" / "configs"
    open_clip.add_model_config(models)
    name = next(models.glob("*.json")).stem
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tower") / "weights.pt"
    torch.save(open_clip.create_model(name, pretrained=None).state_dict(), path)
    return name, path


def test_a_text_tower_selects_too(tower, tmp_path, monkeypatch):
    name, weights = tower
    lines = [
        {"action": a, "text": f"{a} {n} {'long ' * (200 if n == 3 else 1)}"} for a in ("jump", "run") for n in range(9)
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    build_bank(BankBuildConfig(records=tmp_path / "r.jsonl", out=tmp_path / "bank", dedup="exact"))
    done = select.select(
        SelectConfig(bank=tmp_path / "bank", out=tmp_path / "out", model=name, weights=weights, top_k=4)
    )
    assert (done.descriptions, done.of, done.unscored, done.cut) == (8, 18, 0, 2)
    embed = open_clip_texts(name, weights)
    old, new = Bank.open(tmp_path / "bank"), Bank.open(tmp_path / "out")
    scores = [
        row
        for part in read_record(tmp_path / "out").parts
        for row in pq.read_table(tmp_path / "out" / part.table)["relevance"].to_pylist()
    ]
    assert all(-1 <= score <= 1 for score in scores)
    for action in old.actions:
        texts = old.descriptions(action.action_id)
        vectors, [target] = embed(texts), embed([action.canonical])
        cosine = vectors @ target / np.linalg.norm(vectors, axis=1) / np.linalg.norm(target)
        assert new.descriptions(action.action_id) == sorted(texts[n] for n in np.argsort(-cosine)[:4])
    before = files_of(tmp_path / "out")
    monkeypatch.setattr(select, "TOWER_PIECE_ROWS", 18)
    select.select(SelectConfig(bank=tmp_path / "bank", out=tmp_path / "two", model=name, weights=weights, top_k=4))
    assert files_of(tmp_path / "two") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "relevance must be by --vectors or by --model, got neither"),
        ({"vectors": Path("v"), "model": "m", "weights": Path("w")}, "by --vectors or by --model, got both"),
        ({"model": "m"}, "weights must be given exactly with --model, got None"),
        ({"vectors": Path("v"), "weights": Path("w")}, "weights must be given exactly with --model, got w"),
        ({"vectors": Path("v"), "top_k": 0}, "top_k must be > 0, got 0"),
        ({"vectors": Path("v"), "workers": -1}, "workers must be >= 0, got -1"),
        ({"vectors": Path("v"), "task_seconds": 0}, "task_seconds must be > 0, got 0"),
        ({"vectors": Path("v"), "out": Path("b")}, "out must be another folder than the bank b, got the same"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        SelectConfig(**{"bank": Path("b"), "out": Path("o")} | options)
