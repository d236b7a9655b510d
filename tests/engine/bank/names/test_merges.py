"""Overrides win, wrong ones are told, and the table of merges accounts for every name that went."""

import csv
import io
import random

import pytest
from reelmill.engine.bank.names.actions import PAPER, SAFE, canonical_name
from reelmill.engine.bank.names.command import BankNamesConfig, bank_names
from reelmill.engine.bank.names.merges import Names, merges_csv, read_overrides
from reelmill.shards.errors import UsageError

PUSH = [("push up", "b.txt"), ("push", "a.txt"), ("Push", "b.txt"), ("Push", "a.txt"), ("jump", "a.txt")]


def table(rows, names):
    data = merges_csv([(names(spelling), spelling, origin) for spelling, origin in rows], names)
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_an_override_wins_over_the_rules():
    names = Names(PAPER, {"push up": "push up", "leap": "jump", "sit": "sit"})
    assert [names(name) for name in ("push up", "leap", "Leap", "pushing up")] == ["push up", "jump", "leap", "push"]
    assert [names.applied(name) for name in ("push up", "Leap", "sit")] == [("override",), ("lower_case",), ()]


def test_the_table_lists_what_changed_or_was_merged():
    lines = [tuple(row.values()) for row in table(PUSH, Names(PAPER))]
    assert lines == [
        ("push", "Push", "a.txt; b.txt", "lower_case"),
        ("push", "push", "a.txt", ""),
        ("push", "push up", "b.txt", "function_words"),
    ]
    # a person takes one merge back: then push up is itself, and no line is left for it
    names = Names(PAPER, {"push up": "push up"})
    assert [row["spelling"] for row in table(PUSH, names)] == ["Push", "push"]
    assert [row["rules"] for row in table(PUSH, Names(PAPER, {"jump": "leap"}))] == [
        "override",
        "lower_case",
        "",
        "function_words",
    ]


def test_the_table_does_not_depend_on_the_order_of_the_rows():
    rows = [(f"Jump {i % 50}", f"list {i % 7}") for i in range(400)]
    names = Names(SAFE)
    want = merges_csv([(names(s), s, o) for s, o in rows], names)
    random.Random(1).shuffle(rows)
    assert merges_csv([(names(s), s, o) for s, o in rows], names) == want
    assert want.decode().splitlines()[1] == "jump 0,Jump 0,list 0; list 1; list 2; list 3; list 4; 2 more,lower_case"


def test_the_table_is_its_own_file_of_overrides(tmp_path):
    spellings = [
        'a "quoted", name',
        "two\nlines",
        "one\rline",
        " =push_up ",
        "\ufeffsawing wood",
        "saw wood",
        "跳",
        "?!",
        "a+",
    ]
    names = Names(SAFE)
    rows = [(names(spelling), spelling, "x") for spelling in spellings]
    path = tmp_path / "merges.csv"
    path.write_bytes(merges_csv(rows, names))
    overrides = read_overrides(path)
    listed = {spelling: names(spelling) for spelling in spellings if names(spelling) != spelling}
    assert overrides == listed | {"saw wood": "saw wood"}  # which shares its name
    again = Names(SAFE, overrides)
    assert merges_csv([(again(s), s, "x") for s in spellings], again) == path.read_bytes()
    assert Names(PAPER, overrides)("saw wood") == names("saw wood")


def test_a_text_that_utf8_cannot_hold_is_escaped():
    assert merges_csv([("jump", "ju\ud800mp", "x")], Names(SAFE)).endswith(b"jump,ju\\ud800mp,x,punctuation\n")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"leap": ""}, "override of 'leap' must have a canonical name, got ''"),
        ({"leap": "Jump_High"}, "override of 'leap' must be written 'jump high', got 'Jump_High'"),
        ({"leap": "jump", "jump": "hop"}, "must lead to an action, but 'jump' is overridden too: write 'hop'"),
    ],
)
def test_wrong_overrides_are_told(overrides, message):
    with pytest.raises(UsageError, match=message):
        Names(SAFE, overrides)


