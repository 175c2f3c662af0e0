"""The data set: performers, their performances, and the clips that the cameras record of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from crrl_fast.data.clip import Clip
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import NTU25
from crrl_fast.data.recording import Recording
from crrl_fast.data.synthetic.actions import ACTIONS, Action
from crrl_fast.data.synthetic.body import (
    HAND,
    HINGES,
    NUM_ANGLES,
    OFF_HAND,
    STAND,
    Arm,
    Array,
    Leg,
    Pose,
    bone_offsets,
    forward_kinematics,
    mirrored,
    rotation,
)
from crrl_fast.data.synthetic.sensor import CAMERAS, measured

DEMO_CLASSES: tuple[str, ...] = tuple(action.name for action in ACTIONS)
DEMO_FPS = 30
DEMO_SUBJECTS = 20
DEMO_SPLITS = {"xsub": Split(field="subject", train=tuple(range(1, 15)))}

_SHORTEST, _LONGEST = 20, 120  # frames


def _spread(arm: Arm, leg: Leg, *, bend: float, side: float, turn: float, nod: float) -> Array:
    """Return (19,) standard deviations in degrees."""
    return Pose(arm, arm, leg, leg, bend, side, turn, nod).flat()


# How much poses differ between performers, between the performances of one, and in idle motion during one.
_HABIT = _spread(Arm(5, 12, 10, 10), Leg(0, 0, 0), bend=5, side=2, turn=3, nod=6)
_STYLE = _spread(Arm(8, 10, 10, 10), Leg(3, 6, 3), bend=4, side=2, turn=4, nod=4)
_FIDGET = _spread(Arm(3, 4, 4, 4), Leg(1, 3, 1.5), bend=1.5, side=1, turn=4, nod=4)
_FIDGET_HZ = (0.1, 0.7)
_PERFORMER_TEMPO, _TEMPO, _TIMING = 0.2, 0.12, 0.12  # of the logarithm: a performer, a performance, each movement
_REACH = 0.06  # of the factor on each angle's way from the standing pose

_FACING, _TURNING = 12, 12  # degrees: away from the middle camera at first, and by how much more at the end
_PLACE, _DRIFT = 0.25, 0.15  # metres, the same for the place on the floor
_IDLE, _LONGEST_IDLE = 0.35, 1.2  # seconds before and after the action: mean of an exponential draw, and its limit

# Where a hand rests that does not act: beside the body, on the hip, at the belly, or behind the back.
_IDLE_ARMS = (STAND.off_hand, Arm(40, 130, -35, 95), Arm(15, 10, -60, 85), Arm(15, 140, -10, 45))


class _Stream(IntEnum):
    """What a random stream is for, the first part of its key."""

    SUBJECT = 0
    CLIP = 1


def _rng(seed: int, stream: _Stream, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, *key))))


@dataclass(frozen=True)
class Performer:
    """One subject.

    Attributes:
        offsets: (V, 3) bones, metres.
        left_handed: whether all actions are mirrored.
        tempo: factor on speed.
        amplitude: factor on how far the movements go.
        habit: (19,) offset from the standard pose, degrees.
    """

    offsets: Array
    left_handed: bool
    tempo: float
    amplitude: float
    habit: Array

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Performer:
        """Draw a performer."""
        return cls(
            offsets=bone_offsets(rng.uniform(1.5, 1.95), rng.normal(1.0, 0.04, NTU25.num_joints)),
            left_handed=bool(rng.random() < 0.35),
            tempo=float(np.exp(rng.normal(0.0, _PERFORMER_TEMPO))),
            amplitude=rng.uniform(0.85, 1.15),
            habit=_HABIT * rng.standard_normal(NUM_ANGLES),
        )


def _fidgets(seconds: Array, rng: np.random.Generator) -> Array:
    """Return (T, 19) slow idle motion: three sines of random pace and phase for each angle."""
    pace = 2 * np.pi * rng.uniform(*_FIDGET_HZ, (3, NUM_ANGLES))
    phase = rng.uniform(0, 2 * np.pi, (3, NUM_ANGLES))
    sines = np.sin(pace * seconds[:, None, None] + phase)
    angles: Array = _FIDGET * sines.sum(axis=1) / np.sqrt(1.5)  # three sines have variance 3 / 2
    return angles


def _timed_poses(action: Action, performer: Performer, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the (K,) seconds and (K, 19) poses of one performance's keys; time starts where idling ends."""
    keys = action.keys(int(rng.integers(*action.cycles, endpoint=True)))
    poses = np.stack([pose.flat() for _, pose in keys])
    reach = performer.amplitude * rng.normal(1.0, _REACH, poses.shape)
    for arm in (HAND, OFF_HAND):
        resting = (poses[:, arm] == STAND.flat()[arm]).all(axis=1)
        reach[resting, arm] = 1.0
        poses[resting, arm] = _IDLE_ARMS[rng.integers(len(_IDLE_ARMS))]
    poses = STAND.flat() + reach * (poses - STAND.flat())
    poses += performer.habit + _STYLE * rng.standard_normal(NUM_ANGLES)
    pace = np.exp(rng.normal(0.0, _TEMPO) + rng.normal(0.0, _TIMING, len(keys))) / performer.tempo
    seconds = np.array([step for step, _ in keys])
    return np.cumsum(pace * seconds), poses


