import pytest
import torch

from adaptivepatch.nn.layers.scan import smooth


def loop(values, share):
    """One element after the other, in float64."""
    share = share.double().clamp(1e-4, 1 - 1e-4)[..., None]
    before, found = torch.zeros_like(values[:, 0], dtype=torch.float64), []
    for k in range(values.shape[1]):
        before = share[:, k] * values[:, k].double() + (1 - share[:, k]) * before
        found.append(before)
    return torch.stack(found, 1)


def case(length, dtype, edge=1e-4):
    generator = torch.Generator().manual_seed(length)
    values = torch.randn(3, length, 4, generator=generator, dtype=torch.float64)
    share = torch.rand(3, length, generator=generator, dtype=torch.float64)
    share[:, ::7] = 1 - edge
    share[:, 3::11] = edge
    return values.to(dtype).requires_grad_(), share.to(dtype).requires_grad_()


@pytest.mark.parametrize("length", [1, 2, 3, 17, 64, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smoothing_is_the_loop(length, dtype):
    values, share = case(length, dtype)
    found = smooth(values, share)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), loop(values, share), atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [1, 5, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_gradient_is_the_loops(length, dtype):
    is_double = dtype == torch.float64
    values, share = case(length, dtype, edge=1e-4 if is_double else 1.01e-4)  # float32 rounds
    weight = torch.randn(3, length, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    if not is_double:  # gradients below 1, so that 1e-6 is a share of them, too
        weight = weight / 10
    tolerance = 1e-9 if is_double else 1e-6
    found = torch.autograd.grad((smooth(values, share) * weight).sum(), [values, share])
    exact_values, exact_share = values.detach().double(), share.detach().double()
    exact_values.requires_grad_()
    exact_share.requires_grad_()
    exact = torch.autograd.grad(
        (loop(exact_values, exact_share) * weight.double()).sum(), [exact_values, exact_share]
    )
    for ours, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=tolerance, rtol=tolerance)


def test_a_certain_element_forgets_what_was_before():
    values = torch.tensor([[[5.0], [7.0]]])
    found = smooth(values, torch.tensor([[1.0, 1.0]]))
    assert found[0, 1, 0].item() == pytest.approx(7 * 0.9999 + 5 * 1e-4 * 0.9999, rel=1e-6)


def test_half_precision_is_smoothed_in_single():
    assert (
        smooth(torch.ones(1, 4, 2, dtype=torch.bfloat16), torch.ones(1, 4)).dtype == torch.float32
    )
