"""Options without effect are errors, over all commands."""

import re
from pathlib import Path

import pytest
import typer
from conftest import Nas, assert_refused

from nas.cli import main as cli
from nas.cli.no_effect import RULES

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
    "import torchvision FILE --space vit-b16 --out OUT ",
    "import timm FILE --space deit-tiny --out OUT ",
)

CASES = (
    "describe digits [--seed 1]",
    "describe digits --arch largest [--seed 1]",
    "train --config digits --out OUT [--split-seed 1] --set data.split_seed=2",
    "train --config digits --out OUT [--init RUN] --set init=OTHER",
    FINETUNE + "[--set space=cifar]",
    FINETUNE + "[--set sampler.kind=largest]",
    FINETUNE + "[--set init=RUN]",
    FINETUNE + "[--set sampler={kind:largest}]",
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
)
"""Commands; the option in brackets has no effect."""


@pytest.mark.parametrize("case", CASES)
def test_an_option_without_effect_is_an_error(nas: Nas, case: str) -> None:
    found = re.search(r"\[(--\S+)(.*)\]", case)
    assert found
    key = re.split("[.=]", found[2])[0] if found[1] == "--set" else ""
    assert_refused(nas(*re.sub(r"[\[\]]", "", case).split()), f"error: {found[1]}{key} has no effect ")


def test_every_rule_is_of_options_that_exist() -> None:
    commands = dict(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    commands |= commands["import"].commands
    for name, rules in RULES.items():
        parameters = commands[name].params
        known = {
            option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)
        }
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
