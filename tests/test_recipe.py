from pathlib import Path

import pytest

import search_spaces
from nas.cli.recipe_help import recipe_sections
from nas.data.catalog import DATASETS
from nas.recipes import recipe
from nas.recipes.groups import AdamWConfig, ExternalDistillationConfig, NoDistillationConfig
from nas.recipes.keys import differences, dotted_names, kinds
from nas.recipes.samplers import NestedConfig
from nas.recipes.schedules import ConstantSchedule, CosineSchedule
from nas.samplers import SAMPLERS

MINE = "space: digits\nepochs: 3\ndata: {dataset: digits}\n"


def test_shipped_recipes_name_parts_that_exist() -> None:
    assert "digits" in recipe.names()
    for name in recipe.names():
        loaded = recipe.load(name)
        assert loaded.space in [*search_spaces.names(), "init"]
        assert loaded.data.dataset in DATASETS


def test_file_and_text_say_the_same_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    loaded = recipe.load(file)
    assert loaded == recipe.load(str(file)) == recipe.parse(MINE)
    assert recipe.parse(loaded.to_yaml()) == loaded


def test_overrides_have_the_types_of_yaml() -> None:
    changed = recipe.parse(
        MINE, ["epochs=5", "optimizer.lr = 2e-1", "batch_norm.zero_init_residual=false", "data.root=a=b"]
    )
    assert (changed.epochs, changed.optimizer.lr, changed.data.root) == (5, 0.2, "a=b")
    assert not changed.batch_norm.zero_init_residual
    # YAML 1.1 reads 1e-1 as text; a number is meant
    assert recipe.parse(MINE, ["optimizer.lr=1e-1"]).optimizer.lr == 0.1


def test_paths_may_begin_with_the_home_folder() -> None:
    changed = recipe.parse(
        MINE,
        [
            "space=~/space.yaml",
            "data.root=~/images",
            "init=~/run",
            "distillation={kind: external, teachers: [~/a]}",
            "sampler={kind: nested, archs: ~/archs.json}",
        ],
    )
    assert isinstance(changed.distillation, ExternalDistillationConfig)
    assert isinstance(changed.sampler, NestedConfig)
    found = [
        changed.space,
        changed.data.root,
        changed.init,
        *changed.distillation.teachers,
        changed.sampler.archs,
    ]
    names = ("space.yaml", "images", "run", "a", "archs.json")
    assert found == [str(Path.home() / name) for name in names]


def test_overrides_reach_any_depth_and_whole_groups() -> None:
    phases = "sampler={kind: progressive, phases: [{epochs: 1}, {epochs: 2}]}"
    shrinking = recipe.parse(recipe.parse(MINE, [phases]).to_yaml(), ["sampler.phases.1.elastic.kernel=2"])
    assert [phase.elastic for phase in shrinking.phases] == [{}, {"kernel": 2}]
    assert recipe.parse(MINE, ["ema={decay: 0.9}"]) == recipe.parse(MINE, ["ema.decay=0.9"])


def test_another_kind_drops_the_keys_that_it_lacks_in_any_order() -> None:
    text = MINE + "schedule: {kind: exponential, decay: 0.5, warmup_epochs: 3, min_lr_factor: 0.1}\n"
    changes = ["schedule.kind=cosine", "schedule.min_lr_factor=0.2"]
    expected = CosineSchedule(warmup_epochs=3, min_lr_factor=0.2)
    assert recipe.parse(text, changes).schedule == recipe.parse(text, changes[::-1]).schedule == expected
    assert recipe.parse(text, ["schedule.kind=constant"]).schedule == ConstantSchedule(warmup_epochs=3)
    with pytest.raises(ValueError, match="schedule: unknown key 'decay'"):
        recipe.parse(text, ["schedule.decay=0.9", "schedule.kind=cosine"])
    # the recipe's default kind is a kind like any other
    assert recipe.parse(MINE, ["optimizer.kind=adamw", "optimizer.beta1=0.8"]).optimizer == AdamWConfig(
        beta1=0.8
    )


