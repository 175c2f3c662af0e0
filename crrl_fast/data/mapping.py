"""A store as an encoder of another joint layout takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.layouts import JointMapping, Layout, map_joints
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError


def map_store(store: Store, frames: FrameFormat) -> tuple[Store, JointMapping | None]:
    """Return a store whose joints are those of ``frames`` and whose bodies are no more; the first ones are kept.

    What was done to it before stays recorded: a clip that was centred and turned by its own hips and spine is not
    centred and turned anew, though those of ``frames`` may be other joints a few centimetres away.

    Returns:
        The store, and how its joints were mapped; None where they are the same.

    Raises:
        DataError: the layouts share too few joints (see ``map_joints``).
    """
    bodies = min(store.info.bodies, frames.bodies)
    mapping = None if store.layout == frames.layout else map_joints(store.layout, frames.layout)
    if mapping is None and bodies == store.info.bodies:
        return store, None
    poses = store.frames.view(-1, store.info.bodies, store.layout.num_joints, 3)[:, :bodies]
    if mapping is not None:
        poses = torch.from_numpy(mapping(poses.numpy()))
    info = replace(store.info, layout=frames.layout, bodies=bodies)
    return replace(store, frames=poses.flatten(1).contiguous(), info=info), mapping


def check_format(store: Store, path: Path, frames: FrameFormat) -> None:
    """Refuse a store with other joints or more bodies than ``frames``.

    Raises:
        ConfigError: it has; the message says what `--map-joints` would do.
        DataError: it has other joints, and too few in common to be mapped.
    """
    if store.layout != frames.layout:
        shared = len(map_joints(store.layout, frames.layout).shared)
        raise ConfigError(
            f"{path}: joint layout {_described(store.layout)}, but the run was trained on {_described(frames.layout)}: "
            f"--map-joints maps the {shared} joints they share"
        )
    if store.info.bodies > frames.bodies:
        raise ConfigError(
            f"{path}: {store.info.bodies} bodies a frame, but the run was trained on {frames.bodies}: --map-joints "
            "keeps the first, the main ones"
        )


def _described(layout: Layout) -> str:
    return f"{layout.name} ({layout.num_joints} joints)"
