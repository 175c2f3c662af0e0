import torch
from torch import nn

from crrl_fast.models import frozen_copy, momentum_update


def test_the_key_follows_as_a_moving_average():
    torch.manual_seed(0)
    query = nn.GRU(3, 4, 2, bidirectional=True).double()
    key = frozen_copy(query)
    assert not any(parameter.requires_grad for parameter in key.parameters())
    with torch.no_grad():
        for parameter in query.parameters():
            parameter.add_(torch.randn_like(parameter))
    expected = [0.9 * k + 0.1 * q for k, q in zip(key.parameters(), query.parameters(), strict=True)]
    before = [parameter.clone() for parameter in query.parameters()]
    momentum_update(key, query, 0.9)
    for have, want in zip(key.parameters(), expected, strict=True):
        torch.testing.assert_close(have, want.detach(), rtol=0, atol=1e-14)
    assert all(torch.equal(a, b) for a, b in zip(before, query.parameters(), strict=True))
