"""BN recalibration: running statistics of a subnet from training images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nas.data.batches import MIN_CALIBRATION_IMAGES, ImageSample, calibration_samples
from nas.data.dataset import Dataset
from nas.data.loading import Batch
from nas.evaluation.moments import Moments, channel_moments, merge_moments
from nas.tasks import Task
from nas.threads import Map
from nas.torch_backend.execution import Execution
from nas.torch_backend.folded import node_weights
from nas.torch_backend.functional import Weights
from nas.torch_backend.precision import ON_CPU, Computation
from nas.torch_backend.static import StaticNet, module_at
from search_spaces import BLOCK_INPUT
from search_spaces import operators as ops
from search_spaces.graph import chain


@dataclass(frozen=True, slots=True)
class Method:
    """A method of recalibration: the training images and the definition of the variance."""

    images: int
    batch_size: int
    unbiased: bool
    """Divide a batch's sum of squares by n - 1 (as torch does) instead of n."""
    augmented: bool
    """Use the training augmentation of the data set."""


DEFAULT = "default"
NO_CALIBRATION = "none"
"""Identifies evaluations in spaces without batch norms in the archive."""
METHODS: Mapping[str, Method] = {
    # on digits, augmented images cost 4 to 10 points of accuracy and worsen the ranking
    DEFAULT: Method(images=512, batch_size=256, unbiased=True, augmented=False),
    "ofa": Method(images=2_000, batch_size=200, unbiased=False, augmented=True),
    "attentivenas": Method(images=16_384, batch_size=256, unbiased=True, augmented=True),
    "alphanet": Method(images=8_192, batch_size=256, unbiased=True, augmented=True),
}
"""The default and the methods of published tools: OFA (Cai et al. 2020), AttentiveNAS and the search of
AlphaNet (Wang et al. 2021, with AutoAugment as augmentation)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A method of recalibration with its number of images and its seed."""

    images: int | None = None
    """Number of training images, or all if there are fewer; None: the number of the method."""
    seed: int = 0
    method: str = DEFAULT

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"calibration must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self._n_images < MIN_CALIBRATION_IMAGES:
            raise ValueError(
                f"calibration images must be >= {MIN_CALIBRATION_IMAGES}, got {self.images}: "
                f"one image has no variance"
            )

    @property
    def key(self) -> str:
        """Text that identifies the calibration in the archive."""
        return f"{self.method}:{self._n_images}:seed{self.seed}"

    @property
    def augmented(self) -> bool:
        """Whether the images are augmented as in training."""
        return METHODS[self.method].augmented

    def samples(self, dataset: Dataset, task: Task) -> list[ImageSample]:
        """The batches of training images."""
        method = METHODS[self.method]
        strata = task.strata(dataset.split("train").targets)
        return calibration_samples(strata, self._n_images, method.batch_size, self.seed)

    def recalibration(self, net: StaticNet, computation: Computation = ON_CPU) -> Recalibration:
        """The recalibration of one network."""
        return Recalibration(net, unbiased=METHODS[self.method].unbiased, computation=computation)

    @property
    def _n_images(self) -> int:
        return METHODS[self.method].images if self.images is None else self.images


@torch.no_grad()
def recalibrate(net: StaticNet, batches: Iterable[Batch], *, unbiased: bool = True) -> None:
    """Set the running mean and variance of every batch norm from `batches`, in place; see `Recalibration`."""
    recalibration = Recalibration(net, unbiased=unbiased)
    for x, _ in batches:
        recalibration.add([x])
    recalibration.finish()


class Recalibration:
    """Sets the running mean and variance of every batch norm of a network from batches of images.

    Subnets share weights but not statistics, so subnets with inherited weights need this (Yu and Huang 2019,
    §3.3). The statistics are means over the batches, weighted by their numbers of images. During the
    recalibration, layers normalize with the moments of the current batch.

    A batch is computed in parts. All parts are computed up to the next batch norm before any part continues,
    so that the moments cover the whole batch while each step needs only the memory of a part.

    Args:
        net: a static network; `finish` changes it.
        unbiased: whether the variance of a batch is unbiased, see `Method`.
        computation: where and how the network is computed; `net` stays on the CPU.
    """

    def __init__(self, net: StaticNet, *, unbiased: bool = True, computation: Computation = ON_CPU) -> None:
        self._net, self._unbiased, self._autocast = net, unbiased, computation.autocast
        self.network = chain(net.blocks)
        nodes = self.network.nodes
        self._weights: dict[str, Weights] = {
            node.path: node_weights(net, node.path, computation.device) for node in nodes if node.parameters
        }
        self._execution = Execution(self.network, self._weights)
        self._norms = [i for i, node in enumerate(nodes) if isinstance(node.op, ops.BatchNorm)]
        self._sums: dict[str, Tensor] = {}
        """By path: mean and variance of each batch, times its number of images."""
        self._n_images = 0

    @property
    def needed(self) -> bool:
        """Whether the network has batch norms."""
        return bool(self._norms)

    def add(self, parts: Iterable[Tensor], run: Map = map) -> None:
        """Add a batch.

        Args:
            parts: the images of the batch in parts.
            run: runs a function on each part, such as `map`, or the `map` of a pool of threads.
        """
        states = [{BLOCK_INPUT: part} for part in parts]
        n_images = sum(len(state[BLOCK_INPUT]) for state in states)
        start = 0
        for i in self._norms:
            n, mean, var = merge_moments(list(run(partial(self._moments, start, i), states)))
            path = self.network.nodes[i].path
            self._weights[path] = {
                **self._weights[path],
                "running_mean": mean.float(),
                "running_var": var.float(),
            }
            moments = torch.stack([mean, var * (n / (n - 1) if self._unbiased else 1)])
            self._sums[path] = self._sums.get(path, 0) + n_images * moments
            start = i
        self._n_images += n_images

    def finish(self) -> None:
        """Store the statistics of all batches in the network, and set it to eval mode."""
        self._net.eval()
        for path, sums in self._sums.items():
            mean, var = (sums / self._n_images).float()
            norm = module_at(self._net, path)
            # copied, because torch.export cannot store views of one tensor
            norm.load_state_dict({"running_mean": mean, "running_var": var}, strict=False)

    @torch.no_grad()
    def _moments(self, start: int, end: int, tensors: dict[int, Tensor]) -> Moments:
        """Run the nodes of one part up to a batch norm, and return the moments of the input of this norm."""
        with self._autocast():
            self._execution(tensors, start, end)
        return channel_moments(tensors[self.network.nodes[end].inputs[0]])
