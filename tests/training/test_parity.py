"""Each stage against an independent statement of the method, in float64.

The statement is written from the paper's equations with stock ``nn.GRU``, ``pack_padded_sequence`` and plain tensor
code: clip by clip, with its own velocity, decoder loop, InfoNCE and moving average. It shares no code with the package.
"""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, SequenceReconstructor

WIDTH = 60
RECIPE = Recipe(hidden_size=7, layers=2, dropout=0.0, queue_size=6, momentum=0.9)


@pytest.fixture
def batch(tiny_store):
    """Return a ragged float64 batch with a one-frame clip."""
    lengths = tiny_store.lengths.tolist()
    index = torch.tensor([0, 1, *sorted(range(2, 24), key=lambda i: lengths[i] % 7)[:3]])
    clips = ResidentClips(tiny_store, index, tiny_store.frames.double())
    return clips.batch(torch.tensor([2, 0, 4, 1, 3]))


def clips_of(batch):
    return [batch.coords[i, : int(n)] for i, n in enumerate(batch.lengths)]


def copy_gru(source, **options):
    """Return a stock GRU with the weights of ``source``, parameters shared by name so that gradients compare."""
    gru = nn.GRU(source.input_size, source.hidden_size, source.num_layers, batch_first=True, **options).double()
    gru.load_state_dict(source.state_dict())
    return gru


def encode(gru, clips):
    """Return per clip the outputs (T, C)."""
    lengths = torch.tensor([len(clip) for clip in clips])
    packed = pack_padded_sequence(pad_sequence(clips, batch_first=True), lengths, True, enforce_sorted=False)
    padded, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
    return [padded[i, :n] for i, n in enumerate(lengths.tolist())]


def decode(gru, vector, frames):
    """Return (frames, D): the GRU is fed the same vector step by step, its state carried by hand."""
    state, outputs = None, []
    for _ in range(frames):
        output, state = gru(vector.view(1, 1, -1), state)
        outputs.append(output.view(-1))
    return torch.stack(outputs)


def reconstruction_loss(decoder, outputs, clips):
    total = 0
    for output, clip in zip(outputs, clips, strict=True):
        frames = len(clip)
        total += ((decode(decoder, output[0], frames) - clip) ** 2).sum() / frames
        total += ((decode(decoder, output[-1], frames) - torch.flip(clip, [0])) ** 2).sum() / frames
    return total / len(clips)


def velocity(clip):
    return torch.stack([clip[t + 1] - clip[t] if t + 1 < len(clip) else torch.zeros(WIDTH) for t in range(len(clip))])


def apply_mlp(head, x):
    return torch.clamp(x @ head[0].weight.T + head[0].bias, min=0) @ head[2].weight.T + head[2].bias


def copy_mlp(source):
    size = source[0].in_features
    mlp = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size)).double()
    mlp.load_state_dict(source.state_dict())
    return mlp