def _act(action: Action, performer: Performer, rng: np.random.Generator) -> Array:
    """Return the (T, 19) angles of one performance, with idle frames before and after it.

    Between two poses each angle moves along a minimum-jerk curve (Flash and Hogan, J. Neuroscience 5, 1985).
    """
    times, poses = _timed_poses(action, performer, rng)
    before, after = np.minimum(rng.exponential(_IDLE, 2), _LONGEST_IDLE)
    times += before
    frames = int(np.clip(round((times[-1] + after) * DEMO_FPS), _SHORTEST, _LONGEST))
    times *= min(1.0, frames / DEMO_FPS / times[-1])  # an action too long for the clip is done faster

    seconds = np.arange(frames) / DEMO_FPS
    key = np.clip(np.searchsorted(times, seconds, side="right") - 1, 0, len(times) - 2)
    part = np.clip((seconds - times[key]) / (times[key + 1] - times[key]), 0, 1)[:, None]
    eased = part**3 * (10 - 15 * part + 6 * part**2)
    angles = poses[key] + eased * (poses[key + 1] - poses[key]) + _fidgets(seconds, rng)
    angles[:, HINGES] = np.maximum(angles[:, HINGES], 0)  # elbows and knees bend one way only
    return angles


def perform(action: Action, performer: Performer, rng: np.random.Generator) -> Array:
    """Return the (T, V, 3) joint positions of one performance in the room, metres, y up."""
    coords = forward_kinematics(performer.offsets, _act(action, performer, rng))
    if performer.left_handed:
        coords = mirrored(coords)
    progress = np.linspace(0, 1, len(coords))
    facing = rng.normal(0, _FACING) + progress * rng.normal(0, _TURNING)
    place = (rng.normal(0, _PLACE, 3) + progress[:, None] * rng.normal(0, _DRIFT, 3)) * (1, 0, 1)
    turned: Array = np.einsum("tij,tvj->tvi", rotation(1, facing), coords)
    return turned + place[:, None]


def demo_recording(seed: int = 0) -> Recording:
    """Return the embedded data set ``demo`` as readers return theirs."""
    count = DEMO_SUBJECTS * len(ACTIONS) * len(CAMERAS)
    return Recording(NTU25, demo_clips(seed), count, DEMO_CLASSES, DEMO_FPS, DEMO_SPLITS)


def demo_clips(seed: int = 0, *, noise: float = 1.0) -> Iterator[Clip]:
    """Yield the clips of the embedded data set ``demo``.

    Every performer does every action once before each camera. Each clip's randomness is keyed by (seed, subject,
    action, camera), so a clip is the same whatever else is generated.

    Args:
        seed: names the data set; the same seed gives the same bits.
        noise: factor on the sensors' errors; 0 gives the true joint positions.

    Yields:
        Clips of (T, 1, 25, 3) metres in camera coordinates, 20 to 120 frames; subjects and cameras count from 1.
    """
    for subject in range(1, DEMO_SUBJECTS + 1):
        performer = Performer.draw(_rng(seed, _Stream.SUBJECT, subject))
        for label, action in enumerate(ACTIONS):
            for camera, sensor in enumerate(CAMERAS, start=1):
                rng = _rng(seed, _Stream.CLIP, subject, label, camera)
                coords = measured(sensor.view(perform(action, performer, rng)), noise, rng)
                yield Clip(
                    name=f"C{camera:03}P{subject:03}A{label + 1:03}",
                    coords=coords[:, None].astype(np.float32),
                    label=label,
                    subject=subject,
                    camera=camera,
                )
