"""Make a store from CTR-GCN's NTU60_CS.npz (or NTU60_CV.npz, NTU120_*.npz).

    python examples/ntu60_from_ctrgcn.py NTU60_CS.npz data/ntu60.safetensors
    crrl-fast pretrain --data ntu60

The file holds the training and the test clips as (N, T, 2 * 25 * 3), padded with zeros at the end, and one-hot labels.
"""

import sys
from pathlib import Path

import numpy as np

from crrl_fast import Split, Store
from crrl_fast.data.preprocess import DEFAULT_STEPS


def main(source: str, out: str) -> None:
    """Read ``source``, preprocess its clips and write the store ``out``."""
    arrays, labels, parts = [], [], []
    with np.load(source) as file:
        for part, name in enumerate(("train", "test")):
            for clip, one_hot in zip(file[f"x_{name}"], file[f"y_{name}"], strict=True):
                recorded = np.flatnonzero(clip.any(axis=1))
                if len(recorded) == 0:  # a clip in which no body was ever seen
                    continue
                arrays.append(clip[: recorded[-1] + 1].reshape(-1, 2, 25, 3))
                labels.append(int(one_hot.argmax()))
                parts.append(part)
    store = Store.from_arrays(
        arrays,
        labels,
        layout="ntu25",
        dataset=Path(out).stem,
        setup=parts,  # the file says of a clip only whether it is in the training (0) or the test part (1)
        splits={"file": Split("setup", (0,))},
        fps=30,
        steps=DEFAULT_STEPS,
    )
    store.save(out)
    print(f"{out}: {parts.count(0)} training clips, {parts.count(1)} test clips, {store.num_classes} classes")


if __name__ == "__main__":
    main(*sys.argv[1:])
