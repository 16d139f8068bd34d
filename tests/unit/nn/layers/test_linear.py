from __future__ import annotations

import pytest
import torch

from adaptivepatch.nn.layers.linear import Linear


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(7, 5), (16, 16), (16, 1), (3, 40)])
def test_is_torchs_linear(sizes, bias, training):
    torch.manual_seed(0)
    ours = Linear(*sizes, bias=bias).double().train(training)
    plain = torch.nn.Linear(*sizes, bias=bias).double()
    plain.load_state_dict(ours.state_dict())
    first = torch.randn(4, 3, sizes[0]).double().requires_grad_()
    second = first.detach().clone().requires_grad_()
    found, expected = ours(first), plain(second)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(first.grad, second.grad, rtol=0, atol=1e-13)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("patches", [1, 5, 14])
def test_equal_rows_give_equal_bits_anywhere_in_the_batch(dtype, patches):
    torch.manual_seed(0)
    for num_in in (1, 3, 5, 7, 12, 16, 17, 33, 70, 112, 672):
        for num_out in (1, 2, 5, 8, 11, 12, 16, 24, 33, 96):
            layer = Linear(num_in, num_out).to(dtype).eval()
            row = torch.randn(patches, num_in, dtype=dtype)
            with torch.no_grad():
                result = layer(row.expand(64, -1, -1).contiguous())
            assert bool((result == result[:1]).all()), (num_in, num_out)
