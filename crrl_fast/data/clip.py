"""One clip as readers and generators yield it, before it is packed into a store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNKNOWN = -1


@dataclass(frozen=True)
class Clip:
    """A labelled skeleton sequence.

    Attributes:
        name: unique within its data set; messages and embeddings refer to it.
        coords: (T, M, V, 3) float32, metres; T >= 1 frames, M bodies, V joints. An absent body is all zeros.
        label: class index from 0, or -1 where unknown; so too the fields below.
        subject: performer.
        camera: camera or view.
        setup: recording setup.
        replication: repetition number.
        fold: the part that the source itself puts the clip into, for instance 0 training and 1 test.
    """

    name: str
    coords: npt.NDArray[np.float32]
    label: int = UNKNOWN
    subject: int = UNKNOWN
    camera: int = UNKNOWN
    setup: int = UNKNOWN
    replication: int = UNKNOWN
    fold: int = UNKNOWN
