"""Conversion of a torch model to a supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from nas.importing.torch_model.lowering import Layer, Lowering, equal_layers
from nas.importing.torch_model.plan import Options, Plan, plan
from nas.importing.torch_model.rules import RULES
from nas.importing.torch_model.trace import Tracing
from nas.importing.torch_model.views import recognize
from nas.torch_backend.coupled_channels import elastic_channels
from nas.torch_backend.importance import norm_importance, sort_units
from nas.torch_backend.supernet import Supernet
from search_spaces.families.traced import TracedSpace


@dataclass(frozen=True)
class Converted:
    """A supernet that was made from a model, with a description of the conversion."""

    supernet: Supernet
    layers: tuple[Layer, ...]
    plan: Plan
    training_only: tuple[str, ...]
    """Modules that were dropped because only training uses them."""
    refused: tuple[tuple[int, str], ...]
    """Resolutions that were left out, with the reasons."""

    @property
    def space(self) -> TracedSpace:
        """The space of the supernet."""
        space = self.supernet.space
        assert isinstance(space, TracedSpace)
        return space


def convert(
    model: nn.Module,
    resolutions: Sequence[int],
    options: Options | None = None,
    *,
    outputs: int | None = None,
    sort: bool = False,
    name: str = "own",
    origin: str = "",
    channels: int | None = None,
) -> Converted:
    """Convert a model to a supernet whose largest subnet computes the same outputs as the model.

    Args:
        model: the model, on the CPU. It is in eval mode afterwards.
        resolutions: sides of the images, in pixels. A resolution is left out if the model has other operators
            for it than for the largest one.
        options: which parts become elastic.
        outputs: number of outputs; None: as many as the model has. With another number, the last layer has
            random weights.
        sort: sort elastic channels by importance, see `norm_importance`.
        name: name of the space.
        origin: description of the model for readers of the space file.
        channels: channels of the images; None: as many as the first convolution reads.

    Raises:
        ValueError: the model cannot be traced or translated, or has no elastic part.
    """
    n_channels = channels or _image_channels(model)
    tracing = Tracing(model, n_channels)
    training_only: tuple[str, ...] = ()
    lowered: dict[int, tuple[Layer, ...]] = {}
    refused: list[tuple[int, str]] = []
    for resolution in sorted(resolutions, reverse=True):
        try:
            traced = tracing.trace(resolution)
            if not lowered:
                training_only = tracing.training_only(traced, resolution)
            layers = tuple(Lowering(traced, RULES, recognize, n_channels, resolution).layers)
        except ValueError as error:
            if not lowered:
                raise
            refused.append((resolution, str(error)))
            continue
        if lowered and not equal_layers(layers, next(iter(lowered.values()))):
            refused.append((resolution, "its operators differ from those of the largest resolution"))
            continue
        lowered[resolution] = layers
    layers = next(iter(lowered.values()))
    planned = plan(
        layers,
        options or Options(),
        name=name,
        origin=origin or type(model).__name__,
        resolutions=sorted(lowered),
        channels=n_channels,
    )
    config = planned.config.model_copy(update={"outputs": outputs or planned.config.outputs})
    supernet = Supernet(TracedSpace(config), zero_init_residual=False).eval()
    weights = supernet.state_dict()
    supernet.load_state_dict(weights | _weights(model, layers, weights))
    if sort:
        groups = elastic_channels(supernet.space)
        sort_units(supernet, groups, norm_importance(supernet, groups))
    return Converted(supernet, layers, planned, training_only, tuple(refused))


def _weights(model: nn.Module, layers: Sequence[Layer], initial: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights and statistics of a model by their names in the supernet, if they have the same shape there."""
    original = model.state_dict()
    own = {f"{layer.path}.{name}": tensor for layer in layers for name, tensor in layer.tensors.items()}
    tensors = {name: own[name] if name in own else original[name] for name in initial}
    return {
        name: tensor.reshape(initial[name].shape)
        for name, tensor in tensors.items()
        if tensor.numel() == initial[name].numel()
    }


def _image_channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise ValueError("a model must have a convolution that reads the images")