def test_with_labels_an_override_must_lead_to_one_of_them():
    names = Names(SAFE, {"leap": "jmp", "pushing": "push"})
    with pytest.raises(
        UsageError, match="'leap' must lead to an action of the labels, got 'jmp'; the nearest is 'jump'"
    ):
        names.check_known({"jump", "push"})
    Names(SAFE, {"leap": "jump"}).check_known({"jump", "push"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("canonical,name\njump,leap\n", "must have columns canonical and spelling, got canonical, name"),
        ("canonical,spelling\njump, \n", "spelling of row 1 must not be blank"),
        ("canonical,spelling\njump,a\n ,leap\n", r"canonical of row 2 \('leap'\) must not be blank"),
        ("canonical,spelling\njump,leap\nhop,leap\n", "'leap' must have one canonical name, got 'jump' and 'hop'"),
        ("canonical,spelling\njump\n", "must have 2 fields, got 1"),
        ("canonical,canonical,spelling\na,b,c\n", "every column must be named once"),
    ],
)
def test_wrong_override_files_are_told(tmp_path, content, message):
    path = tmp_path / "merges.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_overrides(path)


def test_an_override_file_may_repeat_itself_and_have_more_columns(tmp_path):
    path = tmp_path / "merges.csv"
    path.write_text("\ufeffspelling,note,canonical\r\nleap,by me,jump\r\nleap,,jump\r\n")
    assert read_overrides(path) == {"leap": "jump"}
    with pytest.raises(UsageError, match=r"overrides .*none\.csv must be a file"):
        read_overrides(tmp_path / "none.csv")


@pytest.mark.parametrize("rules", [SAFE, PAPER])
def test_the_listed_merges_account_for_every_name_that_went(seven_lists, rules):
    names = Names(rules)
    rows = [(spelling, file) for file, listed in seven_lists.items() for spelling in listed]
    spellings = {spelling for spelling, _ in rows}
    actions = {canonical_name(spelling, rules) for spelling in spellings}
    listed = table(rows, names)
    assert len({row["spelling"] for row in listed}) == len(listed)
    assert len(spellings) - len(actions) == len(listed) - len({row["canonical"] for row in listed})
    # what is not listed is its own action, alone
    left = spellings - {row["spelling"] for row in listed}
    assert left <= actions
    assert not left & {row["canonical"] for row in listed}
    groups: dict[str, list[dict[str, str]]] = {}
    for row in listed:
        assert row["rules"] or row["spelling"] == row["canonical"]
        groups.setdefault(row["canonical"], []).append(row)
    assert all(len(group) > 1 or group[0]["spelling"] != group[0]["canonical"] for group in groups.values())
    push = {row["spelling"] for row in groups["push"]}
    assert ("push up" in push) == (rules is PAPER)


def test_the_command_prints_counts_and_writes_the_table(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("Push\npush\njump\n")
    (tmp_path / "b.csv").write_text("id,name\n0,push up\n1,Push\n")
    lists = (tmp_path / "a.txt", tmp_path / "b.csv")
    merges = tmp_path / "merges.csv"
    assert bank_names(BankNamesConfig(labels=lists, rules="paper", merges=merges)) == 0
    said = {
        line.split("  ")[1]: line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")
    }
    assert (said["all lists"], said["exact"], said["lower_case"], said["function_words"]) == ("5", "4", "3", "2")
    assert (said["actions"], said["merged away"], said["merges"]) == ("2", "2", str(merges))
    assert said["drop off"] == "3/3"
    text = merges.read_text().replace("push,push up", "push up,push up") + "lift,lifting,,\n"
    merges.write_text(text)
    assert bank_names(BankNamesConfig(labels=lists, rules="paper", overrides=merges)) == 0
    said = capsys.readouterr().out
    assert "overrides       3" in said
    assert "overrides of other names  1: lifting" in said
    exact = BankNamesConfig(labels=lists, lower_case=False, drop_words="off", lemma="off")
    assert bank_names(exact) == 0
    assert "merged away  0" in capsys.readouterr().out
    with pytest.raises(UsageError, match="labels must be at least one file, got none"):
        BankNamesConfig(labels=())
