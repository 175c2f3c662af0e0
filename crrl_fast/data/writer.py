"""Writes a store clip by clip, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from crrl_fast.data.clip import Clip
from crrl_fast.data.info import METADATA_KEY, SPLIT_FIELDS, StoreInfo
from crrl_fast.data.packing import Packer
from crrl_fast.data.preprocess import Frames, Step, describe_steps
from crrl_fast.data.recording import Recording, Report, raise_problem
from crrl_fast.data.tensor_file import ArrayTensor, FileTensor, TensorSource, digest, write_tensors
from crrl_fast.files import replacing


def write_store(
    path: Path,
    recording: Recording,
    *,
    dataset: str,
    steps: Sequence[Step] = (),
    report: Report = raise_problem,
    on_clip: Callable[[Clip], None] = lambda clip: None,
) -> StoreInfo:
    """Check, preprocess and write the clips of a recording.

    Args:
        path: of the store; it appears whole or not at all.
        recording: what a reader found.
        dataset: name of the data set.
        steps: preprocessing.
        report: gets what is wrong with a clip; where it returns, the clip is left out.
        on_clip: sees each clip that was taken.

    Raises:
        DataError: there is no clip, or ``report`` raises.
        CrrlError: the file cannot be written.
    """
    # The header stands before the frames, but is known only after them: so they wait in a file of their own.
    with (
        replacing(path) as temporary,
        NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".frames") as frames_file,
    ):

        def sink(frames: Frames) -> None:
            frames_file.write(frames.data)

        packer = Packer(dataset, recording.layout, len(recording.class_names), steps, sink)
        packer.add_all(recording.clips, report, on_clip)
        offsets, columns = packer.finish()
        frames_file.flush()
        width = packer.bodies * recording.layout.num_joints * 3
        tensors: dict[str, TensorSource] = {
            "frames": FileTensor(Path(frames_file.name), int(offsets[-1]), width),
            "offsets": ArrayTensor(offsets),
            "labels": ArrayTensor(columns["label"]),
            **{field: ArrayTensor(columns[field]) for field in SPLIT_FIELDS},
        }
        info = replace(store_info(recording, packer, dataset, steps), sha256=digest(tensors))
        write_tensors(temporary, tensors, {METADATA_KEY: info.to_header()})
    return info


def store_info(recording: Recording, packer: Packer, dataset: str, steps: Sequence[Step]) -> StoreInfo:
    """Return what the store of a recording says of itself, all but its hash."""
    return StoreInfo(
        dataset=dataset,
        layout=recording.layout,
        bodies=packer.bodies,
        class_names=tuple(recording.class_names),
        clip_names=tuple(packer.names),
        fps=recording.fps,
        splits=dict(recording.splits),
        preprocessing=tuple(describe_steps(steps)),
    )
