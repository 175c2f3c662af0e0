"""Inputs of gru_scan, how it is run, and the truth."""

import torch
from torch import nn


def ragged(clips: int, frames: int) -> torch.Tensor:
    """Return lengths that include an empty clip, one frame, and all frames."""
    return torch.arange(clips).mul(3).add(frames).remainder(frames + 1)


def make(clips, frames, hidden, directions=2, *, seed=0):
    """Return float64 projected, w_hh, b_hh and a gradient of the outputs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return (
        normal(clips, frames, directions, 3 * hidden),
        normal(directions, 3 * hidden, hidden) / hidden**0.5,
        0.3 * normal(directions, 3 * hidden),
        normal(clips, frames, directions, hidden),
    )


def run(op, projected, w_hh, b_hh, lengths, grad, **options):
    """Return the outputs and the gradients of projected, w_hh and b_hh, on the CPU."""
    leaves = [leaf.detach().requires_grad_() for leaf in (projected, w_hh, b_hh)]
    outputs = op(*leaves, lengths, **options)
    return [result.detach().cpu() for result in (outputs, *torch.autograd.grad(outputs, leaves, grad))]


def by_nn_gru(projected, w_hh, b_hh, lengths, grad):
    """Say it once more: torch's own GRU, clip by clip without padding, in float64."""
    projected, w_hh, b_hh = (leaf.detach().clone().requires_grad_() for leaf in (projected, w_hh, b_hh))
    _, _, directions, columns = projected.shape
    gru = nn.GRU(directions * columns, columns // 3, batch_first=True, bidirectional=directions == 2).double()
    weights = {}
    for direction, suffix in zip(range(directions), ("", "_reverse"), strict=False):
        # The input's weights pick the direction's own columns.
        weights[f"weight_ih_l0{suffix}"] = torch.eye(directions * columns).double()[direction * columns :][:columns]
        weights[f"bias_ih_l0{suffix}"] = torch.zeros(columns).double()
        weights[f"weight_hh_l0{suffix}"] = w_hh[direction]
        weights[f"bias_hh_l0{suffix}"] = b_hh[direction]
    outputs = torch.zeros_like(grad) + 0 * projected.sum()  # has a gradient even where all clips are empty
    for clip, length in enumerate(lengths.tolist()):
        if length:
            states, _ = torch.func.functional_call(gru, weights, projected[clip, :length].reshape(1, length, -1))
            outputs = outputs.index_put(
                (torch.tensor(clip), torch.arange(length)), states.view(length, directions, columns // 3)
            )
    valid = torch.arange(grad.shape[1]) < lengths[:, None]
    grads = torch.autograd.grad(outputs, (projected, w_hh, b_hh), grad * valid[..., None, None], allow_unused=True)
    return [
        outputs.detach(),
        *(torch.zeros_like(w) if g is None else g for g, w in zip(grads, (projected, w_hh, b_hh), strict=True)),
    ]


def errors(results, truth):
    """Return how far each result is off, beside the largest number of it."""
    return [
        float((got.double() - want).abs().max() / want.abs().max().clamp(min=1e-3))
        for got, want in zip(results, truth, strict=True)
    ]
