"""Groups of recipe keys, apart from those of schedules and samplers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nas.recipes.keys import Group, MayChange
from nas.recipes.values import LARGEST, Count, CountOrZero, Fraction, NotNegative, PathText, Positive, Seed
from search_spaces import Arch


class DataConfig(Group):
    """Training images and how they are loaded."""

    dataset: str
    """Name of a data set, or `module:object`."""
    root: Annotated[PathText | None, MayChange] = None
    """Folder of the data set, unless the data set is built in."""
    split_seed: Seed = 0
    """Seed of the train, validation and test splits."""
    batch_size: Annotated[int, Field(ge=2, le=LARGEST)] = 64
    """Images per step, over all processes."""
    order: Literal["shuffled", "importance"] = "shuffled"
    """Images of an epoch: `shuffled`, each image once; `importance`, drawn with replacement, images with
    larger errors more often (PA&DA)."""
    workers: Annotated[CountOrZero | None, MayChange] = None
    """Processes that load images ahead, for each training process; null: for images in files, the cores that
    affinity and CPU quota allow, divided by the training processes; otherwise 0."""


class AugmentationConfig(Group):
    """Augmentation of the training images."""

    kind: str = "dataset"
    """`dataset`: the augmentation of the data set; or an augmentation of the task. Classification has `crop`,
    a random part, mirrored half of the time; `crop_color`, also random brightness and saturation;
    `autoaugment`, also AutoAugment's policies."""
    mixup_alpha: NotNegative = 0.0
    """Parameter of mixup's beta distribution; 0: no mixup. If cutmix is used too, each batch uses one of
    them."""
    cutmix_alpha: NotNegative = 0.0
    """Parameter of cutmix's beta distribution; 0: no cutmix."""


class LossConfig(Group):
    """Loss on the labels."""

    label_smoothing: Fraction | None = None
    """Share of the target that is spread over all classes; null: the task's default, 0.1 for
    classification."""


class _DistillationConfig(Group):
    kind: str
    loss: str | None = None
    """Distance between the outputs of teacher and subnet; null: the first loss of the task. Classification
    has `kl` (Kullback-Leibler) and `alpha` (adaptive alpha-divergence, AlphaNet)."""


class InplaceDistillationConfig(_DistillationConfig):
    """The first subnet of a step learns from the labels, the others from the outputs of the first."""

    kind: Literal["inplace"] = "inplace"


class ExternalDistillationConfig(_DistillationConfig):
    """All subnets learn from the mean output of trained networks."""

    kind: Literal["external"] = "external"
    teachers: Annotated[tuple[PathText, ...], Field(min_length=1)]
    """Trained runs of the same classes, whose largest subnets are the teachers; `init`: the run in `init`."""
    label_weight: NotNegative = 0.0
    """Weight of the loss on the labels, which is added to that of the distillation."""
    inplace: bool = False
    """All subnets of a step except the first learn from the mean of the teachers and the first subnet."""


class NoDistillationConfig(Group):
    """All subnets learn from the labels."""

    kind: Literal["none"] = "none"


class _OptimizerConfig(Group):
    kind: str
    lr: Positive = 0.1
    """Peak learning rate."""
    weight_decay: NotNegative = 1e-4
    """Weight decay of kernels and matrices, not of biases and norms. It acts once per step for any number of
    subnets, so it equals a penalty on the weights of the largest subnet."""


class _MomentumConfig(_OptimizerConfig):
    momentum: Fraction = 0.9
    """Momentum."""


class SgdConfig(_MomentumConfig):
    """SGD with Nesterov momentum."""

    kind: Literal["sgd"] = "sgd"


class RmspropConfig(_MomentumConfig):
    """RMSProp with the decay of BigNAS, 0.9."""

    kind: Literal["rmsprop"] = "rmsprop"


class AdamWConfig(_OptimizerConfig):
    """AdamW."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    """Peak learning rate."""
    beta1: Fraction = 0.9
    """Decay of the average gradient."""


class NormClippingConfig(Group):
    """Gradients are scaled down to a largest norm."""

    kind: Literal["norm"] = "norm"
    max_norm: Positive = 5.0
    """Largest norm of a step's gradient."""


class ValueClippingConfig(Group):
    """Each number of a gradient is limited."""

    kind: Literal["value"] = "value"
    max_value: Positive = 1.0
    """Largest absolute number in a step's gradient."""


class NoClippingConfig(Group):
    """Gradients are not limited."""

    kind: Literal["none"] = "none"


class GradientProjectionConfig(Group):
    """If the gradient of a step's first subnet conflicts with that of the others, its component against them
    is removed (NASViT, Gong et al. 2022)."""

    enabled: bool = False
    """Project the gradients. Clipping then limits the sum of the others only. Needs memory for one more
    gradient."""
    start: Fraction = 0.0
    """Share of the training after which gradients are projected; NASViT has 0.25."""

    @model_validator(mode="after")
    def _check_effect(self) -> GradientProjectionConfig:
        if self.start and not self.enabled:
            raise ValueError("start has no effect without enabled; leave it out")
        return self


