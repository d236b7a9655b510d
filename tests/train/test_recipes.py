"""The ready-made configs: they load as they are, beside the files that they say the user has."""

import tomllib
from pathlib import Path

import pytest
import reelmill.train
from reelmill.torchvision_ops import import_torchvision
from reelmill.train.config import AceConfig, CocoConfig
from reelmill.train.config.file import load_config

RECIPES = sorted(Path(reelmill.train.__file__).with_name("recipes").glob("*.toml"))


def load(recipe, folder):
    """The config out of a copy beside its lists of labels."""
    text = recipe.read_text()
    (folder / recipe.name).write_text(text)
    lists = [name for name in tomllib.loads(text)["classes"].values() if isinstance(name, str)]
    for name in lists:
        (folder / name).write_text("".join(f"label {number} of {name}\n" for number in range(10)))
    return load_config(folder / recipe.name)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_is_a_config_of_its_method_on_a_model_that_there_is(recipe, tmp_path):
    config = load(recipe, tmp_path)
    assert recipe.stem.startswith(f"{config.method.name}-")
    assert config.dataset == str(tmp_path / tomllib.loads(recipe.read_text())["dataset"])
    import_torchvision()
    import open_clip

    assert open_clip.get_model_config(config.model.name) is not None
    tags = open_clip.list_pretrained_tags_by_model(config.model.name)
    assert config.model.pretrained is None or config.model.pretrained in tags


@pytest.mark.parametrize(("name", "rate"), [("storyboard-k400", 5e-5), ("alt-k400", 8e-5)])
def test_rates_are_those_of_the_papers(name, rate, tmp_path):
    recipe = next(recipe for recipe in RECIPES if recipe.stem == name)
    config = load(recipe, tmp_path)
    assert config.optimizer.own_lr == rate
    assert (config.epochs, round(config.epochs * config.optimizer.warmup, 3)) == (30, 5)


@pytest.mark.parametrize(("name", "children"), [("ace-ata", 11), ("ace-ikea", 2), ("ace-gtea", 9)])
def test_ace_has_what_its_paper_says(name, children, tmp_path):
    config = load(next(recipe for recipe in RECIPES if recipe.stem == name), tmp_path)
    assert config.method == AceConfig(tau=0.02, first_order=children, second_order=children)
    assert (config.epochs, config.global_batch, config.optimizer.kind) == (15, 16, "sgd")
    model = config.model
    assert (model.text_learns, model.video_learns, model.last_blocks, model.video) == (
        "projection",
        "last",
        3,
        "space-time",
    )


@pytest.mark.parametrize(("name", "frames"), [("coco-kinetics-zsar", 8), ("coco-ucf101", 1), ("coco-hmdb51", 1)])
def test_coco_has_what_its_paper_says(name, frames, tmp_path):
    config = load(next(recipe for recipe in RECIPES if recipe.stem == name), tmp_path)
    method, optimizer = config.method, config.optimizer
    assert isinstance(method, CocoConfig)
    assert (method.captions, method.alpha, method.tau, method.width, method.cim.weight) == (100, 0.5, 0.1, 512, 0.1)
    assert method.cim.unseen_texts == config.classes.novel
    assert (config.global_batch, config.data.frames) == (512, frames)
    assert (optimizer.kind, optimizer.lr, optimizer.weight_decay) == ("adam", 1e-3, 1e-4)
    assert (config.model.text_learns, config.model.video_learns) == ("none", "none")
