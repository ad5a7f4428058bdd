from pathlib import Path

import pytest

import search_spaces
from nas.data.catalog import DATASETS
from nas.recipes import recipe
from nas.samplers import SAMPLERS

MINE = "space: digits\ndataset: digits\nepochs: 3\n"


def test_shipped_recipes_name_parts_that_exist() -> None:
    assert "digits" in recipe.names()
    for name in recipe.names():
        loaded = recipe.load(name)
        assert loaded.space in search_spaces.names()
        assert loaded.dataset in DATASETS


def test_file_and_text_say_the_same_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    loaded = recipe.load(file)
    assert loaded == recipe.load(str(file)) == recipe.parse(MINE)
    assert recipe.parse(loaded.to_yaml()) == loaded


def test_overrides_have_the_types_of_yaml_and_the_last_one_counts() -> None:
    changed = recipe.parse(MINE, ["epochs=5", "lr = 2e-1", "zero_init_residual=false", "epochs=7"])
    assert (changed.epochs, changed.lr, changed.zero_init_residual) == (7, 0.2, False)
    # YAML 1.1 reads 1e-1 as text; a number is meant
    assert recipe.parse(MINE, ["lr=1e-1"]).lr == 0.1
    assert recipe.parse(MINE, ["data_root=a=b"]).data_root == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=3", r"mine: epoch: unknown key; the keys are .*epochs, .*batch_size"),
        ("epochs=0", r"mine: epochs: .*greater than or equal to 1, got 0"),
        ("epochs=three", r"mine: epochs: input should be a valid integer.*got 'three'"),
        ("epochs=2.5", r"mine: epochs: .*got 2\.5"),
        ("epochs", r"--set must look like key=value, got 'epochs'"),
        ("epochs=[3", r"--set epochs=\[3 is not YAML"),
        ("batch_size=1", r"mine: batch_size: "),
        ("lr=0", r"mine: lr: "),
        ("momentum=1", r"mine: momentum: "),
        ("ema_decay=.nan", r"mine: ema_decay: "),
        ("n_random=-1", r"mine: n_random: "),
        ("seed=-1", r"mine: seed: .*greater than or equal to 0, got -1"),
        ("devices=0", r"mine: devices: "),
        ("precision=64", r"mine: precision: input should be '32-true'"),
        ("schema_version=2", r"mine: schema_version: input should be 1, got 2"),
        ("space=", r"mine: space: input should be a valid string"),
    ],
)
def test_wrong_override_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        recipe.parse(MINE, [override], source="mine")
    assert "\n" not in str(caught.value)


def test_a_key_twice_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"mine, line 3: the key 'epochs' must stand once .* line 1"):
        recipe.parse("epochs: 3\nspace: digits\nepochs: 4\n", source="mine")


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"epochs: [", b"\xff\xfe\x00\x01", b"space: digits\n"])
def test_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.yaml") as caught:
        recipe.load(file)
    assert "\n" not in str(caught.value)


def test_unknown_name_lists_the_recipes(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"must be one of \[.*'digits'.*\] or the path of a YAML file, got 'no'"
    ):
        recipe.load("no")
    with pytest.raises(ValueError, match=r"cannot read the recipe .*none\.yaml: No such file"):
        recipe.load(tmp_path / "none.yaml")


def test_help_names_every_sampler() -> None:
    described = recipe.Recipe.model_fields["sampler"].description
    assert described is not None
    assert SAMPLERS.keys() <= set(described.replace(",", "").split())


def test_every_key_is_explained() -> None:
    assert [name for name, key in recipe.Recipe.model_fields.items() if not key.description] == []


@pytest.mark.parametrize(
    "override",
    [
        "distillation=outplace",
        "optimizer=adagrad",
        "schedule=linear",
        "augment=random",
        "regularize=smallest",
        "data_sampling=all",
        "dropout=1",
        "lr_floor=1",
        "label_weight=-1",
        "clip_value=0",
        "mixup_alpha=-1",
        "drop_connect_stages=0",
        "phases=[{epochs: 0}]",
        "phases=[{epochs: 1, elastic: {kernel: 0}}]",
        "phases=[{epochs: 1, widths: 2}]",
    ],
)
def test_wrong_strategy_is_refused(override: str) -> None:
    with pytest.raises(ValueError, match=f"mine: {override.split('=')[0]}"):
        recipe.parse(MINE, [override], source="mine")
