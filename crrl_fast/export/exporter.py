"""Export of a run's encoder: which files there are, and that each is written, checked and kept or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from crrl_fast.errors import ConfigError, CrrlError
from crrl_fast.export.check import largest_difference, require_equal
from crrl_fast.export.metadata import describe
from crrl_fast.export.parts import parts_of
from crrl_fast.export.program import read_program, write_program
from crrl_fast.export.weights import read_weights, write_weights
from crrl_fast.files import replacing
from crrl_fast.models import ClipEncoder
from crrl_fast.run import CONFIG_FILE, RunFolder

FORMATS = ("safetensors", "pt2", "onnx")
DEFAULT_FORMATS = ("safetensors", "pt2")


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes:
        path: where it lies.
        format: one of ``FORMATS``.
        difference: the largest difference of its features from the encoder's on random ragged batches, as a share of
            the largest of these; None where the package to run it is not installed.
    """

    path: Path
    format: str
    difference: float | None


@dataclass(frozen=True)
class _Format:
    write: Callable[[Path, Any, Mapping[str, Any]], None]
    read: Callable[[Path], Callable[[Tensor, Tensor], Tensor]]


def export_encoder(
    run: RunFolder | Path | str,
    out: Path | str | None = None,
    *,
    encoder: str | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
) -> list[ExportedFile]:
    """Write an encoder of a run to files that need no crrl-fast, and check each against the encoder.

    - ``safetensors``: the weights, which ``nn.GRU(D, H, layers, bidirectional=True, batch_first=True)`` loads; of the
      encoder ``concat`` a file for each part. Where the feature is whitened, ``whitening.i.mean`` and
      ``whitening.i.matrix`` of stream i lie beside them, which ``nn.GRU`` does not know.
    - ``pt2``: for ``torch.export.load``, from frames (B, T, D) float32 and lengths (B) int64 to the clip feature (B, C)
      float32, B and T free.
    - ``onnx``: the same for ONNX runtimes, opset 13; needs the extra ``onnx``.

    Lengths are clamped to [0, T], the feature of a clip of 0 frames is 0 before it is whitened, and what lies in the
    padding never matters. Each file carries sizes, joint layout, preprocessing, recipe and versions.

    Args:
        run: the run folder.
        out: where to write; None is ``export`` in the run folder.
        encoder: see ``RunFolder.load_encoder``; None is the run's own choice.
        formats: of ``FORMATS``.

    Raises:
        ConfigError: an unknown format, no such encoder, or ``out`` is a run folder, whose checkpoints have such names.
        CrrlError: the package onnx is missing, or a file cannot be written or differs from the encoder; it then does
            not stay behind.
    """
    writers = {name: _format(name) for name in formats}
    if not writers:
        raise ConfigError(f"no format to export to: choose from {', '.join(FORMATS)}")
    run = run if isinstance(run, RunFolder) else RunFolder.open(Path(run))
    folder = run.path / "export" if out is None else Path(out)
    if any(folder.glob(CONFIG_FILE)):  # unlike exists(), it leaves a folder that cannot be read to the writing below
        raise ConfigError(f"{folder}: a run folder, whose checkpoints have such names: name another folder with --out")
    name = encoder or run.default_encoder()
    model = run.load_encoder(name).eval()
    return [
        _export(run, part_name, part, folder / f"{part_name}.{format_name}", format_name, writer)
        for format_name, writer in writers.items()
        # A file of weights holds one GRU, so a concatenation is those of its parts.
        for part_name, part in (parts_of(name, model) if format_name == "safetensors" else {name: model}).items()
    ]


def _export(
    run: RunFolder, name: str, encoder: ClipEncoder, path: Path, format_name: str, format_: _Format
) -> ExportedFile:
    metadata = describe(run, name, encoder)
    with replacing(path) as temporary:
        format_.write(temporary, encoder, metadata)
        try:
            feature = format_.read(temporary)
        except ImportError:
            return ExportedFile(path, format_name, None)
        difference = largest_difference(encoder, feature, metadata["input_size"])
        require_equal(difference, path)
    return ExportedFile(path, format_name, difference)


def _format(name: str) -> _Format:
    if name == "safetensors":
        return _Format(write_weights, read_weights)
    if name == "pt2":
        return _Format(write_program, read_program)
    if name != "onnx":
        raise ConfigError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    try:
        from crrl_fast.export.onnx_graph import read_onnx, write_onnx
    except ImportError as error:
        raise CrrlError(f"the format onnx needs a package ({error}): pip install 'crrl-fast[onnx]'") from error
    return _Format(write_onnx, read_onnx)
