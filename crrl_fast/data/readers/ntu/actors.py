"""Which of a clip's tracked bodies are its actors: the common practice for NTU RGB+D, in these steps.

The sensor gives a body a new id whenever it loses and finds it, and takes furniture for bodies. A *track* is all that
one id saw. Where a clip has more than one,

1. tracks of at most 11 frames are dropped, unless all are that short;
2. a frame is implausible where the body is wide for its height: its extent in x exceeds 0.8 times that in y. In the
   order of appearance, and as long as another track is left, a track is dropped where at least 0.69754 of its frames
   are implausible;
3. tracks are ranked by motion, the variance of x, of y and of z over all joints and frames, added up; where plausible
   frames alone have less, by theirs;
4. the first is the main actor. Each further one carries on the main actor where it overlaps the time from that one's
   first to last frame in no more than one frame, else the second actor by the same rule, else it is dropped. In a
   shared frame the lower-ranked stands.

The motion and the idea of the spread are the data set authors' (the questions and answers of
github.com/shahroudy/NTURGB-D); thresholds, ranking and steps are those of Zhang et al., "View Adaptive Neural
Networks", TPAMI 2019, which CTR-GCN and its successors prepare with. Three things differ from their scripts: a track
keeps the frames it was seen in, where they close its gaps; the second actor's time begins with its first frame, where
theirs begins with the clip; and frames without a body are dropped only at the clip's ends, so that time stays even.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from crrl_fast.data.layouts import NTU25

ACTORS = 2
SHORT_FRAMES = 11
WIDTH_TO_HEIGHT = 0.8
IMPLAUSIBLE_SHARE = 0.69754

Coords = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Track:
    """What one body id saw.

    Attributes:
        frames: (n) int64, ascending.
        joints: (n, 25, 3) metres.
    """

    frames: npt.NDArray[np.int64]
    joints: Coords

    @cached_property
    def plausible(self) -> npt.NDArray[np.bool_]:
        """Which frames (n) are not too wide for their height."""
        extent = np.ptp(self.joints[..., :2], axis=1).astype(np.float64)
        return np.asarray(extent[:, 0] <= WIDTH_TO_HEIGHT * extent[:, 1])

    @property
    def motion(self) -> float:
        """Square metres; only for a track with a plausible frame."""
        whole = _variance(self.joints)
        return whole if self.plausible.all() else min(whole, _variance(self.joints[self.plausible]))


def arrange_actors(bodies: npt.NDArray[np.int32], ids: npt.NDArray[np.uint64], joints: Coords) -> Coords | None:
    """Return the clip of the main and the second actor.

    Args:
        bodies: (T) how many bodies each frame has.
        ids: (B) tracking id of each, frame by frame.
        joints: (B, 25, 3) metres, likewise.

    Returns:
        (T', 2, 25, 3) from the first to the last frame with a body, zeros where an actor is absent; None where no
        frame has a body, or all coordinates are zero.
    """
    clip = np.zeros((len(bodies), ACTORS, NTU25.num_joints, 3), dtype=np.float32)
    spans: list[tuple[int, int]] = []
    for track in _ranked(_plausible(_long(_tracks(bodies, ids, joints)))):
        first, last = int(track.frames[0]), int(track.frames[-1])
        for actor in range(ACTORS):
            if actor == len(spans):
                spans.append((first, last))
            elif min(last, spans[actor][1]) <= max(first, spans[actor][0]):
                spans[actor] = min(first, spans[actor][0]), max(last, spans[actor][1])
            else:
                continue
            clip[track.frames, actor] = track.joints
            break
    present = np.flatnonzero(clip.any(axis=(1, 2, 3)))
    return clip[present[0] : present[-1] + 1] if len(present) else None


def _tracks(bodies: npt.NDArray[np.int32], ids: npt.NDArray[np.uint64], joints: Coords) -> list[Track]:
    """Gather the bodies of each id, in the order of the ids' first appearance."""
    frames = np.repeat(np.arange(len(bodies)), bodies)
    _, starts, which, counts = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
    by_id = np.split(np.argsort(which, kind="stable"), np.cumsum(counts)[:-1])
    return [Track(frames[by_id[i]], joints[by_id[i]]) for i in np.argsort(starts)]


def _long(tracks: Sequence[Track]) -> Sequence[Track]:
    return [track for track in tracks if len(track.frames) > SHORT_FRAMES] or tracks


def _plausible(tracks: Sequence[Track]) -> list[Track]:
    kept: list[Track] = []
    left = len(tracks)
    for track in tracks:
        if left > 1 and 1 - track.plausible.mean() >= IMPLAUSIBLE_SHARE:
            left -= 1
        else:
            kept.append(track)
    return kept


def _ranked(tracks: Sequence[Track]) -> list[Track]:
    if len(tracks) == 1:  # which may have no plausible frame
        return list(tracks)
    return sorted(tracks, key=lambda track: track.motion, reverse=True)


def _variance(joints: Coords) -> float:
    return float(joints.reshape(-1, 3).var(axis=0, dtype=np.float64).sum())
