"""Which classes are asked for."""

import pytest
from reelmill.shards.errors import UsageError
from reelmill.train.config import ClassesConfig
from reelmill.train.protocols import base_classes, groups, tasks

LABELS = ["lift box", "lift cup", "push box", "push cup"]


def test_base_is_what_is_named_or_all_that_is_not_novel():
    assert base_classes(ClassesConfig(novel=("lift cup",)), LABELS) == ("lift box", "push box", "push cup")
    assert base_classes(ClassesConfig(base=("push cup", "lift box")), LABELS) == ("push cup", "lift box")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ClassesConfig(base=("lift bus",)),
            r"classes.base must be labels of the dataset, but it has no \['lift",
        ),
        (ClassesConfig(novel=("x",)), r"classes.novel must be labels of the dataset, but it has no \['x'\]"),
        (ClassesConfig(novel=tuple(LABELS)), "classes.base must leave a class to train on"),
    ],
)
def test_wrong_classes_are_named(config, message):
    with pytest.raises(UsageError, match=message):
        base_classes(config, LABELS)


def test_base_novel_asks_twice_and_closed_set_once():
    assert tasks("base-novel", ("a",), ("b", "c")) == {"base": ("a",), "novel": ("b", "c")}
    assert tasks("closed-set", ("a",), ("b",)) == {"base": ("a",)}
    with pytest.raises(UsageError, match="protocol base-novel needs a run with novel classes"):
        tasks("base-novel", ("a",), ())


def test_groups_share_the_given_word():
    assert groups(["push up box", "lift box"], "last-word") == ["box", "box"]
    assert groups(["push up box", "lift box"], "first-word") == ["push", "lift"]
    assert groups(["push up box", "lift box"], "none") == ["push up box", "lift box"]
