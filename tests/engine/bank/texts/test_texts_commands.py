"""`bank synonyms|prompts|subtexts|entities` on a real bank: tables, records, what is left out, and wrong usage."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from reelmill.__main__ import parse
from reelmill.engine.bank.names.labels import read_labels
from reelmill.engine.bank.records.add import add_to_bank
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankAddConfig, BankBuildConfig
from reelmill.engine.bank.texts import commands as texts_commands
from reelmill.engine.bank.texts.commands import bank_entities, bank_prompts, bank_subtexts, bank_synonyms
from reelmill.engine.bank.texts.config import EntitiesConfig, PromptsConfig, SubtextsConfig, SynonymsConfig
from reelmill.engine.bank.texts.prompts import normalise
from reelmill.engine.work import Work
from reelmill.shards.bank import Bank
from reelmill.shards.bank.files import check_files, read_record
from reelmill.shards.bank.texts import (
    SCHEMAS,
    read_entities,
    read_prompts,
    read_rows,
    read_subtexts,
    read_synonyms,
    read_verb_objects,
)
from reelmill.shards.errors import DamageError, UsageError

LABELS = ["BrushingTeeth", "ApplyLipstick", "push up", "kicking ball", "TableTennisShot", "fall floor"]


def make_bank(folder: Path, labels: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "labels.txt").write_text("\n".join(labels))
    (folder / "records.jsonl").write_text(json.dumps({"action": labels[0], "text": "Somebody does it."}) + "\n")
    out = folder / "bank"
    build_bank(BankBuildConfig(records=folder / "records.jsonl", out=out, labels=(folder / "labels.txt",)))
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_bank(tmp_path_factory.mktemp("bank"), LABELS)


@pytest.fixture
def bank(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bank"))


def left(bank: Path, table: str) -> list[tuple[str, str]]:
    lines = (bank / f"{table}.left.jsonl").read_text().splitlines()
    return [(row["about"], row["reason"]) for row in map(json.loads, lines)]


def test_the_starter_bank_fills_what_it_knows_and_the_rest_is_told(bank, capsys):
    assert [run(config(bank=bank)) for run, config in COMMANDS] == [0, 0, 0, 0]
    said = capsys.readouterr().out
    find = Bank.open(bank).find
    teeth, fall = find("BrushingTeeth").action_id, find("fall floor").action_id
    labels, trees = read_verb_objects(bank), read_synonyms(bank)
    assert labels[teeth].text("scrub") == "scrub teeth"
    assert len(labels) == len(LABELS)
    assert set(trees) == {"brush", "apply", "push up", "kick"}
    assert trees["kick"].children[:2] == ("kick", "boot")
    prompts, steps = read_prompts(bank), read_subtexts(bank)
    assert len(prompts) == len(steps) == 4
    assert {len(some) for some in prompts.values()} == {12}
    assert {(len(some.texts), some.tpp) for some in steps.values()} == {(4, None)}
    assert fall not in prompts
    things = {entity.name: entity for entity in read_entities(bank)}
    assert things["lipstick"].text == "lipstick: coloured stick in a small tube, drawn along the lips"
    assert things["elbow"].kind == "body part"
    assert things["table tennis shot"].description == ""
    assert left(bank, "prompts") == [("TableTennisShot", "no_source"), ("fall floor", "no_source")]
    assert "2 of 6 actions have no prompts (" in said
    assert "fill them with --from FILE or --generate --endpoint URL --model NAME" in said
    assert "2 of 6 verbs have no synonyms (fall, table tennis shot)" in said
    assert "the first candidates were taken, unscored" in said


COMMANDS: list[tuple[Any, Any]] = [
    (bank_synonyms, SynonymsConfig),
    (bank_prompts, PromptsConfig),
    (bank_subtexts, SubtextsConfig),
    (bank_entities, EntitiesConfig),
]


def test_bank_json_lists_the_tables_and_runs_are_equal_to_the_byte(bank):
    def run_all():
        for run, config in COMMANDS:
            run(config(bank=bank))
        return {path.name: path.read_bytes() for path in sorted(bank.iterdir()) if path.is_file()}

    first = run_all()
    record = read_record(bank)
    made = set(SCHEMAS) - {"definitions"}  # those come from files
    assert {f"{name}.parquet" for name in made} <= set(record.files)
    check_files(bank, record, record.files, content=True)
    assert run_all() == first
    assert not list(bank.glob(".*.part"))


def test_a_kill_between_table_and_record_leaves_a_bank_that_opens(bank, monkeypatch):
    bank_prompts(PromptsConfig(bank=bank))
    whole = read_record(bank)
    monkeypatch.setattr(texts_commands, "file_entry", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bank_prompts(PromptsConfig(bank=bank, tokens=12))
    (bank / ".prompts.parquet.ab12.part").write_bytes(b"half")
    assert "prompts.parquet" not in read_record(bank).files
    assert len(Bank.open(bank).actions) == len(LABELS)
    monkeypatch.undo()
    bank_prompts(PromptsConfig(bank=bank))
    assert read_record(bank) == whole
    assert not list(bank.glob(".*.part"))


def test_files_come_before_the_starter_bank_and_strangers_are_told(bank, tmp_path):
    mine, more = tmp_path / "mine.toml", tmp_path / "more.json"
    mine.write_text(
        '["fall floor"]\nspeed = ["Sudden.", "In a blink."]\n'
        '[fly]\nspeed = "High."\n["brushing teeth"]\nspeed = "Brisk."'
    )
    more.write_text(json.dumps({"brush teeth": {"speed": "Slow."}, "push up": {"speed": "Even."}}))
    bank_prompts(PromptsConfig(bank=bank, from_files=(mine, more)))
    by_text = {row["text"]: row for row in read_rows(bank, "prompts")}
    assert (by_text["In a blink."]["llm_prompt"], by_text["In a blink."]["source"]) == (1, "mine.toml")
    assert {"Sudden.", "Brisk.", "Even."} <= set(by_text)
    assert "Slow." not in by_text
    assert by_text["Even."]["source"] == "more.json"
    assert len(by_text) == 4 + 2 * 12
    assert left(bank, "prompts") == [
        ("TableTennisShot", "no_source"),
        ("brush teeth", "duplicate"),
        ("fly", "unknown_action"),
    ]
    bank_prompts(PromptsConfig(bank=bank, from_files=(mine, more), starter=False))
    assert {row["source"] for row in read_rows(bank, "prompts")} == {"mine.toml", "more.json"}


def test_rejected_prompts_are_listed(bank, tmp_path):
    bank_prompts(PromptsConfig(bank=bank))
    before = read_rows(bank, "prompts")
    (tmp_path / "reject.txt").write_text(before[3]["text"] + "\n" + before[7]["text"].rstrip(".") + "\n")
    bank_prompts(PromptsConfig(bank=bank, reject=tmp_path / "reject.txt"))
    assert read_rows(bank, "prompts") == before[:3] + before[4:7] + before[8:]
    assert [reason for _, reason in left(bank, "prompts")].count("manual") == 2


def test_trees_come_from_a_file_cut_to_m(bank, tmp_path):
    (tmp_path / "trees.json").write_text(json.dumps({"Fall": {"drop": ["sink"], "tumble": []}, "soar": {"fly": []}}))
    bank_synonyms(SynonymsConfig(bank=bank, from_files=(tmp_path / "trees.json",), first=2, second=2))
    trees = read_synonyms(bank)
    assert trees["fall"].children == ("fall", "drop")
    assert trees["fall"].children_of("drop") == ("drop", "sink")
    assert {len(tree.children) for tree in trees.values()} == {2}
    assert left(bank, "synonyms") == [("soar", "unknown_action"), ("table tennis shot", "no_source")]


def test_splits_of_a_person_reach_the_trees(bank, tmp_path):
    (tmp_path / "mine.csv").write_text("label,verb,object,template\nTableTennisShot,hit,ball,{verb} the {object}\n")
    bank_synonyms(SynonymsConfig(bank=bank, verb_objects=tmp_path / "mine.csv"))
    label = read_verb_objects(bank)[Bank.open(bank).find("TableTennisShot").action_id]
    assert label.text("strike") == "strike the ball"
    assert "hit" in read_synonyms(bank)


def test_draws_are_written_with_class_ids(bank, tmp_path, capsys):
    bank_synonyms(SynonymsConfig(bank=bank))
    (tmp_path / "novel.txt").write_text("ApplyLipstick\nkicking ball\nBrushingTeeth")
    (tmp_path / "base.txt").write_text("push up")
    options = {"bank": bank, "srt": tmp_path / "srt.json", "classes": tmp_path / "novel.txt"}
    bank_synonyms(SynonymsConfig(**options, seen_classes=tmp_path / "base.txt", seed=5))
    draws = json.loads((tmp_path / "srt.json").read_text())
    trees = read_synonyms(bank)
    assert list(draws) == [str(run) for run in range(10)]
    for run in draws.values():
        for class_id, verb in enumerate(("apply", "kick", "brush")):
            assert run[str(class_id)] in trees[verb].children[1:]
    again = tmp_path / "again.json"
    bank_synonyms(SynonymsConfig(**options | {"srt": again}, seed=5))
    assert json.loads(again.read_text()) == draws
    bank_synonyms(SynonymsConfig(**options | {"srt": again}, seed=6))
    assert json.loads(again.read_text()) != draws
    (tmp_path / "novel.txt").write_text("fall floor")
    with pytest.raises(UsageError, match=r"but 1 of 1 have none: 0 \('fall'\)"):
        bank_synonyms(SynonymsConfig(**options))


def test_a_noun_has_the_sense_of_its_actions(tmp_path):
    bank = make_bank(tmp_path, ["shooting bow", "swing bat"])
    (tmp_path / "mine.toml").write_text('[noun]\nbat = ["animal that sleeps upside down", "club to swing at a ball"]')
    bank_entities(EntitiesConfig(bank=bank, from_files=(tmp_path / "mine.toml",), body_parts=False))
    assert [(e.name, e.description[:20]) for e in read_entities(bank)] == [
        ("bat", "club to swing at a b"),
        ("bow", "curved piece of wood"),
    ]
    assert ("bat", "not_selected") in left(bank, "entities")


@pytest.mark.parametrize(
    ("dataset", "descriptors", "labels", "names", "definitions"),
    [
        ("ucf101", 404, "vifi_ucf_101_labels.csv", 101, "ucf101/er_classes_label_defn.json"),
        ("hmdb51", 204, "label_map.txt", 51, "hmdb51/er_classes_label_defn.json"),
        ("kinetics400", 1600, "vifi_kinetics_400_labels.csv", 400, "kinetics_zsar/er_classes620_label_defn.json"),
    ],
)
def test_published_texts_reach_their_actions(label_lists, tmp_path, dataset, descriptors, labels, names, definitions):
    listed = label_lists / dataset / labels
    classes = read_labels(listed)
    bank = make_bank(tmp_path, classes)
    texts = label_lists / dataset / "ost_temporal_4_descriptors.json"
    bank_subtexts(SubtextsConfig(bank=bank, from_files=(texts,), labels=(listed,), starter=False, count=4))
    opened, steps = Bank.open(bank), read_subtexts(bank)
    content = json.loads(texts.read_text())
    repeated = [reason for _, reason in left(bank, "subtexts")] if (bank / "subtexts.left.jsonl").exists() else []
    assert (
        sum(len(some.texts) for some in steps.values()) + len(repeated)
        == descriptors
        == sum(map(len, content.values()))
    )
    assert set(repeated) <= {"duplicate"}
    assert len(steps) == len(classes) == names
    for class_id, name in enumerate(classes):
        first = steps[opened.find(name).action_id].texts[0]
        assert first == normalise(content[str(class_id)][0]), name
    bank_entities(EntitiesConfig(bank=bank, definitions=(label_lists / definitions,)))
    rows = pq.read_table(bank / "definitions.parquet").to_pylist()
    assert {row["action_id"] for row in rows} == {action.action_id for action in opened.actions}
    assert "definitions.parquet" in read_record(bank).files


def test_a_folder_that_is_no_bank(tmp_path):
    for run, config in COMMANDS:
        with pytest.raises(UsageError, match=r"BANK must be a bank folder \(with bank.json, made by"):
            run(config(bank=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_bank_at_which_another_job_works(bank):
    with Work(bank).lock(), pytest.raises(UsageError, match="another job is at work on"):
        bank_prompts(PromptsConfig(bank=bank))


def test_a_damaged_bank(bank):
    (bank / "bank.json").write_bytes(b"{}")
    with pytest.raises(DamageError, match="does not read"):
        bank_entities(EntitiesConfig(bank=bank))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (SynonymsConfig, {"first": 0}, "first must be > 0, got 0"),
        (SynonymsConfig, {"srt": Path("x")}, "classes must be given exactly with --srt, got None"),
        (SynonymsConfig, {"seen_classes": Path("x")}, "srt must be given with --seen-classes, got None"),
        (PromptsConfig, {"llm_prompts": 4}, "llm_prompts must be 1 to 3, got 4"),
        (PromptsConfig, {"tokens": 0}, "tokens must be > 0, got 0"),
        (SubtextsConfig, {"count": 0}, "count must be > 0, got 0"),
        (SubtextsConfig, {"labels": (Path("x"),)}, "labels must be one list for each of the 0 files of --from, got 1"),
        (SubtextsConfig, {"score": "open-clip"}, "weights must be given exactly with --score open-clip, got None"),
    ],
)
def test_wrong_options_are_told(config, options, message):
    with pytest.raises(UsageError) as caught:
        config(bank=Path("b"), **options)
    assert message in str(caught.value)


def test_flags_become_options():
    words = [
        "BANK",
        "--from",
        "a.toml",
        "b.json",
        "--no-starter",
        "--generate",
        "--endpoint",
        "http://x/v1",
        "--model",
        "m",
    ]
    config = parse(PromptsConfig, [*words, "--key-env", "KEY", "--max-requests", "5"], "reelmill bank prompts")
    assert (config.bank, config.from_files, config.starter) == (Path("BANK"), (Path("a.toml"), Path("b.json")), False)
    assert (config.llm.endpoint, config.llm.key_env, config.llm.max_requests) == ("http://x/v1", "KEY", 5)
    for _, config_type in COMMANDS:
        assert parse(config_type, ["BANK"], "x").bank == Path("BANK")


def test_tables_outlive_an_addition(bank, tmp_path):
    bank_prompts(PromptsConfig(bank=bank))
    before = read_prompts(bank)
    (tmp_path / "more.jsonl").write_text(json.dumps({"action": "push up", "text": "Down and up again."}) + "\n")
    add_to_bank(BankAddConfig(bank=bank, records=tmp_path / "more.jsonl"))
    record = read_record(bank)
    check_files(bank, record, record.files, content=True)
    assert "prompts.parquet" in record.files
    assert read_prompts(bank) == before
