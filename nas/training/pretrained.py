"""The start of an elastic training from pretrained weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.data.dataset import Dataset
from nas.recipes.recipe import Recipe
from nas.tasks import Task
from nas.torch_backend import coupled_channels
from nas.torch_backend.block_rank import rank_blocks, rank_blocks_of_stages
from nas.torch_backend.coupled_channels import elastic_channels, sort_channels_by
from nas.torch_backend.functional import run_network
from nas.torch_backend.supernet import Supernet
from nas.torch_backend.unit_order import Batches, Loss, norm_importance, sort_units, taylor_importance
from nas.training.loaders import rng_of
from nas.training.transfer import Transfer, classifier_names, transfer
from search_spaces import Block, Node, Space
from search_spaces.families.traced import TracedSpace
from search_spaces.families.vit import ViTSpace

_log = logging.getLogger("nas")
Ordered = ViTSpace | TracedSpace
"""Spaces whose pretrained weights are ordered."""
BATCH = 64
"""Images per pass."""


@dataclass(frozen=True)
class Prepared:
    """What a training starts from."""

    space: Space
    """The space with ranked blocks."""
    weights: Mapping[str, Tensor]
    """Weights of the supernet by name, on the CPU."""
    transferred: Transfer


def prepare(recipe: Recipe, space: Ordered, dataset: Dataset, task: Task, device: torch.device) -> Prepared:
    """Load the weights of the recipe's `init`, and sort units and rank blocks as its `ordering` says.

    The largest subnet computes the same as before, except for rounding. Blocks are ranked unless the space
    has a ranking.

    Raises:
        ValueError: as `transfer`, or the classifier was not loaded although the loss is needed.
    """
    if recipe.init is None:
        raise ValueError("ordering needs the key init, a run with pretrained weights")
    supernet = Supernet(space, recipe.seed, zero_init_residual=recipe.batch_norm.zero_init_residual)
    transferred = transfer(supernet, recipe.init, dataset.output_names)
    supernet.to(device).eval()
    images = clean_images(recipe, space, dataset, device)
    trained = not classifier_names(supernet) & {*transferred.reinitialized}
    by_norm = recipe.ordering.kind == "norm"
    if not (trained or by_norm):
        raise ValueError(
            "ordering.kind taylor needs a classifier for the classes of the data set, which init does not "
            "have; give ordering.kind=norm"
        )

    def loss_of(blocks: Sequence[Block]) -> float:
        return _loss(supernet, blocks, images, task.loss)

    if isinstance(space, TracedSpace):
        groups = elastic_channels(space)
        by_channel = (
            coupled_channels.norm_importance(supernet, groups)
            if by_norm
            else coupled_channels.taylor_importance(supernet, groups, images, task.loss)
        )
        ranked: Space = space.with_ranking(rank_blocks_of_stages(space, loss_of)) if trained else space
        sort_channels_by(supernet, groups, by_channel)
    else:
        by_unit = norm_importance(supernet) if by_norm else taylor_importance(supernet, images, task.loss)
        ranked = _ranked(space, loss_of) if trained else space
        sort_units(supernet, by_unit)
    weights = {name: tensor.cpu() for name, tensor in supernet.state_dict().items()}
    return Prepared(ranked, weights, transferred)


def _ranked(space: ViTSpace, loss_of: Callable[[Sequence[Block]], float]) -> ViTSpace:
    """The space with ranked blocks, unless it has a ranking or no choice of the depth."""
    if space.config.keep is not None or len(space.config.depth) == 1:
        return space
    keep = rank_blocks(space, loss_of)
    _log.info("blocks from the most to the least important: %s", " ".join(map(str, keep)))
    return space.with_keep(keep)


def clean_images(
    recipe: Recipe, space: Ordered, dataset: Dataset, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Batches of training images without augmentation, with their targets."""
    split, preprocess = dataset.split("train"), dataset.preprocess
    order = rng_of(recipe.seed, "ordering", 0).permutation(len(split))[: recipe.ordering.images]
    batches = []
    for start in range(0, len(order), BATCH):
        indices = order[start : start + BATCH]
        pixels = split.pixels(indices, preprocess, space.image_size(space.largest))
        x, targets = preprocess.normalize(pixels), split.targets[indices]
        batches.append((torch.from_numpy(x).to(device), torch.from_numpy(targets).to(device)))
    return batches


@torch.no_grad()
def _loss(supernet: Supernet, blocks: Sequence[Block], images: Batches, loss: Loss) -> float:
    """Mean loss of a network of some blocks of the supernet."""

    def compute(node: Node, inputs: Sequence[Tensor]) -> Tensor:
        output: Tensor = supernet.operator(node)(node, inputs)
        return output

    losses = [(len(x), float(loss(run_network(blocks, x, compute, fast=True), y))) for x, y in images]
    return sum(n * loss for n, loss in losses) / sum(n for n, _ in losses)
