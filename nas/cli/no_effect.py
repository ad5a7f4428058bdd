"""Before a command starts, checks that every given option has an effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from typer.core import TyperCommand


class Rule(NamedTuple):
    """A rule about options that have no effect; options are written as on the command line.

    `--arch` means the option with any value. `--arch=random` means the option with a matching value; patterns
    may contain `*`.
    """

    options: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """The options have an effect only together with one of these."""
    without: tuple[str, ...] = ()
    """The options have no effect together with any of these."""
    reason: str = ""
    """Explanation for the message; empty if the reason is obvious."""


_RUNTIME = ("--threads", "--provider", "--fallback")
_CONNECTIONS = ("--ssh", "--adb", "--command", "--bundle", "--results")
_CONNECTION_DETAILS = (
    "--ssh-option",
    "--remote-python",
    "--latency-pattern",
    "--latency-unit",
    "--retries",
    "--whole",
)
_MEASURING = (*_RUNTIME, "--batch", "--precision", "--int8-for", "--held-out", "--seed")
_FALLBACK = Rule(("--fallback",), needs=("--provider",), without=("--provider=CPUExecutionProvider",))
_OTHER_IMAGES = ("--dataset=*:*", "--dataset=digits", "--dataset=fashion-mnist", "--dataset=cifar*")
_SUBSET = Rule(("--validation-images", "--classes"), without=_OTHER_IMAGES)
_PREPROCESSING = Rule(("--model",), without=_OTHER_IMAGES, reason="they have their own preprocessing")

_WITHOUT_PREDICTOR = ("exact", "nsga2", "random", "regularized_evolution", "coarse_to_fine")
_PUBLISHED = ("ofa", "attentivenas", "autoformer", "prenas", "nasvit", "elasticvit")
_SINGLE_NETWORKS = ("torchvision", "timm")
_FIXED_CHANNELS = ("--elastic=depth", "--elastic=kernel", "--elastic=depth,kernel", "--elastic=kernel,depth")
_IMPORT_OF_DATA = Rule(("--dataset",), without=("--allow-import",), reason="it allows all imports")
_CHECKED_IMAGES = Rule(("--check-images", "--no-check-images"), needs=("--data-root", "--dataset"))

RULES: Mapping[str, Sequence[Rule]] = {
    "describe": [Rule(("--seed",), needs=("--arch=random",))],
    "train": [
        Rule(("--split-seed",), without=("--set=data.split_seed",)),
        Rule(("--init",), without=("--set=init",)),
    ],
    "finetune": [
        Rule(("--set=space", "--set=sampler*", "--set=init"), needs=()),
        Rule(("--int8-for",), needs=("--quantise",)),
        Rule(("--set=regularization*",), without=("--quantise",), reason="it trains without dropout"),
    ],
    "evaluate": [Rule(("--seed",), needs=("--samples", "--arch=random")), _IMPORT_OF_DATA],
    "profile": [
        Rule(
            (*_MEASURING, "--resume", "--restart", *_CONNECTIONS, *_CONNECTION_DETAILS), without=("--check",)
        ),
        Rule(_MEASURING, without=("--results",), reason="the bundle defines what was measured"),
        Rule(_RUNTIME, without=("--command",), reason="the tool runs the networks"),
        Rule(("--ssh-option",), needs=("--ssh",)),
        Rule(("--remote-python",), needs=("--ssh", "--adb"), without=("--command",)),
        Rule(("--latency-pattern", "--retries"), needs=("--command",)),
        Rule(("--latency-unit",), needs=("--latency-pattern",)),
        Rule(("--whole",), needs=("--bundle",)),
        Rule(("--int8-for",), needs=("--precision=int8", "--precision=mixed")),
        Rule(
            (*_RUNTIME, "--batch", "--precision", "--int8-for"),
            without=("--merge",),
            reason="the merged profiles define it",
        ),
        Rule(("--merge",), without=("--check",)),
        _FALLBACK,
    ],
    "search": [
        Rule(("--bundle", "--results"), without=("--unmeasured",)),
        Rule(
            ("--predictor", "--noise-ceiling"),
            without=tuple(f"--algorithm={name}" for name in _WITHOUT_PREDICTOR),
            reason="it uses no predictor",
        ),
        Rule(("--predictor",), without=("--algorithm=linas",), reason="it always uses ridge"),
        Rule(
            ("--baseline",),
            without=("--algorithm=random",),
            reason="the search and the baseline would be the same",
        ),
        _IMPORT_OF_DATA,
    ],
    "pick": [Rule(("--objective",), without=("--allow-import",), reason="it allows all imports")],
    "export": [
        Rule(("--pick",), without=("--arch",)),
        Rule(("--seed",), needs=("--arch=random",)),
        Rule(("--int8",), without=("--precision",)),
        Rule(("--calibration",), without=("--precision=fp32", "--precision=fp16", "--format=torch")),
        _IMPORT_OF_DATA,
    ],
    "report": [_IMPORT_OF_DATA],
    "benchmark": [
        Rule(("--profiles", "--bundle", "--results"), needs=("--device",)),
        Rule(_RUNTIME, without=("--device",), reason="its profile defines how networks run"),
        _FALLBACK,
    ],
    **{source: [_SUBSET, _CHECKED_IMAGES] for source in _PUBLISHED},
    **{source: [_SUBSET, _PREPROCESSING, _CHECKED_IMAGES] for source in _SINGLE_NETWORKS},
    "torch": [
        Rule(("--key",), needs=("--weights",)),
        Rule(("--ratios", "--round", "--order"), without=_FIXED_CHANNELS, reason="all channels stay"),
        Rule(("--validation-images",), without=_OTHER_IMAGES),
        _CHECKED_IMAGES,
    ],
}
"""Rules by command."""

_ONCE_PER_NAME = ("--set", "--max", "--min", "--arg")
"""Options of the form NAME=VALUE, in which each name may occur once."""


class Command(TyperCommand):
    """A command that rejects options without effect."""

    def invoke(self, ctx: Any) -> Any:
        """See `TyperCommand`; `ctx` is a context of the copy of click inside typer.

        Raises:
            ValueError: a given option has no effect.
        """
        given = _given(ctx)
        for rule in RULES.get(ctx.info_name, ()):
            for option in rule.options:
                if _is_given(option, given):
                    _check(option, rule, given)
        for option in _ONCE_PER_NAME:
            _check_names(option, given.get(option, ()))
        for option, values in given.items():
            _check_repeated(option, values)
        return super().invoke(ctx)


def _given(ctx: Any) -> dict[str, list[str]]:
    """The values of each option on the command line, by each of the option's names."""
    given: dict[str, list[str]] = {}
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name)
        if parameter.param_type_name == "option" and source is not None and source.name != "DEFAULT":
            value = ctx.params[parameter.name]
            values = [str(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
            names = parameter.secondary_opts if value is False else parameter.opts  # --restart: not --resume
            given.update(dict.fromkeys(names, values))
    return given


def _is_given(option: str, given: Mapping[str, list[str]]) -> bool:
    name, _, pattern = option.partition("=")
    return any(fnmatchcase(value.partition("=")[0], pattern or "*") for value in given.get(name, ()))


def _check(option: str, rule: Rule, given: Mapping[str, list[str]]) -> None:
    for other in rule.without:
        if _is_given(other, given):
            reason = f": {rule.reason}" if rule.reason else ""
            raise ValueError(
                f"{_spelled(option)} has no effect with {_spelled(other)}{reason}; leave out one of them"
            )
    if not any(_is_given(other, given) for other in rule.needs):
        if rule.needs:
            partners = " or ".join(map(_spelled, rule.needs))
            raise ValueError(
                f"{_spelled(option)} has no effect without {partners}; add {partners}, or leave it out"
            )
        if not rule.without:
            raise ValueError(f"{_spelled(option)} has no effect here; leave it out")


def _check_names(option: str, values: Sequence[str]) -> None:
    names = [value.partition("=")[0].strip() for value in values]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{option} must have each name once, got {name!r} twice; leave out one of them")


def _check_repeated(option: str, values: Sequence[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{option} {value} is given twice; leave out one of them")


def _spelled(option: str) -> str:
    return option.replace("=*:*", "=module:object").replace("=", " ").rstrip("*")
