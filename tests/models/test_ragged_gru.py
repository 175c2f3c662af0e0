import copy
import io
import pickle

import pytest
import torch
from torch import nn

from crrl_fast.models import MotionEncoder, RaggedGRU, SequenceDecoder, frozen_copy, momentum_update
from tests.ops.gru_cases import stock_gru

X, LENGTHS = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([6, 0, 3, 1])
SIZES = [(5, 7, 1), (5, 4, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_weights_move_both_ways(size, bias, bidirectional):
    torch.manual_seed(0)
    ours = RaggedGRU(*size, bias=bias, bidirectional=bidirectional)
    torch.manual_seed(0)
    stock = nn.GRU(*size, bias=bias, bidirectional=bidirectional, batch_first=True)
    assert list(ours.state_dict()) == list(stock.state_dict())
    for (name, mine), (other, theirs) in zip(ours.named_parameters(), stock.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(mine, theirs)  # the same initialisation
    torch.testing.assert_close(ours(X).outputs, stock(X)[0])
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.normal_()
    ours.load_state_dict(stock.state_dict())
    torch.testing.assert_close(ours(X).outputs, stock(X)[0])
    fresh = nn.GRU(*size, bias=bias, bidirectional=bidirectional, batch_first=True)
    fresh.load_state_dict(ours.state_dict())
    torch.testing.assert_close(fresh(X)[0], ours(X).outputs)


def test_it_runs_on_ragged_batches_and_on_the_device(device):
    module = RaggedGRU(5, 7, 2, bidirectional=True).to(device).double()
    x, lengths = X.double().to(device), LENGTHS.to(device)
    expected = stock_gru(x, list(module.parameters()), LENGTHS, num_layers=2, bidirectional=True)
    torch.testing.assert_close(module(x, lengths), expected)
    assert module(x, lengths, return_outputs=False).outputs is None


def test_constant_input(device):
    module = RaggedGRU(5, 7, 2, constant_input=True).to(device)
    plain = RaggedGRU(5, 7, 2).to(device)
    plain.load_state_dict(module.state_dict())
    x, lengths = X[:, 0].to(device), LENGTHS.to(device)
    torch.testing.assert_close(module(x, lengths, frames=6), plain(x[:, None].repeat(1, 6, 1), lengths))
    with pytest.raises(TypeError, match=r"constant_input=True needs frames=T, got frames=None"):
        module(x)
    with pytest.raises(TypeError, match="constant_input=False takes no frames, got frames=6"):
        plain(x, frames=6)
    assert repr(module).endswith("constant_input=True)")
    assert "constant_input" not in repr(plain)


def test_dropout_in_training_mode_only():
    module = RaggedGRU(5, 7, 2, dropout=0.5)
    results = [module(X).mean for _ in range(2)]
    assert not torch.allclose(*results)
    module.eval()
    assert torch.equal(module(X).mean, module(X).mean)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"weights\[0\] \(weight_ih_l0\) must have shape \[21, 4\], got \[21, 5\]"):
        RaggedGRU(5, 7)(X[:, :, :4])


def test_copies_follow_without_sharing(device):
    query = RaggedGRU(5, 7, 2, bidirectional=True).to(device)
    x = X.to(device)
    key, clone = frozen_copy(query), copy.deepcopy(query)
    before = key(x).mean
    assert torch.equal(before, query(x).mean)
    with torch.no_grad():
        for parameter in query.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert torch.equal(key(x).mean, before)
    assert not torch.allclose(query(x).mean, before)
    momentum_update(key, query, 0.0)
    assert torch.equal(key(x).mean, query(x).mean.detach())
    assert not key(x).mean.requires_grad
    clone.train()(x).mean.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in clone.parameters())
    assert all(parameter.grad is None for parameter in query.parameters())


def test_it_survives_pickling_and_saving():
    module = RaggedGRU(5, 7, 2, bidirectional=True, constant_input=True)
    expected = module(X[:, 0], frames=4).mean
    module.flatten_parameters()
    other = pickle.loads(pickle.dumps(module))
    assert torch.equal(other(X[:, 0], frames=4).mean, expected)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh = RaggedGRU(5, 7, 2, bidirectional=True, constant_input=True)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(X[:, 0], frames=4).mean, expected)


def test_other_weights_can_be_called_for(device):
    module = RaggedGRU(5, 7).to(device)
    other = {name: torch.randn_like(parameter) for name, parameter in module.named_parameters()}
    got = torch.func.functional_call(module, other, (X.to(device),))
    module.load_state_dict(other)
    torch.testing.assert_close(got, module(X.to(device)))


def test_compiles_as_one_graph(device):
    module = RaggedGRU(5, 7, 2, bidirectional=True, dropout=0.3).to(device)
    x, lengths = X.to(device), LENGTHS.to(device)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for training in (True, False):
        module.train(training)
        found = []
        for function in (module, compiled):
            torch.manual_seed(0)
            found.append(torch.autograd.grad(function(x, lengths).mean.square().sum(), list(module.parameters())))
        torch.testing.assert_close(*found)


def test_encoder_and_decoder_keep_the_names_of_their_weights():
    names = {"gru.weight_ih_l0", "gru.weight_hh_l1", "gru.bias_ih_l0", "gru.bias_hh_l1"}
    assert names <= set(MotionEncoder(5, 7, 2, 0.2).state_dict())
    assert names <= set(SequenceDecoder(14, 5, 2).state_dict())


def test_a_decoder_stops_at_the_length(device):
    decoder = SequenceDecoder(14, 5, 2).to(device)
    vector = torch.randn(4, 14, device=device)
    whole, ragged = decoder(vector, 6), decoder(vector, 6, LENGTHS.to(device))
    assert whole.shape == ragged.shape == (4, 6, 5)
    valid = torch.arange(6) < LENGTHS[:, None]
    torch.testing.assert_close(ragged[valid], whole[valid])
    assert ragged[~valid].count_nonzero() == 0
    assert whole.count_nonzero() == whole.numel()


def test_an_encoder_gives_mean_first_and_last(device):
    encoder = MotionEncoder(5, 7, 2, 0.5).to(device).eval()
    x, lengths = X.to(device), LENGTHS.to(device)
    outputs = encoder.gru(x, lengths).outputs
    feature, first, last = encoder(x, lengths)
    torch.testing.assert_close(feature[2], outputs[2, :3].mean(dim=0))
    torch.testing.assert_close(first, outputs[:, 0])
    torch.testing.assert_close(last[2], outputs[2, 2])
    assert feature[1].count_nonzero() == 0
