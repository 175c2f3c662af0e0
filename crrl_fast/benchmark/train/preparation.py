"""What each contender prepares before its first step, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crrl_fast.benchmark.train import ours
from crrl_fast.benchmark.train.clock import timed
from crrl_fast.benchmark.train.host import HostClips
from crrl_fast.benchmark.train.plan import Plan
from crrl_fast.benchmark.train.record import OURS, OURS_BF16, STOCK, Preparation
from crrl_fast.benchmark.train.workload import Workload
from crrl_fast.data.batches import ResidentClips
from crrl_fast.models import MotionEncoder
from crrl_fast.seeding import seed_everything


@dataclass(frozen=True)
class Prepared:
    """The data in both forms, ready for any stage.

    Attributes:
        host: stock's arrays of the clips that are drawn.
        clips: ours, all training clips.
        teacher: of stage ``inf``.
        features: (N, C) the teacher's, zero for clips that are not drawn; None where ``inf`` is not measured.
        records: of every contender.
    """

    host: HostClips
    clips: ResidentClips
    teacher: MotionEncoder
    features: Tensor | None
    records: tuple[Preparation, ...]


def prepare(load: Workload, plan: Plan) -> Prepared:
    """Prepare a workload for the stages of a plan.

    Work that is done clip by clip is done for the drawn clips alone, and its seconds and bytes are scaled by frames to
    all training clips.
    """
    host, host_seconds = timed(lambda: HostClips(load.store, load.index[load.drawn]), plan.device)
    frames, frames_seconds = timed(lambda: ours.resident_frames(load.store, plan.device), plan.device)
    clips = ours.resident_clips(load.store, load.index, frames)
    seed_everything(plan.seed, "teacher")
    teacher = ours.teacher_encoder(load.width, plan.recipe, plan.device)
    seconds, features = {"resident frames": frames_seconds}, None
    if plan.distills:
        drawn = ours.resident_clips(load.store, load.index[load.drawn], frames)
        found, teacher_seconds = timed(lambda: ours.cached_features(teacher, drawn), plan.device)
        features = torch.zeros(len(clips), found.shape[1], device=plan.device)
        features[load.drawn.to(plan.device)] = found
        seconds["teacher's features"] = teacher_seconds / load.drawn_share
    held = frames.nbytes + (0 if features is None else features.nbytes)
    records = (
        Preparation(STOCK, {"host arrays": host_seconds / load.drawn_share}, round(host.nbytes / load.drawn_share)),
        *(Preparation(name, seconds, held) for name in (OURS, OURS_BF16)),
    )
    return Prepared(host, clips, teacher, features, records)
