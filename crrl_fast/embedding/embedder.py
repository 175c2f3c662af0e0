"""The encoder of a run, ready for clips of any source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crrl_fast.data.batches import ResidentClips, resident_frames
from crrl_fast.data.finite import check_finite
from crrl_fast.data.fitting import all_steps, fit_store
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.preprocess import Step
from crrl_fast.data.store import Store
from crrl_fast.embedding.clips import arrays_recording, list_arrays
from crrl_fast.embedding.embeddings import Embeddings
from crrl_fast.errors import ConfigError
from crrl_fast.evaluation.features import BATCH_SIZE, extract_features
from crrl_fast.models import ClipEncoder
from crrl_fast.run import RunFolder


class Embedder:
    """An encoder, and what has to be done to clips before it sees them; ``crrl_fast.load`` makes one of a run.

    Args:
        encoder: of clips; it is moved to ``device`` and put into eval mode.
        frames: the format of the frames that it was trained on, before the recipe's own steps.
        own_steps: the recipe's own steps.
        device: where clips are encoded.

    Attributes:
        encoder: see above.
        frames: see above.
        steps: all that is done to raw clips, in order.
        feature_size: numbers C of a clip's feature.
        device: see above.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        frames: FrameFormat,
        own_steps: Sequence[Step],
        device: torch.device,
    ) -> None:
        self.encoder = encoder.to(device).eval()
        self.frames = frames
        self.steps = all_steps(frames, own_steps)
        self.feature_size = encoder.feature_size
        self.device = device

    @classmethod
    def of_run(cls, run: RunFolder, encoder: str | None, device: torch.device) -> Embedder:
        """Return that of a run; ``encoder`` is as in ``RunFolder.load_encoder``, or None for the run's own choice.

        Raises:
            ConfigError: the encoder has no usable checkpoint.
        """
        config = run.config
        return cls(
            run.load_encoder(encoder or run.default_encoder()), config.frames, config.recipe.preprocessing(), device
        )

    def encode(
        self, arrays: Iterable[npt.ArrayLike | Tensor], *, batch_size: int = BATCH_SIZE
    ) -> npt.NDArray[np.float32]:
        """Return the features of raw clips, to which the preprocessing of the run is applied.

        Args:
            arrays: a list of clips of any lengths, each an array, a tensor or nested lists (T, V, 3) or (T, m, V, 3),
                as the run's data was before it was prepared. A clip with fewer bodies than the run's data gets absent
                ones. A single array is refused, for its first axis may be clips or frames: pass ``[clip]`` or
                ``list(batch)``.
            batch_size: clips that are encoded together; features do not depend on it but for rounding.

        Returns:
            (N, C) float32 in the order of ``arrays``; (0, C) for an empty list.

        Raises:
            DataError: ``arrays`` is no list; or a clip has another shape, no frame, more bodies, or a value that is not
                a finite number: the message calls it ``arrays[i]``.
            ConfigError: ``batch_size`` is not positive.
        """
        clips = list_arrays(arrays)
        if not clips:
            return np.zeros((0, self.feature_size), np.float32)
        recording = arrays_recording(clips, self.frames)
        store = Store.from_recording(recording, dataset="arrays", steps=self.steps)
        return self.encode_store(store, batch_size=batch_size).features

    def encode_store(self, store: Store, index: Tensor | None = None, *, batch_size: int = BATCH_SIZE) -> Embeddings:
        """Return the features of a store's clips.

        Args:
            store: raw, prepared as the run's own, or all that the encoder saw: what it lacks is applied to it.
            index: (N) int64, which clips; None is all of them.
            batch_size: see ``encode``.

        Raises:
            DataError: a value is not finite; see also ``fit_store``.
            ConfigError: ``batch_size`` is not positive.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        check_finite(store, f"data set {store.info.dataset!r}")
        store = fit_store(store, self.frames, self.steps)
        index = torch.arange(len(store)) if index is None else index
        clips = ResidentClips(store, index, resident_frames(store, self.device))
        return Embeddings(
            features=extract_features(self.encoder, clips, batch_size).cpu().numpy(),
            names=tuple(store.info.clip_names[i] for i in index.tolist()),
            labels=store.labels[index].numpy(),
            class_names=store.info.class_names,
            lengths=store.lengths[index].numpy(),
        )
