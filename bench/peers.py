"""Our ops beside the packages that one would otherwise import, in the harness of `crrl-fast bench ops`.

    pip install 'crrl-fast[peers]'
    python bench/peers.py [--json FILE] [--markdown FILE]

A package that is missing is named with its pip command, and the rest still run. Each peer is given its best use: inputs
in the form it takes, converted beforehand, and where it computes something of its own, a truth of its own to be checked
against. What differs is said below the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from aimclr_numpy import strong_view
from rich.console import Console
from torch import Tensor

from crrl_fast import reference
from crrl_fast.benchmark import markdown, render, run_cases
from crrl_fast.benchmark.cases import info_nce
from crrl_fast.benchmark.cases.info_nce import TEMPERATURE, Inputs, work
from crrl_fast.benchmark.cases.skeleton_views import COORDS, FRAMES
from crrl_fast.benchmark.harness import Case, Contender, Outputs
from crrl_fast.benchmark.packages import why_missing
from crrl_fast.data.layouts import get_layout
from crrl_fast.device import resolve_device
from crrl_fast.files import write_json, write_text
from crrl_fast.ops import queue_info_nce, sample_view_params, skeleton_views

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]

PACKAGES = {
    "info-nce-pytorch": "info_nce",
    "lightly": "lightly.loss",
    "pytorch-metric-learning": "pytorch_metric_learning.losses",
    "inf-cl": "inf_cl",
    "torch-skeleton": "torch_skeleton.transforms",
}
"""What each is imported as."""

LARGEST_MASK = 2**30
"""Bytes; a peer that would build a larger mask than this is not run."""

VIEWS = 128


def main(
    rounds: Annotated[int, typer.Option(help="Timed rounds of each case; slow cases get fewer.", min=1)] = 30,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Check and time our ops and their peers."""
    console = Console()
    on = resolve_device(device)
    reasons = {package: missing(package, on) for package in PACKAGES}
    for package, reason in reasons.items():
        if reason:
            typer.echo(f"skipped {package}: {reason}")
    found = {package for package, reason in reasons.items() if not reason}
    record = run_cases(
        "peers",
        itertools.chain(info_nce_cases(on, found), view_cases(on, found)),
        on,
        rounds=rounds,
        on_case=lambda case: typer.echo(f"measured {case.op}: {case.case}"),
        versions={package: version(package) for package in sorted(found)},
    )
    console.print(render(record))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, markdown(record))


def missing(package: str, device: torch.device) -> str:
    """Return why a package cannot be measured, or nothing where it can."""
    if package == "inf-cl" and device.type != "cuda":
        return "it runs on a GPU only"
    return why_missing(package, PACKAGES[package])


# ---- InfoNCE with a queue ----


def info_nce_cases(device: torch.device, found: set[str]) -> Iterator[Case]:
    """Yield every shape of `crrl-fast bench ops`, forward and backward in float32, with query and key normalised."""
    for shape in info_nce.SHAPES:
        inputs = info_nce.draw(shape, device)
        contenders = [
            Contender("ours", work(normalized(queue_info_nce), inputs, backward=True)),
            Contender("PyTorch eager", work(normalized(reference.queue_info_nce), inputs, backward=True)),
        ]
        if "info-nce-pytorch" in found:
            contenders.append(info_nce_pytorch(inputs))
        if "lightly" in found:
            contenders.append(lightly(inputs))
        if "pytorch-metric-learning" in found:
            contenders += pytorch_metric_learning(inputs)
        if "inf-cl" in found:
            contenders.append(inf_cl(inputs))
        contenders.append(attention(inputs))
        yield Case(
            op="queue_info_nce",
            name=f"normalize=True (B={shape.batch}, D={shape.dim}, K={shape.keys}) float32",
            contenders=tuple(contenders),
            truth=work(normalized(reference.queue_info_nce), inputs.to(torch.float64), backward=True),
            # On a GPU, inf-cl multiplies in TF32, whose numbers have 10 bits after the point.
            tolerance=2**-10 / TEMPERATURE if device.type == "cuda" else info_nce.tolerance(shape, torch.float32),
        )


