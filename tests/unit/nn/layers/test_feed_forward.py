from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptivepatch.nn.layers import feed_forward
from adaptivepatch.nn.layers.feed_forward import FeedForward


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("values_at_a_time", [16, 100, 2**17])
def test_training_equals_the_layers_one_after_the_other(dropout, values_at_a_time, monkeypatch):
    monkeypatch.setattr(feed_forward, "_CHUNK_VALUES", values_at_a_time)  # 1, 6 and all tokens
    torch.manual_seed(0)
    block = FeedForward(4, 16, dropout).double().train()
    tokens = torch.randn(3, 5, 4).double()
    weight = torch.randn(3, 5, 4).double()
    results = []
    for forward in (block.forward, lambda values: nn.Sequential.forward(block, values)):
        torch.manual_seed(1)  # both draw the same masks
        block.zero_grad()
        values = tokens.clone().requires_grad_()
        result = forward(values)
        (result * weight).sum().backward()
        results.append([result.detach(), values.grad, *(p.grad for p in block.parameters())])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.51, 0.9])
def test_drops_in_the_middle_as_often_as_asked(p):
    torch.manual_seed(0)
    count, width = 2000, 64
    block = FeedForward(1, width, p).train()
    with torch.no_grad():  # every value of the middle is 1; the output counts those kept
        block[0].weight.zero_()
        block[0].bias.fill_(10.0)
        block[3].weight.fill_(0.1)
        block[3].bias.zero_()
        rounded = round(256 * p) / 256
        kept = block(torch.zeros(count, 1)) * (1 - rounded)
    sigma = (rounded * (1 - rounded) * count * width) ** 0.5
    assert abs(float(kept.sum()) - count * width * (1 - rounded)) < 5 * sigma


def test_a_frozen_layer_gets_no_gradient():
    block = FeedForward(4, 16, 0.2).train()
    block[0].weight.requires_grad_(False)
    block(torch.randn(6, 4)).sum().backward()
    assert block[0].weight.grad is None
    assert block[3].weight.grad is not None


def test_eval_and_autocast_leave_it_to_the_layers():
    block = FeedForward(4, 16, 0.2)
    tokens = torch.randn(6, 4)
    torch.testing.assert_close(block.eval()(tokens), block[3](block[1](block[0](tokens))))
    with torch.autocast("cpu", torch.bfloat16):
        assert block.train()(tokens).dtype == torch.bfloat16
