"""The one on-disk format: a data set is one ``.safetensors`` file, memory-mapped, with clips packed end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crrl_fast.data.class_names import class_names_for
from crrl_fast.data.clip import UNKNOWN, Clip
from crrl_fast.data.info import METADATA_KEY, SPLIT_FIELDS, Split, StoreInfo, parse_header
from crrl_fast.data.layouts import Layout, get_layout
from crrl_fast.data.packing import Packer
from crrl_fast.data.preprocess import (
    Frames,
    Step,
    apply_steps,
    describe_steps,
    effective_steps,
    steps_from_record,
    write_steps,
)
from crrl_fast.data.recording import Recording, Report, raise_problem
from crrl_fast.data.tensor_file import ArrayTensor, TensorSource, digest, write_tensors
from crrl_fast.data.tensor_header import read_tensor_header
from crrl_fast.data.writer import store_info
from crrl_fast.errors import ConfigError, DataError
from crrl_fast.files import replacing
from crrl_fast.memory import available_memory, gigabytes

PREPARE_AGAIN = "prepare it again"
"""What to do about a store that is damaged."""


@dataclass(frozen=True)
class Store:
    """A data set in memory or memory-mapped.

    Attributes:
        frames: (F, D) float32, all clips end to end.
        offsets: (N + 1) int64; clip i is ``frames[offsets[i]:offsets[i + 1]]``.
        labels: (N) int64 class index, -1 unknown.
        subject: (N) int64, -1 unknown; so too ``camera``, ``setup``, ``replication`` and ``fold``.
        info: names, layout, splits and preprocessing.
    """

    frames: Tensor
    offsets: Tensor
    labels: Tensor
    subject: Tensor
    camera: Tensor
    setup: Tensor
    replication: Tensor
    fold: Tensor
    info: StoreInfo

    def __len__(self) -> int:
        """Return the number of clips N."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Frames of each clip, (N) int64."""
        return self.offsets.diff()

    @property
    def layout(self) -> Layout:
        """The joint layout."""
        return self.info.layout

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where nothing is labelled."""
        return len(self.info.class_names)

    def clip(self, index: int) -> Tensor:
        """Return clip ``index`` as (T, M, V, 3), a view of the store."""
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.frames[start:end].view(end - start, self.info.bodies, self.layout.num_joints, 3)

    def split(self, name: str | None = None) -> tuple[Tensor, Tensor]:
        """Return the clip indices (int64) of the training and the test part of a split.

        Args:
            name: a split that the store defines; None is its first, or, where it defines none, all clips for training.

        Raises:
            ConfigError: the store has no split of that name, or it puts no clip into training.
        """
        if name is None:
            if not self.info.splits:
                return torch.arange(len(self)), torch.arange(0)
            name = next(iter(self.info.splits))
        if name not in self.info.splits:
            known = ", ".join(self.info.splits) or "none"
            raise ConfigError(f"data set {self.info.dataset!r} has no split {name!r}: it defines {known}")
        split = self.info.splits[name]
        values: Tensor = getattr(self, split.field)
        train = torch.isin(values, torch.tensor(split.train))
        test = ~train & (values != UNKNOWN) if split.test is None else torch.isin(values, torch.tensor(split.test))
        if not train.any():
            raise ConfigError(
                f"split {name!r} of data set {self.info.dataset!r} puts no clip into training: "
                f"none has {split.field} in {list(split.train)}"
            )
        return train.nonzero().flatten(), test.nonzero().flatten()

    def processed(self, steps: Sequence[Step]) -> Store:
        """Return a store with ``steps`` applied and recorded; itself where all would leave its clips as they are.

        Raises:
            DataError: there is not enough memory for the new frames.
        """
        longest = int(self.lengths.max()) if len(self) else 0
        steps = effective_steps(steps, longest, steps_from_record(self.info.preprocessing))
        if not steps:
            return self
        needed, available = self.frames.nbytes, available_memory()
        if available is not None and needed > available:
            raise DataError(
                f"data set {self.info.dataset!r}: {write_steps(steps)} takes {gigabytes(needed)} of memory, and "
                f"{gigabytes(available)} are free: end other programs, prepare it with these steps, or take a larger "
                "machine"
            )
        packed = self.frames.view(-1, self.info.bodies, self.layout.num_joints, 3).numpy()
        frames, offsets = apply_steps(packed, self.offsets.numpy(), self.layout, steps)
        info = replace(self.info, preprocessing=(*self.info.preprocessing, *describe_steps(steps)))
        return replace(
            self,
            frames=torch.from_numpy(frames).view(len(frames), -1),
            offsets=torch.from_numpy(offsets),
            info=info,
        )

    @classmethod
    def from_recording(
        cls,
        recording: Recording,
        *,
        dataset: str,
        steps: Sequence[Step] = (),
        report: Report = raise_problem,
        on_clip: Callable[[Clip], None] = lambda clip: None,
    ) -> Store:
        """Check, preprocess and pack clips in memory; ``writer.write_store``, with the same arguments, does so on disk.

        Raises:
            DataError: there is no clip, or ``report`` raises: a name stands twice, or a clip has another shape than
                (T >= 1, M, V, 3), a value that is not finite, or a label without a class name.
        """
        blocks: list[Frames] = []
        packer = Packer(dataset, recording.layout, len(recording.class_names), steps, blocks.append)
        packer.add_all(recording.clips, report, on_clip)
        offsets, columns = packer.finish()
        return cls(
            frames=torch.from_numpy(np.concatenate(blocks)).view(int(offsets[-1]), -1),
            offsets=torch.from_numpy(offsets),
            labels=torch.from_numpy(columns["label"]),
            **{field: torch.from_numpy(columns[field]) for field in SPLIT_FIELDS},
            info=store_info(recording, packer, dataset, steps),
        ).hashed()

    @classmethod
    def from_arrays(
        cls,
        arrays: Sequence[npt.ArrayLike],
        labels: Sequence[int] | None = None,
        *,
        layout: str | Layout,
        dataset: str = "arrays",
        class_names: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        subject: Sequence[int] | None = None,
        camera: Sequence[int] | None = None,
        setup: Sequence[int] | None = None,
        replication: Sequence[int] | None = None,
        fold: Sequence[int] | None = None,
        fps: float | None = None,
        splits: Mapping[str, Split] | None = None,
        steps: Sequence[Step] = (),
    ) -> Store:
        """Build a store from one's own arrays.

        Args:
            arrays: one (T, V, 3) or (T, M, V, 3) array a clip, in metres; all with the same bodies M and joints V.
            labels: class index of each clip from 0, or -1; None for an unlabelled set.
            layout: joint layout of the arrays, or its name.
            dataset: name of the data set.
            class_names: names in label order; by default ``class 0``, ``class 1``, ...
            names: name of each clip; by default ``clip 0``, ``clip 1``, ...
            subject: performer of each clip; so too ``camera``, ``setup``, ``replication`` and ``fold``, for splits.
            camera: see ``subject``.
            setup: see ``subject``.
            replication: see ``subject``.
            fold: see ``subject``; a number of your own for each clip.
            fps: frames a second.
            splits: named splits over those five fields.
            steps: preprocessing to apply, for instance ``preprocess.DEFAULT_STEPS``.

        Raises:
            DataError: a list has another length than ``arrays``, or a clip is malformed (see ``from_recording``).
        """
        count = len(arrays)
        given = {
            "label": labels,
            "name": names,
            "subject": subject,
            "camera": camera,
            "setup": setup,
            "replication": replication,
            "fold": fold,
        }
        for column, values in given.items():
            if values is not None and len(values) != count:
                raise DataError(f"{column}: {len(values)} entries for {count} clips")
        columns = {
            column: [UNKNOWN] * count if values is None else [int(value) for value in values]
            for column, values in given.items()
            if column != "name"
        }
        if class_names is None:
            class_names = class_names_for(dataset, max(columns["label"], default=UNKNOWN) + 1)
        clips = []
        for i, array in enumerate(arrays):
            coords = np.asarray(array, dtype=np.float32)
            clips.append(
                Clip(
                    name=f"clip {i}" if names is None else names[i],
                    coords=coords[:, None] if coords.ndim == 3 else coords,
                    **{column: values[i] for column, values in columns.items()},
                )
            )
        recording = Recording(
            layout=get_layout(layout) if isinstance(layout, str) else layout,
            clips=clips,
            class_names=class_names,
            fps=fps,
            splits=splits or {},
        )
        return cls.from_recording(recording, dataset=dataset, steps=steps)

    def save(self, path: str | Path) -> None:
        """Write the store to ``path``, with the hash of its tensors as they are; the file appears whole or not at all.

        Raises:
            CrrlError: the file cannot be written.
        """
        with replacing(Path(path)) as temporary:
            write_tensors(temporary, self._sources(), {METADATA_KEY: self.hashed().info.to_header()})

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a store; its tensors are memory-mapped, so the file must stay as it is (``loading.load_store`` copies).

        Raises:
            DataError: the file is missing, truncated, no store, or of another version; the message says which.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            header = read_tensor_header(path, PREPARE_AGAIN)
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in header.tensors}
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: not a readable store, or cut short ({error}): {PREPARE_AGAIN}") from error
        info = parse_header(path, header.metadata.get(METADATA_KEY))
        check_tensors(path, tensors, info)
        return cls(info=info, **tensors)

    def hashed(self) -> Store:
        """Return it with the hash of its tensors as they are, which differs where they were changed in memory."""
        return replace(self, info=replace(self.info, sha256=self.digest()))

    def copied(self) -> Store:
        """Return it with tensors of its own, which nobody else changes and no file lies behind."""
        tensors = {spec.name: getattr(self, spec.name).clone() for spec in fields(self) if spec.name != "info"}
        return Store(info=self.info, **tensors)

    def digest(self) -> str:
        """Return the SHA-256 of the tensors as they are; ``info.sha256`` is that of the tensors as they were packed."""
        return digest(self._sources())

    def _sources(self) -> dict[str, TensorSource]:
        return {
            spec.name: ArrayTensor(getattr(self, spec.name).numpy()) for spec in fields(self) if spec.name != "info"
        }


def check_tensors(path: Path, tensors: dict[str, Tensor], info: StoreInfo) -> None:
    """Refuse tensors that contradict each other or the header; later code relies on what is checked here.

    Raises:
        DataError: they do.
    """
    clips = len(info.clip_names)
    width = info.bodies * info.layout.num_joints * 3
    expected = {"frames": torch.float32, **dict.fromkeys(("offsets", "labels", *SPLIT_FIELDS), torch.int64)}
    if set(tensors) != set(expected):
        raise DataError(f"{path}: a store holds {', '.join(expected)}, this file {', '.join(sorted(tensors))}")
    for name, dtype in expected.items():
        tensor = tensors[name]
        shape_ok = {
            "frames": tensor.ndim == 2 and tensor.shape[1] == width,
            "offsets": tuple(tensor.shape) == (clips + 1,),
        }.get(name, tuple(tensor.shape) == (clips,))
        if tensor.dtype != dtype or not shape_ok:
            raise DataError(
                f"{path}: {name} is {tensor.dtype} {tuple(tensor.shape)}, which does not fit {clips} clips of "
                f"{width} numbers a frame: prepare the store again"
            )
    offsets = tensors["offsets"]
    # Numbers near the ends of int64 have differences that wrap around to harmless ones.
    outside = bool(((offsets < 0) | (offsets > len(tensors["frames"]))).any())
    if outside or offsets[0] != 0 or offsets[-1] != len(tensors["frames"]) or bool((offsets.diff() < 1).any()):
        raise DataError(f"{path}: the clip offsets do not rise from 0 to {len(tensors['frames'])}: prepare it again")
    labels = tensors["labels"]
    if bool(((labels < UNKNOWN) | (labels >= len(info.class_names))).any()):
        raise DataError(f"{path}: labels outside -1..{len(info.class_names) - 1}: prepare it again")
