"""Training recipes: YAML files that say what to train and how."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from nas.recipes.phases import LARGEST, Count, NotNegative, Phase, Positive
from search_spaces import Arch
from search_spaces.errors import one_line
from search_spaces.text_files import read_text
from search_spaces.yaml_text import load_yaml

Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]

MAY_CHANGE = frozenset(
    {"data_root", "accelerator", "devices", "num_nodes", "workers", "threads"}
    | {"checkpoint_minutes", "keep_checkpoints", "tensorboard"}
)
"""Keys that may be another when a run is resumed: where it computes and what it keeps, not what it trains."""


class Recipe(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False):
    """How a supernet is trained. The fields are the keys of the YAML file and of `--set`."""

    schema_version: Literal[1] = 1
    """Of the recipe's format."""
    space: str
    """Name of a space or path of its YAML file."""
    dataset: str
    """Name of a data set, or `module:object`."""
    task: str = "classification"
    """What the network's outputs mean: classification, or `module:object` of a task of your own."""
    data_root: str | None = None
    """Folder of the data set, where it is not embedded."""
    split_seed: Seed = 0
    """Draws other train / validation / test splits."""
    epochs: Count
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=2, le=LARGEST)] = 64
    """Images per step, over all processes."""
    sampler: str = "sandwich"
    """Which subnets each step trains: sandwich, largest, uniform, macs_uniform, progressive, attentive_best,
    attentive_worst, complexity_banks, performance_banks, complexity_adaptive, path_importance, preferred,
    nested, or `module:object`."""
    n_random: Annotated[int, Field(ge=0, le=LARGEST)] = 2
    """Subnets a step beside those that the sampler always has: of `sandwich` the largest and the smallest."""
    phases: tuple[Phase, ...] = ()
    """Of `progressive`; the learning rate begins anew in each. None: OFA's, under one learning rate."""
    distillation: Literal["inplace", "external", "none"] = "inplace"
    """What the step's subnets learn from: the labels the first and its outputs the others; the outputs of
    `teachers` all; or the labels all."""
    teachers: tuple[str, ...] = ()
    """Of `external`: trained runs of the same classes, whose largest subnets' outputs are averaged; `init` is
    the run that training begins with."""
    label_weight: NotNegative = 0.0
    """Of `external`: weight of the loss on the labels, added to that of the distillation."""
    distillation_loss: str | None = None
    """Distance between the outputs of teacher and subnet, by name; none: the first one of the task. Of
    classification: `kl` (Kullback-Leibler) or `alpha` (adaptive alpha divergence, AlphaNet)."""
    optimizer: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    """How gradients change the weights; SGD with Nesterov momentum."""
    lr: Positive = 0.1
    """Peak learning rate."""
    momentum: Fraction = 0.9
    """Of SGD and RMSProp; of AdamW the first beta."""
    weight_decay: NotNegative = 1e-4
    """Not applied to biases and batch norms. Once a step, however many subnets the step has, and so the same
    as a penalty on the weights of the largest subnet alone."""
    schedule: Literal["cosine", "cosine_from_start", "exponential", "constant"] = "cosine"
    """Learning rate after the warm-up: half a cosine over what remains, or over the whole training; a factor
    `lr_decay` every `lr_decay_epochs`; or the peak."""
    warmup_epochs: NotNegative = 1.0
    """Linear warm-up, in epochs."""
    lr_decay: Fraction = 0.97
    """Of `exponential`."""
    lr_decay_epochs: Positive = 2.4
    """Of `exponential`."""
    lr_floor: Fraction = 0.0
    """Lowest learning rate after the warm-up, as a share of the peak."""
    label_smoothing: Fraction | None = None
    """Of classification: share of the target that is spread over all classes; none: 0.1."""
    augment: Literal["dataset", "crop", "crop_color", "autoaugment"] = "dataset"
    """Random variants of the images: those of the data set; a random part, mirrored half of the time; this
    with other brightness and saturation; or with AutoAugment's policies."""
    mixup_alpha: NotNegative = 0.0
    """Parameter of mixup's beta distribution; 0: no mixup. With cutmix, each batch has one of the two."""
    cutmix_alpha: NotNegative = 0.0
    """Parameter of cutmix's beta distribution; 0: no cutmix."""
    data_sampling: Literal["uniform", "importance"] = "uniform"
    """Images of an epoch: each once, or drawn more and more by how wrong the outputs were (PA&DA)."""
    regularize: Literal["all", "largest"] = "largest"
    """Which subnets dropout and drop-connect act on (BigNAS: on the largest alone)."""
    dropout: Fraction = 0.0
    """Share of the features before the classifier that is dropped."""
    drop_connect: Fraction = 0.0
    """Chance by which an image skips the last residual branch; it rises linearly from the first."""
    drop_connect_stages: Count | None = None
    """Stages at the end of the network that have drop-connect; none: all."""
    clip_norm: Positive | None = 5.0
    """Largest norm of a step's gradient; none: any."""
    clip_value: Positive | None = None
    """Largest number in a step's gradient, instead of a largest norm; none: any."""
    zero_init_residual: bool = True
    """Start the last batch norm of residual branches at zero."""
    ema_decay: Fraction = 0.0
    """Decay per step of the exponential moving average of the weights; 0: none."""
    seed: Seed = 0
    """Of the initial weights, the order of the data, the augmentation and the subnets."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Numbers that networks compute with; weights are always float32."""
    accelerator: str = "auto"
    """As in Lightning Fabric: `auto`, `cpu`, `cuda`, `mps`."""
    devices: Count = 1
    """Processes on this machine, one a device."""
    num_nodes: Count = 1
    """Machines."""
    workers: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """Processes that load images ahead; worth it for images that are read from files."""
    threads: Count | None = None
    """CPU threads of each process; none: its share of the cores that affinity and CPU quota allow. Small
    networks gain little from several threads, and lose much where another program wants a core."""
    checkpoint_minutes: Positive = 5.0
    """Time between checkpoints."""
    keep_checkpoints: Count = 2
    """The last ones that stay; more than one, so that a damaged file costs little."""
    batch_norm: Literal["local", "synchronized"] = "local"
    """Whose images give the moments in training: those of each process, or of all of them together."""
    init: str | None = None
    """Run whose weights training begins with; it may have seen other data, not another space."""
    accumulate: Count = 1
    """Parts that each process computes its share of a batch in, one after another, for less memory."""
    log_steps: Count | None = None
    """Steps between two rows of the logs, and two lines where there is no terminal; none: an epoch, 10 s."""
    tensorboard: bool = False
    """Write events for TensorBoard into the run (`pip install elastic-nas[tensorboard]`)."""
    lr_head: Positive | None = None
    """Peak learning rate of the classifier, larger where it is made anew; none: that of the other weights."""
    freeze_body: bool = False
    """Train the classifier alone."""
    arch: Arch | None = None
    """The only subnet to train, where it is one (`nas finetune`)."""

    def to_yaml(self) -> str:
        """The recipe as YAML text that `load` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def names() -> list[str]:
    """Names of the recipes that are shipped."""
    files = resources.files("nas.recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of this name, or the one in a YAML file, with `overrides` such as `epochs=3`.

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
    """The recipe that YAML text describes, with `overrides`; `source` names the text in error messages.

    Raises:
        ValueError: as `load`.
    """
    content = load_yaml(text, source)
    if not isinstance(content, dict):
        raise ValueError(f"{source} must be a YAML mapping with the keys of a recipe, got {content!r:.60}")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ValueError(f"--set must look like key=value, got {override!r}")
        content[key.strip()] = load_yaml(value, f"--set {override}")
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        known = ", ".join(Recipe.model_fields)
        unknown = any(item["type"] == "extra_forbidden" for item in error.errors())
        raise ValueError(one_line(error, source) + f"; the keys are {known}" * unknown) from None
    return recipe