class RegularizationConfig(Group):
    """Dropout and drop-connect."""

    dropout: Fraction = 0.0
    """Share of the features before the classifier that is dropped."""
    drop_connect: Fraction = 0.0
    """Probability that an image skips the last residual branch; it rises linearly from the first branch."""
    drop_connect_stages: Count | None = None
    """Number of stages at the end of the network with drop-connect; null: all."""
    apply_to: Literal["largest", "all"] = "largest"
    """Subnets with dropout and drop-connect: the largest (BigNAS), or all."""

    @model_validator(mode="after")
    def _check_effect(self) -> RegularizationConfig:
        if self.drop_connect_stages is not None and not self.drop_connect:
            raise ValueError("drop_connect_stages has no effect without drop_connect; leave it out")
        if self.apply_to != "largest" and not (self.dropout or self.drop_connect):
            raise ValueError("apply_to has no effect without dropout or drop_connect; leave it out")
        return self


class BatchNormConfig(Group):
    """Batch norm in training."""

    synchronized: bool = False
    """Normalize with the moments of all processes' images instead of each process's own."""
    zero_init_residual: bool = True
    """Initialize the last batch norm of residual branches with zero."""


class EmaConfig(Group):
    """Exponential moving average of the weights, which is the result of the training."""

    decay: Fraction = 0.0
    """Decay per step; 0: the last weights are the result."""


class OrderingConfig(Group):
    """Order of pretrained heads, hidden channels and blocks, so that smaller subnets leave out the least
    important ones; for vision transformers and imported networks that start from `init`."""

    kind: Literal["none", "norm", "taylor"] = "none"
    """`none`: as in `init`; `norm`: by the norms of the weights; `taylor`: by the first-order estimate
    of the change of the loss if one is removed. Both also rank blocks by the change of the loss if one is
    removed."""
    images: Count = 512
    """Training images on which the loss is computed."""

    @model_validator(mode="after")
    def _check_effect(self) -> OrderingConfig:
        if self.kind == "none" and self.images != type(self).model_fields["images"].default:
            raise ValueError("images has no effect with the kind none; leave it out")
        return self


class FinetuningConfig(Group):
    """Training that starts from the weights of another run."""

    head_lr: Positive | None = None
    """Peak learning rate of the classifier; null: as for the other weights."""
    freeze_body: bool = False
    """Train the classifier only."""
    quantise: Arch | None = None
    """A subnet with a precision for each part, whose INT8 parts are trained with the rounding of the exported
    file; null: without rounding. The option `--quantise` of `nas finetune` sets it."""
    int8_for: str | None = None
    """Instruction set for which the INT8 parts are rounded."""

    @model_validator(mode="after")
    def _check_effect(self) -> FinetuningConfig:
        if self.freeze_body and self.head_lr is not None:
            raise ValueError(
                "head_lr has no effect with freeze_body, which trains the classifier with optimizer.lr; "
                "leave head_lr out"
            )
        if (self.quantise is None) != (self.int8_for is None):
            raise ValueError(
                "quantise and int8_for must be set together: use the option --quantise of `nas finetune`"
            )
        return self


class ComputeConfig(Group):
    """Hardware, processes and precision."""

    accelerator: Annotated[str, MayChange] = "auto"
    """As in Lightning Fabric: `auto`, `cpu`, `cuda`, `mps`."""
    devices: Annotated[Count, MayChange] = 1
    """Processes on each machine, one per device."""
    num_nodes: Annotated[Count, MayChange] = 1
    """Machines."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Precision of the computation; weights are always float32."""
    threads: Annotated[Count | None, MayChange] = None
    """CPU threads of each process; null: its share of the cores that affinity and CPU quota allow. Small
    networks gain little from several threads."""
    accumulate: Count = 1
    """Parts into which each process splits its share of a batch to save memory."""


class CheckpointsConfig(Group):
    """Checkpoints from which a stopped training resumes."""

    every_n_minutes: Annotated[Positive, MayChange] = 5.0
    """Time between two checkpoints."""
    keep_last: Annotated[Count, MayChange] = 2
    """Number of checkpoints on disk; more than one limits the loss if a file is damaged."""


class LoggingConfig(Group):
    """Training log."""

    every_n_steps: Count | None = None
    """Steps between two rows of the log; null: one epoch. Without a terminal, also between two lines of
    progress; null: 10 s."""
    tensorboard: Annotated[bool, MayChange] = False
    """Write TensorBoard events into the run (`pip install elastic-nas[tensorboard]`)."""


Distillation = Annotated[
    InplaceDistillationConfig | ExternalDistillationConfig | NoDistillationConfig,
    Field(discriminator="kind"),
]
Optimizer = Annotated[SgdConfig | RmspropConfig | AdamWConfig, Field(discriminator="kind")]
Clipping = Annotated[NormClippingConfig | ValueClippingConfig | NoClippingConfig, Field(discriminator="kind")]
