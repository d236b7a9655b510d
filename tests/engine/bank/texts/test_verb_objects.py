"""Labels come apart into verb, object and template; a person's table wins over the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine.bank.names.labels import read_labels
from reelmill.engine.bank.texts.verb_objects import read_verb_objects_file, split_label, take_apart
from reelmill.shards.bank.texts import VerbObject, template_fits
from reelmill.shards.errors import UsageError


@pytest.mark.parametrize(
    ("label", "verb", "thing", "template"),
    [
        ("take", "take", "", "{verb}"),  # GTEA labels are verbs alone
        ("brush hair", "brush", "hair", "{verb} {object}"),
        ("BrushingTeeth", "brush", "teeth", "{verb} {object}"),
        ("playing_the_guitar", "play", "guitar", "{verb} {object}"),
        ("pick up leg", "pick up", "leg", "{verb} {object}"),
        ("picking something up", "pick up", "something", "{verb} {object}"),
        ("sticking tongue out", "stick out", "tongue", "{verb} {object}"),
        ("lay down table-top", "lay down", "table-top", "{verb} {object}"),
        ("push up", "push up", "", "{verb}"),
        ("blowing out candles", "blow out", "candles", "{verb} {object}"),
        ("massaging back", "massage", "back", "{verb} {object}"),  # a body part, no particle
        ("Putting on shoe/shoes", "put on", "shoe", "{verb} {object}"),
        ("Turning on a light", "turn on", "light", "{verb} {object}"),
        ("Sitting on a table", "sit", "table", "{verb} on {object}"),
        ("jumping into pool", "jump", "pool", "{verb} into {object}"),
        ("Holding something next to something", "hold", "something next to something", "{verb} {object}"),
        ("Watching/Looking outside of a window", "watch", "window", "{verb} outside of {object}"),
        ("carry/hold (an object)", "carry", "object", "{verb} {object}"),
        ("catching or throwing frisbee", "catch", "frisbee", "{verb} {object}"),
        ("close (e.g., a door, a box)", "close", "", "{verb}"),
        ("Someone is going from standing to sitting", "go", "standing to sitting", "{verb} from {object}"),
        ("TableTennisShot", "table tennis shot", "", "{verb}"),
        ("belly dancing", "belly dancing", "", "{verb}"),
        ("archery", "archery", "", "{verb}"),
        ("clean and jerk", "clean and jerk", "", "{verb}"),
        ("dying hair", "dye", "hair", "{verb} {object}"),
        ("saw wood", "saw", "wood", "{verb} {object}"),
        ("跳", "跳", "", "{verb}"),
        ("(((", "(((", "", "{verb}"),
    ],
)
def test_labels_come_apart(label, verb, thing, template):
    assert split_label(label) == VerbObject(verb, thing, template)


@given(st.text(min_size=1, max_size=40).filter(str.strip))
def test_any_label_has_a_verb_and_a_template_that_fits(label):
    found = split_label(label)
    assert found.verb
    assert template_fits(found.template, found.object)
    assert found.text("leap").count("leap") >= 1


@pytest.mark.parametrize(
    ("file", "classes", "verbs", "with_object"),
    [
        ("hmdb51/label_map.txt", 51, 46, 12),
        ("ucf101/label_map.txt", 101, 91, 23),
        ("kinetics400/label_map_k400.txt", 400, 263, 258),
        ("charades/Charades_v1_classes.txt", 157, 39, 152),
    ],
)
def test_real_lists(label_lists, file, classes, verbs, with_object):
    path = label_lists / file
    names = [line[5:] for line in path.read_text().splitlines()] if "harades" in file else read_labels(path)
    found = [split_label(name) for name in names]
    assert len(found) == classes
    assert (len({label.verb for label in found}), sum(bool(label.object) for label in found)) == (verbs, with_object)
    assert {"{verb} {object}" for label in found if label.object} >= {
        label.template for label in found if label.object and len(label.template.split()) == 2
    }


def test_words_join_again_under_another_verb():
    label = split_label("jumping into pool")
    assert (label.text(), label.text("leap")) == ("jump into pool", "leap into pool")
    assert VerbObject("put", "{verb}", "{verb} the {object}").text("lay") == "lay the {verb}"


def test_a_persons_table_wins(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "label,verb,object,template\nTaiChi,do,tai chi,\nfall floor,fall,floor,{verb} on the {object}\nwave,wave,,\n"
    )
    mine = read_verb_objects_file(path)
    assert take_apart(("TaiChi", "tai chi"), mine) == VerbObject("do", "tai chi", "{verb} {object}")
    assert take_apart(("tai chi", "TaiChi"), mine).verb == "do"
    assert take_apart(("fall floor",), mine).text() == "fall on the floor"
    assert take_apart(("wave",), mine) == VerbObject("wave", "", "{verb}")
    assert take_apart(("kick ball",), mine) == split_label("kick ball")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,verb\njump,\n", "row 1 must have text columns `label` and `verb`"),
        ("name,verb\njump,jump\n", "row 1 must have text columns `label` and `verb`"),
        ("label,verb,template\njump,leap,up\n", "template of 'jump' must hold {verb} once and no {object}"),
        ("label,verb,object,template\nx,y,z,{verb}\n", "template of 'x' must hold {verb} once and {object} once"),
        ("label,verb\na,b\na,c\n", "row 2: every label must stand once, got 'a' twice"),
    ],
)
def test_wrong_tables_are_told(tmp_path, text, message):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_verb_objects_file(tmp_path / "mine.csv")
    assert message in str(caught.value)
