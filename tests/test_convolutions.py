import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas.torch_backend.depthwise import depthwise_conv
from nas.torch_backend.functional import FUNCTIONS
from search_spaces import operators as ops


def gradients(x: Tensor, weight: Tensor, out: Tensor) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(out, (x, weight), torch.randn_like(out))


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 20),
    size=st.integers(1, 13),
    kernel=st.sampled_from([1, 3, 5, 7, 9, 11]),
    stride=st.integers(1, 3),
    channels_last=st.booleans(),
)
def test_outputs_and_gradients_equal_torch(
    batch: int, channels: int, size: int, kernel: int, stride: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, channels, size, size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, 1, kernel, kernel)
    x.requires_grad_(), weight.requires_grad_()
    ours = depthwise_conv(x, weight, stride)
    expected = F.conv2d(x, weight, None, stride, kernel // 2, groups=channels)
    torch.testing.assert_close(ours, expected)
    for mine, reference in zip(gradients(x, weight, ours), gradients(x, weight, expected), strict=True):
        # sums of up to batch * size**2 = 845 products in another order
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-4)


def test_gradient_of_a_slice_of_a_larger_kernel_is_zero_outside_the_slice() -> None:
    largest = torch.randn(6, 1, 7, 7, requires_grad=True)
    depthwise_conv(torch.randn(2, 4, 5, 5), largest[:4, :, 1:-1, 1:-1], 1).sum().backward()
    assert largest.grad is not None
    assert (largest.grad[:4, :, 1:-1, 1:-1] != 0).all()
    largest.grad[:4, :, 1:-1, 1:-1] = 0
    assert (largest.grad == 0).all()


@pytest.mark.parametrize("needed", [(True, False), (False, True)])
def test_only_required_gradients_are_computed(needed: tuple[bool, bool]) -> None:
    x = torch.randn(2, 4, 5, 5, requires_grad=needed[0])
    weight = torch.randn(4, 1, 5, 5, requires_grad=needed[1])
    depthwise_conv(x, weight, 1).sum().backward()
    assert (x.grad is not None, weight.grad is not None) == needed


@pytest.mark.parametrize("channels", [3, 7, 15])
@pytest.mark.parametrize("stride", [2, 3])
def test_gradients_of_narrow_strided_convolutions(channels: int, stride: int) -> None:
    # of torch's own gradients in float32, those of the weight may be wrong, and memory may be overwritten
    op = ops.Conv2d(8, (1, 1), (stride, stride))
    x = torch.randn(2, channels, 56, 56).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(8, channels, 1, 1, requires_grad=True)
    ours = FUNCTIONS[ops.Conv2d](op, [x], {"weight": weight})
    exact = F.conv2d(x.double(), weight.double(), None, stride)  # oneDNN does not compute float64
    torch.testing.assert_close(ours, exact.float(), rtol=1e-4, atol=1e-4)
    gradient = torch.randn_like(ours)
    mine = torch.autograd.grad(ours, (x, weight), gradient)
    references = torch.autograd.grad(exact, (x, weight), gradient.double())
    for tensor, reference in zip(mine, references, strict=True):
        # sums of up to 2 * 28**2 = 1568 products of unit variance
        torch.testing.assert_close(tensor, reference, rtol=1e-4, atol=1e-3)
