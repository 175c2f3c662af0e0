import runpy
from pathlib import Path

import numpy as np
import torch

from crrl_fast import Store

EXAMPLES = Path(__file__).parents[1] / "examples"


def convert(source, out):
    runpy.run_path(str(EXAMPLES / "ntu60_from_ctrgcn.py"))["main"](str(source), str(out))
    return Store.open(out)


def test_ntu60_from_the_real_file(real_data, tmp_path, capsys):
    source = real_data("ctrgcn/NTU60_CS.npz")
    store = convert(source, tmp_path / "ntu60.safetensors")
    assert "0 training clips, 11 test clips" in capsys.readouterr().out
    assert (len(store), store.layout.name, store.info.bodies) == (11, "ntu25", 2)
    with np.load(source) as file:
        assert store.labels.tolist() == file["y_test"].argmax(axis=1).tolist()
        whole = [int(clip.any(axis=1).nonzero()[0][-1]) + 1 for clip in file["x_test"]]
    assert store.lengths.tolist() == [min(length, 60) for length in whole]


def test_ntu60_leaves_out_clips_without_a_body(tmp_path):
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(4, 9, 150)).astype(np.float32)
    clips[1] = 0
    clips[2, 5:] = 0
    source = tmp_path / "NTU60_CS.npz"
    np.savez(source, x_train=clips[:3], y_train=np.eye(60)[[3, 1, 2]], x_test=clips[3:], y_test=np.eye(60)[[59]])
    store = convert(source, tmp_path / "ntu60.safetensors")
    assert store.lengths.tolist() == [9, 5, 9]
    assert store.labels.tolist() == [3, 2, 59]
    train, test = store.split("file")
    assert (train.tolist(), test.tolist()) == ([0, 1], [2])
    assert torch.isfinite(store.frames).all()
