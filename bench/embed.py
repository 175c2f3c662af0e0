"""Embedding clips beside a loop over them through nn.GRU: the same features first, then the time.

    python bench/embed.py ucla all_sqe.zip [--rounds 5] [--clips N] [--device auto] [--json FILE] [--markdown FILE]
    python bench/embed.py demo

NAME and SOURCE are what `crrl-fast prepare` takes. The loop runs `torch.nn.GRU` on one clip at a time, as one would
without padding or packing, and is given clips that are preprocessed already and lie on the device. Ours is measured on
the same clips, and from raw arrays, preprocessing and copying included. The encoder is that of recipe `paper`, its
weights random: time does not depend on them. Run it on an idle machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from crrl_fast.benchmark import markdown, render, run_cases
from crrl_fast.benchmark.harness import Case, Contender, Outputs
from crrl_fast.data import catalog
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.preprocess import DEFAULT_STEPS, describe_steps
from crrl_fast.data.store import Store
from crrl_fast.device import resolve_device
from crrl_fast.embedding import Embedder
from crrl_fast.evaluation.features import BATCH_SIZE
from crrl_fast.files import write_json, write_text
from crrl_fast.models import MotionEncoder
from crrl_fast.recipes import get_recipe

TOLERANCE = 1e-5
"""Of the largest feature: what float32 sums in another order leave over two layers of up to 60 frames."""


def main(
    name: str,
    source: Annotated[Path | None, typer.Argument()] = None,
    rounds: Annotated[int, typer.Option(help="Timed rounds; a slow case gets fewer, at least 3.", min=1)] = 10,
    clips: Annotated[int | None, typer.Option(help="Only the first of them; default: all.", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Check and time both."""
    on = resolve_device(device)
    raw = catalog.prepare(name, source, steps=())
    record = run_cases("embed", embedding_cases(name, raw, clips or len(raw), on), on, rounds=rounds)
    Console().print(render(record))
    if json_file:
        write_json(json_file, asdict(record))
    if markdown_file:
        write_text(markdown_file, markdown(record))


def embedding_cases(name: str, raw: Store, count: int, device: torch.device) -> Iterator[Case]:
    """Yield ours on preprocessed clips and ours from raw arrays, each beside the loop on preprocessed clips."""
    recipe = get_recipe("paper")
    frames = FrameFormat(raw.layout, raw.info.bodies, tuple(describe_steps(DEFAULT_STEPS)))
    torch.manual_seed(0)
    encoder = MotionEncoder(frames.width, recipe.hidden_size, recipe.layers, recipe.dropout)
    embedder = Embedder(encoder, frames, recipe.preprocessing(), device)
    gru = stock_gru(encoder).to(device)

    raw_arrays = [raw.clip(i).numpy() for i in range(min(count, len(raw)))]
    store = Store.from_arrays(raw_arrays, layout=raw.layout, steps=embedder.steps)
    clips = [store.clip(i).flatten(1).to(device) for i in range(len(store))]
    loop = Contender("loop over clips, nn.GRU", lambda: run_loop(gru, clips), is_torch=False)
    packed = Contender("nn.GRU, packed batches", lambda: run_packed(gru, clips), is_torch=False)
    ours = {
        "preprocessed clips": lambda: (torch.from_numpy(embedder.encode_store(store).features),),
        "raw arrays": lambda: (torch.from_numpy(embedder.encode(raw_arrays)),),
    }
    for what, run in ours.items():
        yield Case(
            op="embed",
            name=f"{name}, {len(clips):,} clips of {len(store.frames) / len(clips):.0f} frames, {what}",
            contenders=(Contender(f"ours, {what}", run, is_torch=False), loop, packed),
            truth=lambda: run_loop(stock_gru(encoder).double(), [clip.cpu().double() for clip in clips]),
            tolerance=TOLERANCE,
            batch=len(clips),
            unit="clip",
            long=True,
        )


def stock_gru(encoder: MotionEncoder) -> nn.GRU:
    """Return torch's GRU with the weights of an encoder, on the host."""
    ours = encoder.gru
    gru = nn.GRU(ours.input_size, ours.hidden_size, ours.num_layers, batch_first=True, bidirectional=True)
    gru.load_state_dict({name: weight.cpu() for name, weight in ours.state_dict().items()})
    return gru.eval()


@torch.no_grad()
def run_loop(gru: nn.GRU, clips: list[Tensor]) -> Outputs:
    """Return the features (N, C) of clips (T, D) on the host, one at a time."""
    return (torch.stack([gru(clip[None])[0][0].mean(dim=0) for clip in clips]).cpu(),)


@torch.no_grad()
def run_packed(gru: nn.GRU, clips: list[Tensor]) -> Outputs:
    """Return the same from batches of clips of similar length, as one would write it with PyTorch alone."""
    order = np.argsort([len(clip) for clip in clips], kind="stable")
    features = torch.empty(len(clips), 2 * gru.hidden_size)
    for start in range(0, len(order), BATCH_SIZE):
        index = order[start : start + BATCH_SIZE]
        batch = [clips[i] for i in index]
        lengths = torch.tensor([len(clip) for clip in batch])
        packed = pack_padded_sequence(pad_sequence(batch, True), lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(gru(packed)[0], batch_first=True)
        features[index] = outputs.sum(dim=1).cpu() / lengths[:, None]
    return (features,)


if __name__ == "__main__":
    typer.run(main)
