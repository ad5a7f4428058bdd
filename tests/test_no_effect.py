"""Options without effect are errors, over all commands."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from conftest import Nas, assert_refused
from typer.core import TyperCommand

from hw_profiles.device import Device
from hw_profiles.store import ProfileStore
from nas.cli import main as cli
from nas.cli.no_effect import RULES
from nas.evaluation.trained_run import TrainedRun

PROFILE = "profile digits --device D "
BUNDLE = PROFILE + "--bundle B "
CHECK = PROFILE + "--check "
SEARCH = "search RUN --device D "
FINETUNE = "finetune RUN --arch largest --config digits --out OUT "
IMPORTS = (
    "import ofa FILE --space ofa-mbv3-w1.0 --out OUT ",
    "import attentivenas FILE --out OUT ",
    "import autoformer FILE --space autoformer-tiny --out OUT ",
    "import prenas FILE --space autoformer-tiny --out OUT ",
    "import nasvit FILE --out OUT ",
    "import elasticvit FILE --out OUT ",
    "import torchvision FILE --space vit-b16 --out OUT ",
    "import timm FILE --space deit-tiny --out OUT ",
)
TORCH = "import torch torchvision:resnet18 --out OUT "
RUN_COMMANDS = ("evaluate RUN ", SEARCH, "export RUN ", "report RUN ")

CASES = (
    "describe digits [--seed 1]",
    "describe digits --arch largest [--seed 1]",
    "train --config digits --out OUT [--split-seed 1] --set data.split_seed=2",
    "train --config digits --out OUT [--init RUN] --set init=OTHER",
    FINETUNE + "[--set space=cifar]",
    FINETUNE + "[--set sampler.kind=largest]",
    FINETUNE + "[--set init=RUN]",
    FINETUNE + "[--set sampler={kind:largest}]",
    FINETUNE + "[--int8-for arm]",
    FINETUNE + "--quantise [--set regularization.dropout=0.1]",
    "evaluate RUN [--seed 1]",
    "evaluate RUN --arch largest [--seed 1]",
    CHECK + "[--threads 2]",
    CHECK + "[--provider CUDAExecutionProvider]",
    CHECK + "[--fallback]",
    CHECK + "[--batch 2]",
    CHECK + "[--precision int8]",
    CHECK + "[--int8-for arm]",
    CHECK + "[--held-out 20]",
    CHECK + "[--seed 1]",
    CHECK + "[--resume]",
    CHECK + "[--restart]",
    CHECK + "[--ssh pi@pi]",
    CHECK + "[--ssh-option Port=2]",
    CHECK + "[--remote-python python3.12]",
    CHECK + "[--adb any]",
    CHECK + "[--command tool]",
    CHECK + "[--latency-pattern x]",
    CHECK + "[--latency-unit us]",
    CHECK + "[--retries 3]",
    CHECK + "[--bundle B]",
    CHECK + "[--results R]",
    CHECK + "[--whole]",
    PROFILE + "[--merge A B] --check",
    PROFILE + "[--threads 2] --merge A B",
    PROFILE + "[--threads 2] --results R",
    PROFILE + "[--batch 2] --results R",
    PROFILE + "[--held-out 20] --results R",
    PROFILE + "[--seed 1] --results R",
    PROFILE + "[--threads 2] --command tool",
    PROFILE + "[--provider CUDAExecutionProvider] --command tool",
    PROFILE + "[--ssh-option Port=2]",
    PROFILE + "--adb any [--ssh-option Port=2]",
    PROFILE + "[--remote-python python3.12]",
    PROFILE + "--adb any --command tool [--remote-python python3.12]",
    PROFILE + "[--latency-pattern x]",
    PROFILE + "--command tool [--latency-unit us]",
    PROFILE + "[--latency-unit ms]",
    PROFILE + "[--retries 3]",
    PROFILE + "[--retries 2]",
    PROFILE + "[--whole]",
    PROFILE + "--results R [--whole]",
    PROFILE + "[--int8-for arm]",
    PROFILE + "--precision fp16 [--int8-for arm]",
    PROFILE + "[--fallback]",
    PROFILE + "--provider CPUExecutionProvider [--fallback]",
    SEARCH + "[--predictor ridge] --algorithm nsga2",
    SEARCH + "[--predictor ridge] --algorithm linas",
    SEARCH + "[--noise-ceiling 9] --algorithm exact",
    SEARCH + "--unmeasured [--bundle B]",
    SEARCH + "--unmeasured [--results R]",
    "export RUN --arch largest [--pick knee]",
    "export RUN --arch largest [--seed 1]",
    "export RUN [--seed 1]",
    "export RUN [--int8] --precision int8",
    "export RUN [--calibration minmax] --precision fp32",
    "export RUN [--calibration entropy] --precision fp16",
    "export RUN [--calibration entropy] --format torch",
    "benchmark m.onnx [--profiles P]",
    "benchmark m.onnx [--bundle B]",
    "benchmark m.onnx [--results R]",
    "benchmark m.onnx --device D [--threads 2]",
    "benchmark m.onnx --device D [--provider CUDAExecutionProvider]",
    "benchmark m.onnx --device D [--fallback]",
    "benchmark m.onnx [--fallback]",
    *(command + "--dataset mine:images [--classes C]" for command in IMPORTS),
    *(command + "--dataset mine:images [--validation-images 10]" for command in IMPORTS),
    *(command + "[--check-images]" for command in IMPORTS),
    *(command + "[--no-check-images]" for command in IMPORTS),
    *(
        command + f"--dataset {name} [--model vit_b_16]"
        for command in IMPORTS[-2:]
        for name in ("mine:images", "digits", "cifar10")
    ),
    *(command + "[--dataset m:images] --allow-import" for command in RUN_COMMANDS),
    SEARCH + "[--baseline random] --algorithm random",
    "pick RUN [--objective m:f] --allow-import",
    TORCH + "[--by-order]",
    TORCH + "[--key ema]",
    TORCH + "[--ratios 0.5,1] --elastic depth",
    TORCH + "[--round 4] --elastic depth,kernel",
    TORCH + "[--order none] --elastic kernel",
    TORCH + "--dataset cifar10 [--validation-images 10]",
    TORCH + "[--check-images]",
    TORCH + "[--no-check-images]",
)
"""Commands; the option in brackets has no effect."""

REPEATED = (
    "train --config digits --out OUT --set optimizer.lr=1 --set optimizer.lr=2",
    FINETUNE + "--set optimizer.lr=1 --set optimizer.lr=2",
    "evaluate RUN --arch largest --arch largest",
    "evaluate RUN --metric top1 --metric top1",
    PROFILE + "--ssh pi@pi --ssh-option Port=2 --ssh-option Port=2",
    SEARCH + "--device D",
    SEARCH + "--objective macs --objective macs",
    SEARCH + "--predictor ridge --predictor ridge",
    SEARCH + "--max macs=1 --max macs=2",
    SEARCH + "--min accuracy=0.5 --min accuracy=0.6",
    "pick RUN --max macs=1 --max macs=2",
    "pick RUN --min accuracy=0.5 --min accuracy=0.6",
    "pick RUN --objective m:f --objective m:f",
    "export RUN --arch largest --arch largest",
    "benchmark m.onnx --shape x=1,3,8,8 --shape x=1,3,8,8",
    *(command + "--resolution 224 --resolution 224" for command in IMPORTS),
    TORCH + "--resolution 224 --resolution 224",
    TORCH + "--arg num_classes=3 --arg num_classes=4",
    TORCH + "--keep layer4.* --keep layer4.*",
)
"""Commands whose last option occurs twice."""

ALWAYS_WITH_EFFECT: Mapping[str, str] = {
    "spaces": "--json",
    "describe": "--arch --json",
    "train": "--config --out --resume --allow-import",
    "finetune": "--arch --config --out --quantise --resume --allow-import",
    "evaluate": "--samples --accelerator --precision --allow-import --json",
    "profile": "--device --profiles --check --json",
    "search": "--profiles --algorithm --budget --minutes --validation-images --workers --accelerator "
    "--precision --unmeasured --seed --allow-import --json",
    "pick": "--device --profiles --allow-import --pick --json",
    "export": "--device --format --dynamic-batch --precision --out --allow-import --json",
    "benchmark": "--device --energy --json",
    "report": "--device --out --compare --allow-import --json",
    "demo": "--recipe --seed --out --resume --json",
    "attentivenas": "--out --dataset --split-seed",
    **dict.fromkeys(
        ("ofa", "autoformer", "prenas", "nasvit", "elasticvit", "torchvision", "timm"),
        "--space --out --dataset --split-seed",
    ),
    "torch": "--weights --elastic --classes --out --dataset --split-seed --json",
}
"""Options that have an effect, or give a permission, in all combinations; by command."""
REFUSED_BY_CONTENT = {
    "train": "--check-images --no-check-images",
    "finetune": "--check-images --no-check-images",
    "evaluate": "--calibration --calibration-images --data-root",
    "search": "--screen-images --warm-start --bits --int8-evaluations --data-root",
    "export": "--data-root",
    "report": "--data-root",
    "demo": "--data-root",
    **dict.fromkeys(
        ("ofa", "attentivenas", "autoformer", "prenas", "nasvit", "elasticvit", "torchvision", "timm"),
        "--data-root --key",
    ),
    "torch": "--data-root",
}
"""Options that have no effect with the contents of some runs or files; the tests below and those of these
contents use them. By command."""


@pytest.mark.parametrize("case", CASES)
def test_an_option_without_effect_is_an_error(nas: Nas, case: str) -> None:
    found = re.search(r"\[(--\S+)(.*)\]", case)
    assert found
    key = re.split("[.=]", found[2])[0] if found[1] == "--set" else ""
    assert_refused(nas(*re.sub(r"[\[\]]", "", case).split()), f"error: {found[1]}{key} has no effect ")


def commands() -> dict[str, TyperCommand]:
    """All commands by name."""
    found: dict[str, TyperCommand] = dict(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    imports: dict[str, TyperCommand] = found.pop("import").commands  # type: ignore[attr-defined]
    return found | imports


def options_of(command: TyperCommand) -> set[str]:
    """All options of a command, with both spellings of switches."""
    options = [p for p in command.params if p.param_type_name == "option"]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


def option_without_effect(case: str) -> str:
    """The option in brackets, or the last one, which is repeated."""
    options: list[str] = re.findall(r"\[(--[\w-]+)", case) or re.findall(r"--[\w-]+", case)
    return options[-1]


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_is_known_to_have_an_effect_or_is_refused_without(name: str) -> None:
    cases = [case for case in CASES + REPEATED if f"{case.removeprefix('import ')} ".startswith(f"{name} ")]
    tested = {option_without_effect(case) for case in cases}
    always = set(ALWAYS_WITH_EFFECT.get(name, "").split())
    by_content = set(REFUSED_BY_CONTENT.get(name, "").split())
    assert tested | always | by_content == options_of(commands()[name])
    assert not tested & always


@pytest.mark.parametrize("case", REPEATED)
def test_an_option_is_not_given_twice(nas: Nas, case: str) -> None:
    option = re.findall(r"--\S+", case)[-1]
    answer = nas(*case.split())
    assert_refused(answer, f"error: {option} ")
    assert "leave out one of them" in answer.err


@pytest.mark.usefixtures("quick_search")
def test_options_without_effect_in_a_run_are_errors(
    nas: Nas, trained: TrainedRun, device: Device, recipe: Path, tmp_path: Path
) -> None:
    ProfileStore().save(device)
    run = trained.run.path
    for command in ("evaluate", "search --device desk", "export --arch largest", "report"):
        name, *options = command.split()
        refused = nas(name, run, *options, "--dataset", "digits")
        assert_refused(refused, "--dataset has no effect: digits is not a custom data set")
        assert_refused(
            nas(name, run, *options, "--data-root", tmp_path), "leave out data.root or --data-root"
        )
    computed = ("search", run, "--device", "desk", "--objective", "macs", "--objective", "params")
    for option, value in (("--predictor", "ridge"), ("--noise-ceiling", 5)):
        refused = nas(*computed, option, value)
        assert_refused(refused, f"{option} has no effect: no objective or limit is predicted")
    assert trained.run.last_device is None
    out = tmp_path / "out"
    for option in ("--check-images", "--no-check-images"):
        assert_refused(nas("train", "--config", recipe, "--out", out, option), f"{option} has no effect")
    assert_refused(nas("demo", "--out", out, "--data-root", tmp_path), "leave out data.root or --data-root")


def test_every_rule_is_of_options_that_exist() -> None:
    for name, rules in RULES.items():
        known = options_of(commands()[name])
        for rule in rules:
            options = (*rule.options, *rule.needs, *rule.without)
            assert {option.partition("=")[0] for option in options} <= known, name
            for option in rule.options:
                assert any(
                    name in case and f"[{option.replace('=', ' ').rstrip('*')}" in case for case in CASES
                ), option


def test_embedded_images_have_no_folder(nas: Nas, recipe: Path, tmp_path: Path) -> None:
    answer = nas("train", "--config", recipe, "--out", tmp_path / "run", "--set", f"data.root={tmp_path}")
    assert_refused(answer, "the data set digits is embedded and has no data root; leave out data.root")