def assert_same_gradients(pairs):
    compared = 0
    for ours, theirs in pairs:
        for (name, have), want in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert want.grad.abs().max() > 0, name
            torch.testing.assert_close(have.grad, want.grad, rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
            compared += 1
    assert compared > 0


def test_ser(batch):
    torch.manual_seed(1)
    stage = SequenceReconstructor(WIDTH, RECIPE).double()
    encoder, decoder = copy_gru(stage.encoder.gru, bidirectional=True), copy_gru(stage.decoder.gru)
    clips = clips_of(batch)

    expected = reconstruction_loss(decoder, encode(encoder, clips), clips)
    losses = stage(batch)
    torch.testing.assert_close(losses["loss"], expected, rtol=0, atol=1e-9)
    expected.backward()
    losses["loss"].backward()
    assert_same_gradients([(stage.encoder.gru, encoder), (stage.decoder.gru, decoder)])


@pytest.mark.parametrize("key_mlp_momentum", [False, True])
def test_cml(batch, key_mlp_momentum):
    torch.manual_seed(2)
    recipe = RECIPE.with_overrides({"key_mlp_momentum": key_mlp_momentum})
    stage = ContrastiveMotionLearner(WIDTH, recipe).double()
    with torch.no_grad():  # as if some steps had been taken: query and key differ
        for parameter in [*stage.encoder.parameters(), *stage.head.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
    query_gru, head = copy_gru(stage.encoder.gru, bidirectional=True), copy_mlp(stage.head)
    key_gru, key_head = copy_gru(stage.key_encoder.gru, bidirectional=True), copy_mlp(stage.key_head)
    queue = stage.queue.keys.clone()
    clips = clips_of(batch)

    followers = [(key_gru, query_gru), *([(key_head, head)] if key_mlp_momentum else [])]
    with torch.no_grad():
        for key_net, query_net in followers:
            for k, q in zip(key_net.parameters(), query_net.parameters(), strict=True):
                k.copy_(recipe.momentum * k + (1 - recipe.momentum) * q)
    queries = [apply_mlp(head, o.mean(dim=0)) for o in encode(query_gru, clips)]
    with torch.no_grad():
        keys = [apply_mlp(key_head, o.mean(dim=0)) for o in encode(key_gru, [velocity(clip) for clip in clips])]
        keys = [k / k.norm() for k in keys]
    expected = 0
    for query, key in zip(queries, keys, strict=True):
        query = query / query.norm()
        logits = torch.stack([query @ key, *(query @ negative for negative in queue)]) / recipe.temperature
        expected += (torch.logsumexp(logits, 0) - logits[0]) / len(queries)

    losses = stage(batch)
    torch.testing.assert_close(losses["loss"], expected, rtol=0, atol=1e-9)
    expected.backward()
    losses["loss"].backward()
    assert_same_gradients([(stage.encoder.gru, query_gru), (stage.head, head)])
    for key_net, mine in [(key_gru, stage.key_encoder.gru), (key_head, stage.key_head)]:
        for want, have in zip(key_net.parameters(), mine.parameters(), strict=True):
            torch.testing.assert_close(have, want, rtol=0, atol=1e-12)
            assert have.grad is None
    torch.testing.assert_close(stage.queue.keys[:5], torch.stack(keys), rtol=0, atol=1e-9)
    assert torch.equal(stage.queue.keys[5], queue[5])


def test_inf(batch):
    torch.manual_seed(3)
    teacher = copy_gru(SequenceReconstructor(WIDTH, RECIPE).double().encoder.gru, bidirectional=True)
    clips = clips_of(batch)
    with torch.no_grad():
        targets = [output.mean(dim=0) for output in encode(teacher, clips)]
    cached = torch.zeros(len(clips), len(targets[0])).double()
    cached[batch.position] = torch.stack(targets)
    stage = InformationFuser(WIDTH, RECIPE, cached).double()
    encoder, decoder = copy_gru(stage.encoder.gru, bidirectional=True), copy_gru(stage.decoder.gru)
    head = copy_mlp(stage.head)

    outputs = encode(encoder, clips)
    distances = [
        ((apply_mlp(head, output.mean(dim=0)) - target) ** 2).sum()
        for output, target in zip(outputs, targets, strict=True)
    ]
    expected = reconstruction_loss(decoder, outputs, clips) + 0.1 * sum(distances) / len(clips)
    losses = stage(batch)
    torch.testing.assert_close(losses["loss"], expected, rtol=0, atol=1e-9)
    expected.backward()
    losses["loss"].backward()
    assert_same_gradients([(stage.encoder.gru, encoder), (stage.decoder.gru, decoder), (stage.head, head)])


def test_dropout_acts_between_the_encoders_layers_in_training_only(batch):
    torch.manual_seed(4)
    stage = SequenceReconstructor(WIDTH, Recipe(hidden_size=7, dropout=0.2)).double()
    stock = copy_gru(stage.encoder.gru, bidirectional=True)
    expected = torch.stack([output.mean(dim=0) for output in encode(stock, clips_of(batch))])
    stage.eval()
    torch.testing.assert_close(stage.encoder(batch.coords, batch.lengths).feature, expected, rtol=0, atol=1e-12)
    stage.train()
    torch.manual_seed(5)
    dropped = stage.encoder(batch.coords, batch.lengths).feature
    assert not torch.allclose(dropped, expected)
    torch.manual_seed(5)
    assert torch.equal(stage.encoder(batch.coords, batch.lengths).feature, dropped)
    torch.manual_seed(6)
    assert not torch.allclose(stage.encoder(batch.coords, batch.lengths).feature, dropped)
    with torch.no_grad():
        for weight_ih, *_ in stage.encoder.gru.all_weights[2:]:  # the second layer looks away from what is dropped
            weight_ih.zero_()
    deaf = stage.encoder(batch.coords, batch.lengths).feature
    assert torch.equal(stage.eval().encoder(batch.coords, batch.lengths).feature, deaf)
