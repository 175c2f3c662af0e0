"""What tests of several processes run in each of them: `torchrun ... -m tests.training.rank_worker STORE FOLDER`."""

import sys
from pathlib import Path

import torch
from rich.console import Console

from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError
from crrl_fast.training.distributed import ALONE, joined_ranks
from crrl_fast.training.loop import StageLoop
from crrl_fast.training.pretrain import pretrain
from crrl_fast.training.request import STAGES, PretrainRequest
from crrl_fast.training.stages import ContrastiveMotionLearner, InformationFuser, JointLearner, SequenceReconstructor

RECIPE = Recipe(epochs=3, batch_size=5, lr=0.2, hidden_size=6, queue_size=7, dropout=0.0, momentum=0.9)
"""16 clips make batches of 5, 5, 5 and 1: parts differ in size, and ranks go without a clip."""
VARIANTS = {
    "ser-buckets": {"length_buckets": 2},
    "ser-readout": {"decoder_size": 9, "decoder_layers": 1, "decode_from": "mean", "velocity_weight": 2.0},
    "cml-symmetric": {"symmetric": True, "velocity_scale": 10.0, "queue_start": "empty", "projection_size": 5},
    "joint-adamw": {"optimizer": "adamw", "lr": 0.01, "lr_schedule": "cosine", "warmup": 0.2, "steps": 9},
}
CASES = (*STAGES, *VARIANTS)
OWN_VIEWS = "joint-views"
"""Ranks draw views of their own, so that several train otherwise than one alone."""


def clips_of(store: Store) -> ResidentClips:
    return ResidentClips(store, store.split()[0], store.frames.double())


def build(stage, clips, recipe):
    torch.manual_seed(0)
    if stage == "ser":
        return SequenceReconstructor(clips.width, recipe).double()
    if stage == "inf":
        return InformationFuser(clips.width, recipe, torch.randn(len(clips), 2 * recipe.hidden_size)).double()
    return {"cml": ContrastiveMotionLearner, "joint": JointLearner}[stage](clips.width, recipe).double()


def train(case, clips, ranks=ALONE):
    """Return the state of a module after training and its epochs' losses."""
    recipe = RECIPE.with_overrides(VARIANTS.get(case, {}))
    if case == OWN_VIEWS:
        recipe = RECIPE.with_overrides({**VARIANTS["cml-symmetric"], "views": "crrl", "within_stream": 0.5})
    stage, records, steps = case.split("-")[0], [], []
    loop = StageLoop(stage, build(stage, clips, recipe), clips, recipe, torch.Generator().manual_seed(1), ranks)
    loop.run(on_step=steps.append, on_epoch=records.append)
    losses = [{k: v for k, v in row.items() if k not in ("stage", "seconds", "clips_per_second")} for row in records]
    return {"tensors": {k: v for k, v in loop.state().tensors.items() if k.split(".")[0] != "random"},
            "losses": losses, "steps": steps}  # fmt: skip


def refuse(store_path: Path, folder: Path) -> str:
    """Pretrain into a folder that is not empty, and return how that ended on this rank."""
    request = PretrainRequest.resolve(store_path, out=folder, stages="ser", device="cpu", overrides={"epochs": 1})
    try:
        pretrain(request, Console(quiet=True))
    except ConfigError as error:
        return str(error)
    except SystemExit as exit_:
        return f"exit {exit_.code}"
    return "nothing"


def main() -> None:
    store_path, folder = map(Path, sys.argv[1:])
    clips = clips_of(Store.open(store_path))
    found = {}
    with joined_ranks(torch.device("cpu")) as ranks:
        rank = ranks.rank
        for case in CASES:
            found[case] = train(case, clips, ranks)
        ranks.seed_noise(0, "noise")
        found["noise"] = torch.rand(8)
        found[OWN_VIEWS] = train(OWN_VIEWS, clips, ranks)
    found["refused"] = refuse(store_path, folder)
    torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    main()