def test_replace_changes_keys_by_dotted_name() -> None:
    before = recipe.parse(MINE)
    after = before.replace(
        {"distillation": NoDistillationConfig(), "optimizer.lr": 1.0, "compute.threads": 3}
    )
    assert after == recipe.parse(MINE, ["distillation.kind=none", "optimizer.lr=1", "compute.threads=3"])
    # a resumed run may have another number of threads
    assert differences(before, after) == ["distillation.kind", "optimizer.lr"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            "epoch=3",
            r"mine: unknown key 'epoch' \(did you mean 'epochs'\?\); the keys are schema_version, space, ",
        ),
        ("lr=3", r"mine: unknown key 'lr' \(did you mean 'optimizer.lr'\?\); the keys are "),
        ("lr_decay=3", r"mine: unknown key 'lr_decay' \(did you mean 'schedule.decay'\?\); the keys are "),
        (
            "optimizer.lrr=3",
            r"optimizer: unknown key 'lrr' \(did you mean 'lr'\?\); .* kind sgd are kind, lr, ",
        ),
        ("schedule=cosine", r"mine: schedule must be a group of keys such as {kind: cosine}, got 'cosine'"),
        ("schedule.kind=linear", r"mine: schedule.kind must be one of cosine, .*constant, got 'linear'"),
        ("schedule.kind=", r"mine: schedule.kind must be one of cosine, .*constant, got None"),
        ("sampler.kind=burger", r"sampler.kind must be one of sandwich, .*module:object, got 'burger'"),
        ("ema=3", r"mine: ema must be a group of keys such as {decay: …}, got 3"),
        ("epochs.x=3", r"epochs.x: epochs is a single value without keys"),
        ("ema={} ema.decay=0", r"ema.decay is a key of ema, which is changed as well; leave out one of them"),
        ("epochs=0", r"mine: epochs: .*greater than or equal to 1, got 0"),
        ("epochs=three", r"mine: epochs: input should be a valid integer.*got 'three'"),
        ("epochs=2.5", r"mine: epochs: .*got 2\.5"),
        ("epochs", r"--set must look like key=value, got 'epochs'"),
        ("epochs=[3", r"--set epochs=\[3 is not YAML"),
        ("data.batch_size=1", r"mine: data.batch_size: "),
        ("optimizer.lr=0", r"mine: optimizer.lr: "),
        ("optimizer.momentum=1", r"mine: optimizer.momentum: "),
        ("ema.decay=.nan", r"mine: ema.decay: "),
        ("sampler.n_random=-1", r"mine: sampler.n_random: "),
        ("seed=-1", r"mine: seed: .*greater than or equal to 0, got -1"),
        ("compute.devices=0", r"mine: compute.devices: "),
        ("compute.precision=64", r"mine: compute.precision: input should be '32-true'"),
        ("schema_version=2", r"mine: schema_version: input should be 1, got 2"),
        ("space=", r"mine: space: input should be a valid string"),
        ("distillation.kind=external", r"mine: distillation.teachers: field required"),
        ("augmentation.mixup_alpha=-1", r"mine: augmentation.mixup_alpha: "),
        ("regularization.dropout=1", r"mine: regularization.dropout: "),
        ("data.order=all", r"mine: data.order: "),
        ("schedule.min_lr_factor=1", r"mine: schedule.min_lr_factor: "),
        ("clipping.kind=value clipping.max_value=0", r"mine: clipping.max_value: "),
        ("sampler={kind:\tprogressive,phases:\t[{epochs:\t0}]}", r"mine: sampler.phases.0.epochs: "),
        (
            "sampler={kind:\tprogressive,phases:\t[{epochs:\t1,widths:\t2}]}",
            r"mine: sampler.phases.0: unknown key 'widths'; the keys are epochs, ",
        ),
        (
            "sampler={kind:\tprogressive,phases:\t[{epochs:\t1,elastic:\t{kernel:\t0}}]}",
            r"mine: sampler.phases.0.elastic.kernel: ",
        ),
        (
            "sampler={kind:\tprogressive,phases:\t[{epochs:\t1}]} sampler.phases.0.epochs=2",
            r"sampler.phases.0.epochs is a key of sampler, which",
        ),
    ],
)
def test_wrong_override_is_refused_in_one_line(overrides: str, message: str) -> None:
    changes = [change.replace("\t", " ") for change in overrides.split(" ")]
    with pytest.raises(ValueError, match=message) as caught:
        recipe.parse(MINE, changes, source="mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("regularization.apply_to=all", "apply_to has no effect without dropout or drop_connect"),
        ("regularization.drop_connect_stages=2", "drop_connect_stages has no effect without drop_connect"),
        ("sampler.kind=uniform distillation.loss=alpha", "distillation.loss has no effect with .* uniform"),
        (
            "distillation.kind=external distillation.teachers=[a] loss.label_smoothing=0.2",
            "loss has no effect while distillation.label_weight is 0",
        ),
        (
            "sampler.kind=progressive sampler.phases=[{epochs:\t1}] schedule.warmup_epochs=3",
            "schedule.warmup_epochs has no effect with sampler.phases",
        ),
        (
            "finetuning.freeze_body=true finetuning.head_lr=0.1",
            "head_lr has no effect with freeze_body, which trains the classifier with optimizer.lr; "
            "leave head_lr out",
        ),
    ],
)
def test_key_without_effect_is_an_error(overrides: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe.parse(MINE, [change.replace("\t", " ") for change in overrides.split(" ")])


def test_a_key_twice_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"mine, line 3: the key 'epochs' must occur once .* line 1"):
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


def test_every_sampler_can_be_named() -> None:
    assert kinds(recipe.Recipe.model_fields["sampler"]).keys() == {*SAMPLERS, "module:object"}


def test_help_explains_every_key_from_the_recipe() -> None:
    sections = list(recipe_sections(recipe.Recipe))
    rows = [row for _, section in sections for row in section]
    explained = {name.strip().partition("=")[0] for name, _ in rows}
    assert set(dotted_names(recipe.Recipe)) <= explained
    assert [row for row in [*sections, *rows] if not row[1] or "None" in row[0]] == []
    assert all(meaning != "None" for _, meaning in rows)
