"""One optimizer step over the subnets that the sampler chooses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from nas.data.global_generator import seeded
from nas.onnx_backend.precision import MIXED, blocks_in
from nas.recipes.recipe import Recipe
from nas.samplers import Step
from nas.tasks import Task
from nas.torch_backend.dropout import Dropout
from nas.training.fake_quantization import FakeQuantization
from nas.training.gradient_projection import SeparateGradients
from nas.training.loaders import TrainingBatch, resolutions_by_size, rng_of
from nas.training.log import TrainedSubnet
from nas.training.optimizers import LR_SCALE, clip_gradients
from nas.training.reductions import average_gradients, mean_over_processes
from nas.training.state import TrainingState
from nas.training.supervision import LossBuilder
from search_spaces import Arch
from search_spaces.checked import reason


class TrainingStep:
    """Computes the gradients of the subnets of a step and updates the weights once.

    Args:
        fabric: devices and precision.
        state: the training state to update.
        recipe: the recipe.
        task: the task.
        supervision: creates the losses of the subnets.
        total: number of steps of the whole training.
    """

    def __init__(
        self,
        fabric: Fabric,
        state: TrainingState,
        recipe: Recipe,
        task: Task,
        supervision: LossBuilder,
        total: int,
    ) -> None:
        self.fabric = fabric
        self.state = state
        self.recipe = recipe
        self.task = task
        self.supervision = supervision
        self.total = total
        space = state.supernet.space
        self.resolutions = resolutions_by_size(space)
        self.rounding: FakeQuantization | None = None
        if recipe.finetuning.quantise:
            blocks = blocks_in(space, recipe.finetuning.quantise, MIXED)
            self.rounding = FakeQuantization(blocks, recipe.finetuning.int8_for)
        self.dropout = None
        noise = recipe.regularization
        if noise.dropout or noise.drop_connect:
            self.dropout = Dropout(space, noise.dropout, noise.drop_connect, noise.drop_connect_stages)

    def __call__(self, batch: TrainingBatch, lr: float) -> list[TrainedSubnet]:
        """Run the step.

        If the step fails before the weights are updated, the state is unchanged.

        Args:
            batch: images of this process.
            lr: learning rate.

        Returns:
            the results of the subnets of the step.

        Raises:
            ValueError: the sampler raised an error, or chose no subnets.
            FloatingPointError: losses or gradients are not finite.
        """
        step = self._sampler_step(batch)
        with self._restore_sampler_on_error():
            subnets = self._subnets(step)
            separate = self._separate_gradients(subnets)
            trained, outputs = self._compute_gradients(subnets, batch, separate)
            if batch.indices is not None:
                self.state.data_order.observe(batch.indices, self.task.errors(outputs, batch.y))
        losses = [subnet.loss for subnet in trained]
        self._update_weights(losses, lr, separate)
        self.state.step += 1
        with self._sampler_errors():
            self.state.sampler.observe(step, subnets, losses)
        return trained

    def _subnets(self, step: Step) -> Sequence[Arch]:
        with self._sampler_errors():
            subnets = list(self.state.sampler.subnets(step))
        if not subnets or not all(isinstance(arch, Arch) for arch in subnets):
            raise ValueError(
                f"the sampler {self.recipe.sampler.kind!r} must choose one Arch or more for each step, "
                f"got {subnets!r:.100} at step {self.state.step}"
            )
        return subnets

    @contextmanager
    def _restore_sampler_on_error(self) -> Iterator[None]:
        """Context that restores the state of the sampler after an error, so that the step can be repeated."""
        sampler = self.state.sampler
        with self._sampler_errors():
            before = deepcopy(sampler.state_dict())
        try:
            yield
        except BaseException:
            sampler.load_state_dict(before)
            raise

    @contextmanager
    def _sampler_errors(self) -> Iterator[None]:
        """Context that converts errors of a user's sampler to a `ValueError` with its name.

        Raises:
            ValueError: instead of the error of the sampler.
        """
        try:
            yield
        except ConnectionError:  # from a collective that the sampler called
            raise
        except Exception as error:
            if type(self.state.sampler).__module__.startswith("nas."):
                raise
            raise ValueError(f"the sampler {self.recipe.sampler.kind!r} raised {reason(error)}") from error

    def _sampler_step(self, batch: TrainingBatch) -> Step:
        """The arguments of the sampler for this step."""
        return Step(
            rng=rng_of(self.recipe.seed, "subnets", self.state.step),
            resolutions=self.resolutions[batch.x.shape[-1]],
            progress=self.state.step / self.total,
            supernet=self.state.supernet,
            evaluate_losses=lambda archs: self._evaluate_losses(archs, batch),
            restart=self.state.restart,
        )

    @torch.no_grad()
    def _evaluate_losses(self, archs: Sequence[Arch], batch: TrainingBatch) -> list[float]:
        """See `nas.samplers.base.EvaluateLosses`."""
        weight = self._weight(batch.y, batch)
        losses = [weight * self.task.loss(self._outputs(arch, batch.x), batch.y) for arch in archs]
        values: list[float] = mean_over_processes(torch.stack(losses)).tolist()
        return values

    def _separate_gradients(self, subnets: Sequence[Arch]) -> SeparateGradients | None:
        """Holder of separate gradients if the gradient of the first subnet is projected in this step; else
        None."""
        projection = self.recipe.gradient_projection
        started = self.state.step >= projection.start * self.total
        if projection.enabled and started and len(subnets) > 1:
            return SeparateGradients(self.state.supernet.parameters())
        return None

    def _compute_gradients(
        self, subnets: Sequence[Arch], batch: TrainingBatch, separate: SeparateGradients | None
    ) -> tuple[list[TrainedSubnet], Tensor]:
        """Sum the gradients over the subnets; if `separate` is given, the first subnet's gradient is kept
        apart.

        Returns:
            the results of the subnets, and the outputs of the first one.
        """
        self.state.optimizer.zero_grad()
        n = self.recipe.compute.accumulate
        sums = torch.zeros(2, len(subnets), device=batch.x.device)
        first: list[Tensor] = []
        with self._noise():
            for x, y in zip(batch.x.tensor_split(n), batch.y.tensor_split(n), strict=True):
                loss_of = self.supervision(x, y)
                weight = self._weight(y, batch)
                for i, arch in enumerate(subnets):
                    outputs = self._outputs(arch, x, self._dropout_of(arch))
                    loss = weight * loss_of(outputs)
                    with separate.of_first() if separate and i == 0 else nullcontext():
                        self.fabric.backward(loss)
                    outputs = outputs.detach()
                    metric = self.task.training_metric(outputs, y)
                    sums[:, i] += torch.stack([loss.detach(), weight * metric])
                    if i == 0:
                        first.append(outputs)
        if separate:
            with separate.of_first():
                average_gradients(self.state.supernet.parameters(), sums.new_empty(0))
        means = average_gradients(self.state.supernet.parameters(), sums.flatten())
        trained = zip(subnets, *means.view_as(sums).tolist(), strict=True)
        return [TrainedSubnet(*values) for values in trained], torch.cat(first)

    def _weight(self, targets: Tensor, batch: TrainingBatch) -> float:
        """Weight of the mean over some images of the batch.

        With this weight, the sum over the parts of each process, averaged over processes, is the mean over
        all images.
        """
        return len(targets) * self.fabric.world_size / batch.total

    def _outputs(self, arch: Arch, x: Tensor, dropout: Dropout | None = None) -> Tensor:
        with self.fabric.autocast():
            supernet, rounding = self.state.supernet, self.rounding
            outputs: Tensor = (
                supernet.with_rounding(x, arch, rounding) if rounding else supernet(x, arch, dropout)
            )
        return outputs.float()

    def _dropout_of(self, arch: Arch) -> Dropout | None:
        """The dropout with which a subnet is trained; None: without dropout."""
        largest = self.state.supernet.space.largest
        with_noise = self.recipe.regularization.apply_to == "all" or arch == largest | {
            "resolution": arch["resolution"]
        }
        return self.dropout if with_noise else None

    def _noise(self) -> AbstractContextManager[None]:
        """Context that seeds torch's global generators, which dropout uses."""
        if self.dropout is None:
            return nullcontext()
        rng = rng_of(self.recipe.seed, f"dropout of process {self.fabric.global_rank}", self.state.step)
        return seeded(int(rng.integers(2**62)), self.fabric.device)

    def _update_weights(self, losses: Sequence[float], lr: float, separate: SeparateGradients | None) -> None:
        state, recipe = self.state, self.recipe
        norm = clip_gradients(self.fabric, state.supernet, state.optimizer, recipe.clipping)
        if separate:
            norm = separate.combine()
        scaled = recipe.compute.precision == "16-mixed"  # the loss scaler skips steps that overflow
        if not (scaled or norm.isfinite()) or not np.isfinite(losses).all():
            raise FloatingPointError(
                f"training diverged at step {state.step}: losses {losses}, gradient norm {norm:.3g}; "
                f"lower optimizer.lr ({recipe.optimizer.lr}) or clip gradients more and start again"
            )
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group[LR_SCALE]
        state.consistent = False
        state.optimizer.step()
        if state.average:
            state.average.update_parameters(state.supernet)
        state.consistent = True
