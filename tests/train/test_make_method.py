"""Methods made out of a config and a bank on disk."""

import json
from dataclasses import replace

import pytest
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.shards.bank import Bank
from reelmill.shards.bank.texts import write_rows
from reelmill.shards.errors import UsageError
from reelmill.train.config import AceConfig, ApClipConfig, CocoConfig
from reelmill.train.methods import make_method
from reelmill.train.model import VideoTextModel

CLASSES = ("push cup", "wave")


@pytest.fixture(scope="module")
def model(mini_model):
    return VideoTextModel.create(mini_model)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Two actions with two captions each, and the tables that ACE and CoCo read."""
    folder = tmp_path_factory.mktemp("bank")
    rows = [{"action": name, "text": f"how to {name} {n}", "source": "t"} for name in CLASSES for n in range(2)]
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_bank(BankBuildConfig(records=folder / "records.jsonl", out=folder / "bank", dedup="exact"))
    ids = [Bank.open(folder / "bank").find(name).action_id for name in CLASSES]
    by = {"source": "t", "prompt_hash": None}
    labels = [
        {"action_id": ids[0], "verb": "push", "object": "cup", "template": "{verb} {object}"},
        {"action_id": ids[1], "verb": "wave", "object": "", "template": "{verb}"},
    ]
    write_rows(folder / "bank", "verb_objects", labels)
    children = [("push", 0), ("shove", 1)]
    trees = [
        {"verb": "push", "order": 1, "parent": "push", "child": child, "position": n} | by for child, n in children
    ]
    write_rows(folder / "bank", "synonyms", trees)
    definitions = [{"action_id": n, "text": f"to {name}", "source": "t"} for n, name in zip(ids, CLASSES, strict=True)]
    write_rows(folder / "bank", "definitions", definitions)
    return folder / "bank"


def test_ace_reads_verbs_and_trees(bank, model, tiny_config):
    method = make_method(replace(tiny_config, bank=str(bank), method=AceConfig()), model)
    assert method.describe(CLASSES, training=False).strings == ("push cup", "shove cup", "wave")


def test_coco_reads_definitions_and_captions(bank, model, tiny_config):
    method = make_method(replace(tiny_config, bank=str(bank), method=CocoConfig(captions=2)), model)
    strings = method.describe(CLASSES, training=False).strings
    assert strings[:2] == ("push cup: to push cup", "wave: to wave")
    assert set(strings[2:4]) == {"how to push cup 0", "how to push cup 1"}
    method = make_method(replace(tiny_config, bank=str(bank), method=CocoConfig(captions=1)), model)
    with pytest.raises(UsageError, match="must have relevance for 1 to be chosen by it: `reelmill bank select` makes"):
        method.describe(CLASSES, training=False)
    drawn = CocoConfig(captions=1, choose="drawn", describe_by="captions")
    method = make_method(replace(tiny_config, bank=str(bank), method=drawn), model)
    assert len(method.describe(CLASSES, training=False).strings) == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AceConfig(), r"must be a bank with verb_objects.parquet, but it has none: `reelmill bank synonyms` makes it"),
        (CocoConfig(), "definitions.parquet, but it has none: `reelmill bank entities --definitions FILES` makes it"),
        (ApClipConfig(), r"must be a bank \(a folder with bank.json\) or a dataset that carries one"),
    ],
)
def test_a_bank_without_a_table_says_what_makes_it(bank, model, tiny_config, tmp_path, config, message):
    folder = tmp_path / "bank"
    folder.mkdir()
    if not isinstance(config, ApClipConfig):
        for path in bank.rglob("*"):
            if path.is_file() and path.name not in ("verb_objects.parquet", "definitions.parquet"):
                (folder / path.relative_to(bank)).parent.mkdir(exist_ok=True)
                (folder / path.relative_to(bank)).write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match=message):
        make_method(replace(tiny_config, bank=str(folder), method=config), model)
