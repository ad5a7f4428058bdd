"""Training recipes: YAML files with the settings of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError, model_validator

from nas.recipes.groups import (
    AugmentationConfig,
    BatchNormConfig,
    CheckpointsConfig,
    Clipping,
    ComputeConfig,
    DataConfig,
    Distillation,
    EmaConfig,
    ExternalDistillationConfig,
    FinetuningConfig,
    GradientProjectionConfig,
    InplaceDistillationConfig,
    LoggingConfig,
    LossConfig,
    NormClippingConfig,
    Optimizer,
    OrderingConfig,
    RegularizationConfig,
    SgdConfig,
)
from nas.recipes.keys import Group, with_changes, without_kinds
from nas.recipes.phases import Phase
from nas.recipes.samplers import (
    FixedSamplerConfig,
    OneSubnetConfig,
    ProgressiveConfig,
    RandomSubnetsConfig,
    SamplerConfig,
)
from nas.recipes.schedules import CosineSchedule, Schedule
from nas.recipes.values import Count, PathText, Seed
from search_spaces import Arch
from search_spaces.errors import one_line
from search_spaces.text_files import read_text
from search_spaces.yaml_text import load_yaml

WARMUP = CosineSchedule().warmup_epochs
"""Default warm-up of all schedules."""


class Recipe(Group):
    """How a supernet is trained. The fields are the keys of the YAML file and of `--set`."""

    schema_version: Literal[1] = 1
    """Version of the recipe's format."""
    space: PathText
    """Name of a space, path of its YAML file, or `init`: the space of the run in `init`."""
    task: str = "classification"
    """Meaning of the network's outputs: `classification`, or `module:object` of your own task."""
    epochs: Count
    """Passes over the training images."""
    seed: Seed = 0
    """Seed of the initial weights, the order of the images, the augmentation and the subnets."""
    init: PathText | None = None
    """Run whose weights training starts from: of the same space, perhaps on other data."""
    data: DataConfig
    augmentation: AugmentationConfig = AugmentationConfig()
    sampler: SamplerConfig = RandomSubnetsConfig()
    """Subnets that each step trains."""
    distillation: Distillation = InplaceDistillationConfig()
    """What the subnets learn from."""
    loss: LossConfig = LossConfig()
    optimizer: Optimizer = SgdConfig()
    """How gradients change the weights."""
    schedule: Schedule = CosineSchedule()
    """Learning rate over time."""
    clipping: Clipping = NormClippingConfig()
    """Limit of the gradients."""
    gradient_projection: GradientProjectionConfig = GradientProjectionConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    batch_norm: BatchNormConfig = BatchNormConfig()
    ema: EmaConfig = EmaConfig()
    ordering: OrderingConfig = OrderingConfig()
    finetuning: FinetuningConfig = FinetuningConfig()
    compute: ComputeConfig = ComputeConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    logging: LoggingConfig = LoggingConfig()

    @property
    def arch(self) -> Arch | None:
        """The only subnet that is trained, if the sampler is `one_subnet`."""
        return self.sampler.arch if isinstance(self.sampler, OneSubnetConfig) else None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the sampler `progressive`, if the recipe lists some."""
        return self.sampler.phases if isinstance(self.sampler, ProgressiveConfig) else ()

    @model_validator(mode="after")
    def _check_effect(self) -> Recipe:
        """Check that every key has an effect, given the other groups."""
        teacher = self.distillation
        unlabelled = isinstance(teacher, ExternalDistillationConfig) and not teacher.label_weight
        if unlabelled and self.loss != LossConfig():
            raise ValueError("loss has no effect while distillation.label_weight is 0; leave it out")
        single_subnet = isinstance(self.sampler, FixedSamplerConfig | OneSubnetConfig)
        if single_subnet and isinstance(teacher, InplaceDistillationConfig) and teacher.loss is not None:
            raise ValueError(
                f"distillation.loss has no effect with the sampler {self.sampler.kind}, which trains one "
                f"subnet per step; leave it out"
            )
        if single_subnet and isinstance(teacher, ExternalDistillationConfig) and teacher.inplace:
            raise ValueError(
                f"distillation.inplace has no effect with the sampler {self.sampler.kind}, which trains one "
                f"subnet per step; leave it out"
            )
        if single_subnet and self.gradient_projection.enabled:
            raise ValueError(
                f"gradient_projection has no effect with the sampler {self.sampler.kind}, which trains one "
                f"subnet per step; leave it out"
            )
        if self.gradient_projection.enabled and self.compute.precision == "16-mixed":
            raise ValueError(
                "with gradient_projection, compute.precision must be 32-true or bf16-mixed, got 16-mixed, "
                "which scales gradients"
            )
        if self.phases and self.schedule.warmup_epochs != WARMUP:
            raise ValueError(
                "schedule.warmup_epochs has no effect with sampler.phases, which have their own; leave it out"
            )
        return self

    def replace(self, changes: Mapping[str, object]) -> Recipe:
        """A recipe with other values of some keys, such as `{"optimizer.lr": 0.2}`.

        Raises:
            ValueError: as `load`.
        """
        return _validated(with_changes(self.model_dump(mode="json"), changes, Recipe), "recipe")

    def to_yaml(self) -> str:
        """The recipe as YAML text that `load` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def names() -> list[str]:
    """Names of the shipped recipes."""
    files = resources.files("nas.recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe with this name or in this YAML file, with `overrides` such as `optimizer.lr=0.2`.

    Raises:
        ValueError: no such recipe or file, an unknown key, or a value that the key does not allow.
    """
    text = str(name_or_path)
    if text in names():
        content = resources.files("nas.recipes").joinpath(f"{text}.yaml").read_text(encoding="utf-8")
    elif text.endswith((".yaml", ".yml")):
        try:
            content = read_text(text)
        except OSError as error:
            raise ValueError(f"cannot read the recipe {text}: {error.strerror}") from None
    else:
        raise ValueError(f"recipe must be one of {names()} or the path of a YAML file, got {text!r}")
    return parse(content, overrides, source=text)


def parse(text: str, overrides: Sequence[str] = (), source: str = "recipe") -> Recipe:
    """The recipe in a YAML text, with `overrides`; error messages name the text as `source`.

    Raises:
        ValueError: as `load`.
    """
    content = load_yaml(text, source)
    if not isinstance(content, dict):
        raise ValueError(f"{source} must be a YAML mapping with the keys of a recipe, got {content!r:.60}")
    changes = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ValueError(f"--set must look like key=value, got {override!r}")
        changes[key.strip()] = load_yaml(value, f"--set {override}")
    return _validated(with_changes(content, changes, Recipe), source)


def _validated(content: Mapping[str, object], source: str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ValueError(
            one_line(error, source, shorten=lambda place: without_kinds(place, Recipe))
        ) from None
