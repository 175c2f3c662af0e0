"""Embed skeletons that MediaPipe Pose found in videos, without labels, and find the most similar video of a new one.

    python examples/embed_mediapipe.py --epochs 15

Here the landmarks are generated in MediaPipe's conventions, so that the example needs neither the package nor a video.
Of a video of yours, this gets them (``pip install mediapipe opencv-python``, and a ``pose_landmarker.task``):

    def landmarks_of(path):
        vision = mediapipe.tasks.vision
        options = vision.PoseLandmarkerOptions(
            base_options=mediapipe.tasks.BaseOptions(model_asset_path="pose_landmarker.task"),
            running_mode=vision.RunningMode.VIDEO,
        )
        video = cv2.VideoCapture(path)
        fps, frames = video.get(cv2.CAP_PROP_FPS), []
        with vision.PoseLandmarker.create_from_options(options) as landmarker:
            for number in itertools.count():
                found, picture = video.read()
                if not found:
                    return np.array(frames), fps
                rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
                people = landmarker.detect_for_video(image, int(1000 * number / fps)).pose_world_landmarks
                missing = [[np.nan] * 3 + [0]] * 33
                frames.append([(p.x, p.y, p.z, p.visibility) for p in people[0]] if people else missing)
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

import crrl_fast
from crrl_fast.data.layouts import get_layout
from crrl_fast.data.preprocess import DEFAULT_STEPS

FPS = 30
"""Frames a second that every clip is brought to, so that a velocity means the same in all of them."""

Array = npt.NDArray[np.float64]


def to_clip(landmarks: Array, fps: float) -> Array:
    """Return a clip (T', 33, 3) in metres, y up, at 30 frames a second.

    Args:
        landmarks: (T, 33, 3 or 4) x, y, z in metres and, where there is a fourth number, visibility. MediaPipe's x
            points right in the image, y down and z away from the camera.
        fps: frames a second of the video.

    A landmark that is hidden or missing is interpolated between the frames around it in which it is seen.
    """
    coords = landmarks[..., :3] * [1, -1, -1]  # half a turn about x: y points up, and left stays left
    visibility = landmarks[..., 3] if landmarks.shape[-1] == 4 else np.ones(landmarks.shape[:2])
    seen = (visibility >= 0.5) & np.isfinite(coords).all(axis=2)
    coords = np.where(np.isfinite(coords), coords, 0)
    frames = np.arange(len(coords))
    times = np.linspace(0, frames[-1], max(round(frames[-1] * FPS / fps), 0) + 1)
    clip = np.empty((len(times), *coords.shape[1:]))
    for joint in range(coords.shape[1]):
        there = seen[:, joint] if seen[:, joint].any() else np.full(len(frames), True)
        for axis in range(3):
            clip[:, joint, axis] = np.interp(times, frames[there], coords[there, joint, axis])
    return clip


# A standing person in MediaPipe's world coordinates: metres from the hips, (x, y); the person's left is on the right.
STANDING = {
    "nose": (0, -0.62),
    "eye_inner": (0.02, -0.65),
    "eye": (0.03, -0.65),
    "eye_outer": (0.05, -0.65),
    "ear": (0.08, -0.63),
    "mouth": (0.03, -0.57),
    "shoulder": (0.17, -0.48),
    "elbow": (0.21, -0.22),
    "wrist": (0.23, 0.02),
    "pinky": (0.24, 0.09),
    "index": (0.22, 0.1),
    "thumb": (0.21, 0.07),
    "hip": (0.1, 0),
    "knee": (0.11, 0.4),
    "ankle": (0.11, 0.78),
    "heel": (0.11, 0.82),
    "foot_index": (0.13, 0.85),
}
ACTIONS = ("raise hand", "wave", "point", "arms up", "squat")
VIDEO_RATES = (24, 25, 30, 60)


def generated_video(action: str, rng: np.random.Generator) -> tuple[Array, float]:
    """Return landmarks (T, 33, 4) of somebody who acts before a camera, with either hand, and the frames a second."""
    fps = float(rng.choice(VIDEO_RATES))
    idle, acting = rng.uniform(0, 1), rng.uniform(1.2, 2.5)  # seconds
    time = np.arange(int((idle + acting + rng.uniform(0, 1)) * fps)) / fps - idle
    reach = np.sin(np.pi * np.clip(time / acting, 0, 1))[:, None] * rng.uniform(0.8, 1.2)  # there and back

    joints = get_layout("mediapipe33").joints
    side = np.array([-1 if name.endswith("_right") else 1 for name in joints])
    kind = [name.removesuffix("_left").removesuffix("_right") for name in joints]
    pose = np.array([(STANDING[name][0] * s, STANDING[name][1], 0) for name, s in zip(kind, side, strict=True)])
    coords = np.repeat(pose[None] * rng.normal(1, 0.05), len(time), axis=0)
    chosen = np.full(33, True) if action == "arms up" else side == rng.choice([-1, 1])
    hand, elbow = np.isin(kind, ["wrist", "pinky", "index", "thumb"]) & chosen, np.isin(kind, ["elbow"]) & chosen
    if action == "squat":  # seen from the hips, the feet come up; knees go towards the camera
        coords[:, np.isin(kind, ["knee", "ankle", "heel", "foot_index"]), 1] -= 0.25 * reach
        coords[:, np.isin(kind, ["knee"]), 2] -= 0.3 * reach
    elif action == "point":
        coords[:, hand, 1] -= 0.45 * reach
        coords[:, hand, 2] -= 0.5 * reach
        coords[:, elbow, 1] -= 0.15 * reach
        coords[:, elbow, 2] -= 0.25 * reach
    else:
        coords[:, hand, 1] -= 0.9 * reach
        coords[:, elbow, 1] -= 0.3 * reach
        if action == "wave":
            coords[:, hand, 0] += 0.15 * reach * np.sin(2 * np.pi * rng.uniform(1.2, 2) * time)[:, None]

    turn = np.radians(rng.uniform(-40, 40))
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    coords = coords @ about_y.T + rng.normal(0, 0.02, coords.shape)
    visibility = np.where(rng.random(coords.shape[:2]) < 0.02, 0.2, 0.98)
    return np.concatenate([coords, visibility[..., None]], axis=2), fps


def main() -> None:
    """Pretrain on videos without labels, and look new ones up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15, help="epochs a stage")
    options = parser.parse_args()
    rng = np.random.default_rng(0)

    known = [action for action in ACTIONS for _ in range(30)]  # only to check the answers by
    clips = [to_clip(*generated_video(action, rng)) for action in known]
    store = crrl_fast.Store.from_arrays(clips, layout="mediapipe33", dataset="videos", fps=FPS, steps=DEFAULT_STEPS)
    # Of few clips there are few steps, so the key network has to follow the query network more quickly than in `paper`.
    run = crrl_fast.pretrain(
        store, epochs=options.epochs, hidden_size=64, batch_size=8, lr=0.1, momentum=0.99, key_mlp_momentum=True
    )

    embedder = crrl_fast.load(run)
    gallery = unit(embedder.encode(clips))  # the run's own preprocessing is applied: clips go in as they are
    new = [action for action in ACTIONS for _ in range(4)]
    features = unit(embedder.encode([to_clip(*generated_video(action, rng)) for action in new]))
    nearest = (features @ gallery.T).argmax(axis=1)
    for action, index in zip(new, nearest, strict=True):
        print(f"new video, {action}: most like video {index}, {known[index]}")
    print(f"{sum(known[index] == action for action, index in zip(new, nearest, strict=True))} of {len(new)} right")


def unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return features (N, C) of length 1, so that their product is the cosine."""
    length: npt.NDArray[np.float32] = np.linalg.norm(features, axis=1, keepdims=True)
    return features / length


if __name__ == "__main__":
    main()
