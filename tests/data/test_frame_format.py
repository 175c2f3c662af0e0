import numpy as np

from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.layouts import KINECT20, NTU25
from crrl_fast.data.preprocess import Bone


def test_frames_less_those_of_the_parents_are_the_bones_of_every_body():
    for layout, bodies in ((KINECT20, 1), (NTU25, 2)):
        frames = np.random.default_rng(0).normal(size=(5, bodies, layout.num_joints, 3)).astype(np.float32)
        flat = frames.reshape(5, -1)
        bones, _ = Bone()(frames, np.array([0, 5]), layout)
        parents = FrameFormat(layout, bodies, ()).parents()
        np.testing.assert_array_equal((flat - flat[:, parents]).reshape(frames.shape), bones)
