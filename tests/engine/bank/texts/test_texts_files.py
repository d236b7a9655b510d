"""Files of texts that people write: good ones read, wrong ones are one clear error."""

import json

import pytest
from reelmill.engine.bank.texts.files import ActionTexts, read_action_texts, read_entity_texts, read_trees
from reelmill.shards.errors import UsageError


@pytest.mark.parametrize("form", ["toml", "json"])
def test_the_three_forms_read(tmp_path, form):
    def write(content, toml):
        path = tmp_path / f"texts.{form}"
        path.write_text(json.dumps(content) if form == "json" else toml)
        return path

    actions = write(
        {"go": {"speed": ["Fast.", "Slow."], "subtexts": ["A foot."]}},
        '[go]\nspeed = ["Fast.", "Slow."]\nsubtexts = "A foot."',
    )
    assert read_action_texts(actions) == {"go": ActionTexts({"speed": ("Fast.", "Slow.")}, ("A foot.",))}
    trees = write({"go": {"walk": ["stroll"], "run": []}}, '[go]\nwalk = ["stroll"]\nrun = []')
    assert read_trees(trees) == {"go": {"walk": ("stroll",), "run": ()}}
    entities = write({"noun": {"Bat": ["club", "animal"]}}, '[noun]\nBat = ["club", "animal"]')
    assert read_entity_texts(entities) == {"bat": ("noun", ("club", "animal"))}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "a", "must be a .toml or .json file"),
        ("x.toml", "[go", "does not read as TOML"),
        ("x.toml", "a = " + "[" * 5000, "does not read as TOML"),
        ("x.json", "[" * 100_000, "does not read as json"),
        ("x.json", '{"go": {}, "go": {}}', "every key once, got 'go' twice"),
        ("x.json", '{"go": {"speed": "\\ud800"}}', "must hold plain text"),
        ("x.json", "[]", "must be an object with at least one entry, got []"),
        ("x.json", "{}", "must be an object with at least one entry, got {}"),
        ("x.json", '{"go": 3}', "'go' must be a name with an object, got 3"),
        ("x.json", '{" ": {}}', "' ' must be a name with an object"),
        ("x.json", '{"go": {"pace": "Fast."}}', "'go' must have fields out of environment, lighting,"),
        ("x.json", '{"go": {"speed": 3}}', "go.speed must be a text or a list of texts, got 3"),
        ("x.json", '{"go": {"speed": []}}', "go.speed must be a text or a list of texts, got []"),
        ("x.json", '{"go": {"speed": ["a", " "]}}', "go.speed must hold texts of 1 to 10000 characters"),
        ("x.json", '{"go": {"speed": "' + "x" * 10_001 + '"}}', "go.speed must hold texts of 1 to 10000 characters"),
    ],
)
def test_wrong_files_are_told(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        read_action_texts(tmp_path / name)
    assert message in str(caught.value)


def test_an_entity_stands_once(tmp_path):
    (tmp_path / "x.toml").write_text('[noun]\nbat = "a"\n["body part"]\nBat = "b"')
    with pytest.raises(UsageError, match="an entity must stand once, got 'Bat' twice"):
        read_entity_texts(tmp_path / "x.toml")