def normalized(op: Callable[..., Tensor]) -> Loss:
    """Return our op, or its reference, as the peers compute it: they normalise what they are given."""
    return lambda query, key, queue, temperature: op(query, key, queue, temperature, normalize=True)


def info_nce_pytorch(inputs: Inputs) -> Contender:
    """Return RElbers' InfoNCE."""
    from info_nce import InfoNCE

    loss = InfoNCE(temperature=TEMPERATURE, negative_mode="unpaired")
    run = work(lambda query, key, queue, _: loss(query, key, queue), inputs, backward=True)
    return Contender("info-nce-pytorch", run, note="normalises the queue in every call")


def lightly(inputs: Inputs) -> Contender:
    """Return lightly's loss of MoCo, whose memory bank holds the queue."""
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE, memory_bank_size=tuple(inputs.queue.shape)).to(inputs.queue.device)
    loss.memory_bank.bank = inputs.queue.clone()
    run = work(lambda query, key, _, __: loss(query, key), inputs, backward=True)
    return Contender("lightly NTXentLoss", run, note="clones its memory bank and enqueues the keys in every call")


def pytorch_metric_learning(inputs: Inputs) -> Iterator[Contender]:
    """Yield CrossBatchMemory with the loss it is known for, where that fits, and with its leanest InfoNCE."""
    from pytorch_metric_learning.losses import CrossBatchMemory, NTXentLoss, SupConLoss

    batch, (keys, dim) = len(inputs.query), inputs.queue.shape
    rows = torch.arange(batch, device=inputs.query.device)
    enqueue = torch.cat([rows < 0, rows >= 0])

    def contender(kind: Callable[..., torch.nn.Module], note: str) -> Contender:
        memory = CrossBatchMemory(kind(temperature=TEMPERATURE), dim, memory_size=keys)
        memory.embedding_memory, memory.has_been_filled = inputs.queue.clone(), True
        memory.label_memory = -1 - torch.arange(keys, device=rows.device)
        calls = itertools.count()

        def loss(query: Tensor, key: Tensor, *_: object) -> Tensor:
            labels = rows + batch * next(calls)  # new in every call: old ones would be positives of the new queries
            result: Tensor = memory(torch.cat([query, key]), labels.repeat(2), enqueue_mask=enqueue)
            return result

        name = f"CrossBatchMemory({kind.__name__})"
        return Contender(name, work(loss, inputs, backward=True), truth=truth, note=note)

    def in_memory(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
        memory = torch.cat([key, queue[batch:]])
        return F.cross_entropy(F.normalize(query, dim=1) @ F.normalize(memory, dim=1).T / temperature, rows)

    truth = work(in_memory, inputs.to(torch.float64), backward=True)
    common = "enqueues the keys first, over the queue's oldest, and takes positives and negatives from there"
    mask = 4 * batch * batch * keys
    if mask <= LARGEST_MASK:
        yield contender(NTXentLoss, f"{common}; compares every pair with every pair")
    else:
        typer.echo(f"skipped CrossBatchMemory(NTXentLoss) at B={batch}, K={keys}: a mask of {mask / 2**30:.0f} GiB")
    yield contender(SupConLoss, common)


def inf_cl(inputs: Inputs) -> Contender:
    """Return Inf-CL's fused loss, which takes positives and negatives from one matrix of keys."""
    from inf_cl import cal_flash_loss

    def loss(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
        head = min(256, query.shape[1])
        rows: Tensor = cal_flash_loss(
            F.normalize(query, dim=1), torch.cat([key, queue]), scale=1 / temperature, head_dim=head
        )
        return rows.mean()

    def with_batch(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
        logits = F.normalize(query, dim=1) @ torch.cat([key, queue]).T / temperature
        return F.cross_entropy(logits, torch.arange(len(query), device=query.device))

    truth = work(with_batch, inputs.to(torch.float64), backward=True)
    note = "also contrasts with the other keys of the batch, and computes the gradient of all keys"
    return Contender("inf-cl", work(loss, inputs, backward=True), truth=truth, note=note)


def attention(inputs: Inputs) -> Contender:
    """Return torch's fused attention over the queue, with values = keys."""

    def weighted_sum(inputs: Inputs) -> Outputs:
        query, queue = inputs.query[None, None], inputs.queue[None, None]
        with torch.no_grad():
            return (F.scaled_dot_product_attention(query, queue, queue, scale=1 / TEMPERATURE),)

    exact = inputs.to(torch.float64)
    note = "a yardstick: the softmax-weighted sum of the queue alone, without loss, positive and normalisation"
    return Contender(
        "scaled_dot_product_attention", lambda: weighted_sum(inputs), truth=lambda: weighted_sum(exact), note=note
    )


# ---- views ----


def view_cases(device: torch.device, found: set[str]) -> Iterator[Case]:
    """Yield AimCLR's strong views, drawn and applied."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(VIEWS, FRAMES, COORDS, generator=generator)
    packed = clips.flatten(0, 1).to(device)
    offsets = torch.arange(0, VIEWS * FRAMES + 1, FRAMES, device=device)
    index = torch.arange(VIEWS, device=device)
    lengths = torch.full((VIEWS,), FRAMES)

    def views(op: Callable[..., Outputs], frames: Tensor) -> Callable[[], Outputs]:
        def run() -> Outputs:
            params = sample_view_params("aimclr-strong", lengths, "ntu25", torch.Generator().manual_seed(0))
            return tuple(op(frames, offsets, index, params.to(device), out_frames=FRAMES))

        return run

    ours = views(skeleton_views, packed)

    def one_thread() -> Outputs:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return ours()
        finally:
            torch.set_num_threads(threads)

    contenders = [Contender("ours", ours, note="also gives the velocity")]
    if device.type == "cpu":
        contenders.append(Contender("ours, 1 thread", one_thread))
    contenders.append(aimclr_numpy(clips))
    if "torch-skeleton" in found:
        contenders.append(torch_skeleton(clips))
    yield Case(
        op="skeleton_views",
        name=f"aimclr-strong ({VIEWS}, {FRAMES}, {COORDS}) float32, drawn and applied",
        contenders=tuple(contenders),
        truth=views(reference.skeleton_views, packed.double()),
        tolerance=16 * torch.finfo(torch.float32).eps,
        batch=VIEWS,
        unit="view",
    )


def aimclr_numpy(clips: Tensor) -> Contender:
    """Return AimCLR's augmentation, clip by clip."""
    layout = get_layout("ntu25")
    partner = list(range(layout.num_joints))
    for left, right in layout.mirror:
        partner[left], partner[right] = right, left
    arrays = [np.ascontiguousarray(clip) for clip in clips.unflatten(2, (2, -1, 3)).permute(0, 4, 1, 3, 2).numpy()]
    rng = np.random.default_rng(0)

    def run() -> Outputs:
        for array in arrays:
            strong_view(array, partner, rng)
        return ()

    note = "1 core, clip by clip, no velocity; leaner than the authors' code"
    return Contender("AimCLR in NumPy", run, computes_result=False, is_torch=False, note=note)


def torch_skeleton(clips: Tensor) -> Contender:
    """Return the random ones among torch_skeleton's transforms."""
    from torch_skeleton.transforms import Compose, RandomRotate, RandomShift, SampleFrames

    transform = Compose([SampleFrames(FRAMES), RandomRotate(30), RandomShift(-0.1, 0.1)])
    arrays = list(np.ascontiguousarray(clips.unflatten(2, (2, -1, 3)).permute(0, 2, 1, 3, 4).numpy()))

    def run() -> Outputs:
        for array in arrays:
            transform(array.copy())  # it rotates in place
        return ()

    note = "1 core, clip by clip; less work: frames sampled, rotation, shift, no velocity"
    return Contender("torch-skeleton", run, computes_result=False, is_torch=False, note=note)


if __name__ == "__main__":
    typer.run(main)
