"""The recipe: every hyperparameter of a pretraining run, validated on construction."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from crrl_fast.data.preprocess import ALIGNMENTS, STREAMS, Downsample, Step
from crrl_fast.errors import ConfigError, shortened, shown
from crrl_fast.files import MALFORMED, read_toml
from crrl_fast.fusion import DEFAULT_FUSION, get_fusion
from crrl_fast.reference.info_nce import LARGEST_DIM
from crrl_fast.views import PRESETS

_LARGEST = sys.float_info.max
_MOST_LAYERS = 64
_MOST_UNITS = 1 << 16

PRECISIONS = ("fp32", "bf16")
QUEUE_STARTS = ("random", "empty")
DECODED = ("ends", "mean")
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("milestones", "cosine")
FEATURES = ("coords", "both", "all")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters; the defaults are those of the CRRL authors' release, but for ``clip_grad_norm``, which is ours.

    Attributes:
        fusion: ``distill``, ``joint`` or ``concat``; its stages train where neither a fusion nor stages are asked for.
        epochs: epochs a stage.
        batch_size: clips a step; the last batch of an epoch may be smaller.
        length_buckets: 0 draws batches uniformly. K draws K batches at a time, sorts their clips by length and cuts
            them anew, so that little is padding; the lengths within a batch, and hence those of the keys that enter
            the queue together, are then alike.
        lr: initial learning rate, or the highest where there is a warm-up.
        sgd_momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD; with AdamW decoupled from the gradient.
        lr_milestones: epochs after which the learning rate is multiplied by ``lr_decay``, in schedule ``milestones``.
        lr_decay: that factor.
        optimizer: ``sgd``, or ``adamw`` with its usual betas 0.9 and 0.999, which needs a far smaller ``lr``.
        lr_schedule: ``milestones``, or ``cosine`` for half a wave from ``lr`` to 0 over the steps of a stage.
        warmup: share of a stage's steps in which the learning rate rises linearly, in either schedule.
        steps: optimiser steps a stage, rounded up to whole epochs; 0 trains for ``epochs``, more than 0 replaces them.
        clip_grad_norm: gradients are scaled down to this global norm; 0 leaves them alone.
        max_frames: longer clips are evenly down-sampled to this many frames.
        align: how each clip is turned after that, by its first frame: ``rotate`` lays the spine along y and the hips
            along x, ``turn`` turns about the vertical alone, so that gravity stays along y, ``none`` leaves it. What
            its store records already is not done again.
        stream: what the clips are made into after that: ``joint`` leaves their coordinates, ``motion`` takes the
            difference between frames, ``bone`` that between joints and their parents.
        hidden_size: units of the encoder GRU per direction.
        layers: layers of the encoder and of the decoder.
        dropout: between the encoder's layers.
        queue_size: keys K in the negative queue.
        temperature: of the InfoNCE loss.
        momentum: of the key encoder's moving average.
        key_mlp_momentum: whether the key MLP starts as a copy of the query's and follows it by the same moving
            average (as in MoCo v2); off, it keeps its own random initial weights, as in the release.
        velocity_scale: factor on the velocity before it is encoded. From frame to frame a body moves by a tenth of its
            size or less, which an encoder of coordinates hardly notices.
        projection_size: numbers of a query and of a key; 0 is as many as the clip feature has.
        queue_start: ``random`` keys, as in MoCo, or ``empty``, so that only keys of clips are negatives.
        views: preset (see ``docs/views.md``) that a random view of each clip is drawn from for the query, and another
            for the key, in stages ``cml`` and ``joint``; the decoder of the latter reconstructs the query's. ``none``
            takes the clips as they are.
        symmetric: whether velocity as the query is contrasted with coordinates as the key, too, in a queue of its own.
        within_stream: weight of contrasting the two views also with each other in the same stream, coordinates with
            coordinates and velocity with velocity; it needs ``views`` and ``symmetric``.
        distill_weight: of the distillation term in the Information Fuser's loss.
        contrast_weight: of the contrastive term in the loss of stage ``joint``.
        reconstruction_weight: of the reconstruction in the loss of stage ``joint``.
        decoder_size: units of the decoder GRU, whose outputs a linear layer turns into frames; 0 is the paper's, whose
            hidden state is the frame, within (-1, 1) in each number.
        decoder_layers: of the decoder GRU; 0 is as many as the encoder has.
        decode_from: ``ends`` decodes the clip from the encoder's first output and, reversed, from its last one;
            ``mean`` decodes the clip from its feature, and counts that twice.
        velocity_weight: the decoder also predicts the velocity times this weight; 0 leaves that out. It needs
            ``decoder_size``.
        feature: the clip feature that is evaluated, embedded and exported: that of ``coords``; ``both``, that of the
            coordinates and after it that of the velocity (times ``velocity_scale``), by the same encoder; or ``all``,
            with that of the bones, from each joint to its parent, after them.
        whitening: of that feature, per stream, after training: along a principal axis on which the training clips'
            features vary by v they are divided by v to the power of half of this; 0 leaves them as they are.
        whitening_views: preset that random views of the training clips are drawn from for the whitening: the axes and
            the v are then those along which, and by how much, the features of views of the same clip differ, so that
            what a view changes counts less than what tells clips apart. ``none`` takes those of the clips themselves.
        precision: ``fp32``, or ``bf16`` for autocast matrix products.
        cuda_graphs: whether a GPU replays captured steps instead of having each operation launched. It computes the
            same, but dropout hits other units, because batches are padded to fewer lengths. Nothing without a GPU.
        deterministic: whether only algorithms are used whose last bits do not vary from run to run. On the CPU none
            do; see ``docs/determinism.md``.
    """

    fusion: str = DEFAULT_FUSION
    epochs: int = 60
    batch_size: int = 32
    length_buckets: int = 0
    lr: float = 0.05
    sgd_momentum: float = 0.9
    weight_decay: float = 1e-4
    lr_milestones: tuple[int, ...] = (18, 50)
    lr_decay: float = 0.5
    optimizer: str = "sgd"
    lr_schedule: str = "milestones"
    warmup: float = 0.0
    steps: int = 0
    clip_grad_norm: float = 5.0
    max_frames: int = 60
    align: str = "rotate"
    stream: str = "joint"
    hidden_size: int = 256
    layers: int = 2
    dropout: float = 0.2
    queue_size: int = 64
    temperature: float = 0.1
    momentum: float = 0.999
    key_mlp_momentum: bool = False
    velocity_scale: float = 1.0
    projection_size: int = 0
    queue_start: str = "random"
    views: str = "none"
    symmetric: bool = False
    within_stream: float = 0.0
    distill_weight: float = 0.1
    contrast_weight: float = 1.0
    reconstruction_weight: float = 1.0
    decoder_size: int = 0
    decoder_layers: int = 0
    decode_from: str = "ends"
    velocity_weight: float = 0.0
    feature: str = "coords"
    whitening: float = 0.0
    whitening_views: str = "none"
    precision: str = "fp32"
    cuda_graphs: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: a field has the wrong type or lies outside its range.
        """
        for name, kind in _FIELD_TYPES.items():
            _check_type(name, getattr(self, name), kind)
        get_fusion(self.fusion)
        for name in ("epochs", "batch_size", "max_frames", "hidden_size", "layers"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("hidden_size", "decoder_size"):
            self._require(name, getattr(self, name) <= _MOST_UNITS, f"at most {_MOST_UNITS}")
        self._require("projection_size", self.projection_size <= LARGEST_DIM, f"at most {LARGEST_DIM}")
        for name in ("layers", "decoder_layers"):
            self._require(name, getattr(self, name) <= _MOST_LAYERS, f"at most {_MOST_LAYERS}")
        for name in ("lr", "temperature", "velocity_scale"):
            self._require(name, getattr(self, name) > 0, "greater than 0")
        for name in (
            "weight_decay",
            "clip_grad_norm",
            "distill_weight",
            "contrast_weight",
            "queue_size",
            "length_buckets",
            "steps",
            "projection_size",
            "within_stream",
            "reconstruction_weight",
            "decoder_size",
            "decoder_layers",
            "velocity_weight",
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("sgd_momentum", "dropout", "warmup"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name in ("momentum", "whitening"):
            self._require(name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        self._require("lr_decay", 0 < self.lr_decay <= 1, "in (0, 1]")
        rising = all(a < b for a, b in zip((0, *self.lr_milestones), self.lr_milestones, strict=False))
        self._require("lr_milestones", rising, "rising epochs of at least 1")
        self._require("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}")
        self._require("lr_schedule", self.lr_schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        self._require("decode_from", self.decode_from in DECODED, f"one of {', '.join(DECODED)}")
        self._require("velocity_weight", self.decoder_size > 0 or self.velocity_weight == 0, "0 without decoder_size")
        self._require("queue_start", self.queue_start in QUEUE_STARTS, f"one of {', '.join(QUEUE_STARTS)}")
        for name in ("views", "whitening_views"):
            self._require(name, getattr(self, name) in PRESETS, f"one of {', '.join(PRESETS)}")
        pairs = self.views != "none" and self.symmetric
        self._require("within_stream", pairs or self.within_stream == 0, "0 without views and symmetric=true")
        self._require("align", self.align in ALIGNMENTS, f"one of {', '.join(ALIGNMENTS)}")
        self._require("feature", self.feature in FEATURES, f"one of {', '.join(FEATURES)}")
        self._require("stream", self.stream in STREAMS, f"one of {', '.join(STREAMS)}")
        self._require("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")

    def steps_per_epoch(self, clips: int) -> int:
        """Return the optimiser steps of an epoch on ``clips`` training clips, the last of which may be smaller."""
        return -(-clips // self.batch_size)

    def epochs_on(self, clips: int) -> int:
        """Return the epochs of a stage on ``clips`` training clips, at least one: ``epochs``, or those of ``steps``."""
        return -(-self.steps // self.steps_per_epoch(clips)) if self.steps else self.epochs

    def preprocessing(self) -> tuple[Step, ...]:
        """Return the steps of preprocessing that a run applies to its store."""
        return (Downsample(self.max_frames), *ALIGNMENTS[self.align], *STREAMS[self.stream])

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ConfigError(f"recipe field {name} must be {what}, got {shown(getattr(self, name))}")

    def with_overrides(self, overrides: Mapping[str, Any]) -> Recipe:
        """Return a copy with some fields replaced.

        Args:
            overrides: field names to values, of the field's type or as text (``"0.02"``, ``"18,50"``, ``"true"``).

        Raises:
            ConfigError: a field is unknown, or its value cannot be read or is out of range.
        """
        for name in overrides:
            if name not in _FIELD_TYPES:
                raise ConfigError(f"unknown recipe field {shown(name)}: choose from {', '.join(_FIELD_TYPES)}")
        values = {name: _convert(name, value, _FIELD_TYPES[name]) for name, value in overrides.items()}
        if "epochs" in values:  # whoever asks for epochs wants them, also of a recipe that counts steps
            values.setdefault("steps", 0)
        return dataclasses.replace(self, **values)


_FIELD_TYPES: dict[str, Any] = get_type_hints(Recipe)


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """Read ``field=value`` texts, as ``--set`` takes them.

    Raises:
        ConfigError: one of them has no ``=``.
    """
    pairs = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise ConfigError(f"--set {assignment!r}: write it as field=value, for instance lr=0.02")
        pairs[name.strip()] = value.strip()
    return pairs


def load_toml(path: Path) -> dict[str, Any]:
    """Read recipe fields from a TOML file: ``lr = 0.02`` and so on, at its top level.

    Raises:
        ConfigError: the file is missing or no TOML.
        DataError: it is larger than limit ``toml``.
    """
    try:
        return read_toml(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recipe ({error.strerror})") from error
    except MALFORMED as error:
        raise ConfigError(f"{path}: not a TOML file ({shortened(str(error))})") from error


def _check_type(name: str, value: object, kind: Any) -> None:  # noqa: ANN401 - a type or a generic alias
    if kind is float:
        ok = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST
    elif kind is int:
        ok = _is_whole(value)
    elif kind in (bool, str):
        ok = isinstance(value, kind)
    else:
        ok = isinstance(value, tuple) and all(map(_is_whole, value))
    if not ok:
        raise ConfigError(f"recipe field {name} must be {_describe_type(kind)}, got {shown(value)}")


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) < 1 << 63


def _convert(name: str, value: Any, kind: Any) -> Any:  # noqa: ANN401 - text or TOML in, the field's type out
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str) or kind is str:
        return value
    try:
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        if kind in (int, float):
            return kind(value)
        return tuple(int(item) for item in value.split(",") if item.strip())
    except (ValueError, KeyError) as error:
        raise ConfigError(f"recipe field {name} must be {_describe_type(kind)}, got {shown(value)}") from error


def _describe_type(kind: Any) -> str:  # noqa: ANN401 - a type or a generic alias
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    return names.get(kind, "a list of whole numbers such as 18,50")
