"""The run folder: what a pretraining run leaves behind, and how it is read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from crrl_fast.config import Recipe
from crrl_fast.data.catalog import open_data
from crrl_fast.data.frame_format import FrameFormat
from crrl_fast.data.preprocess import ALIGNMENTS, effective_steps, steps_from_record
from crrl_fast.data.store import Store
from crrl_fast.errors import ConfigError, CrrlError, DataError, shown
from crrl_fast.files import MALFORMED, read_limited, write_json, write_weights
from crrl_fast.fusion import FUSIONS, get_fusion
from crrl_fast.lock import LOCK_FILE
from crrl_fast.models import ClipEncoder, ConcatEncoder, FeatureEncoder, MotionEncoder
from crrl_fast.seeding import seeded_weights
from crrl_fast.weights import build_checked, load_tensors, load_weights

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
OWN_STORE = Path("data", "store.safetensors")
"""Within a run folder, the store of a run that was trained on one in memory."""
RANDOM_ENCODER = "random"
# Not a stage's encoder, but those of the fusion's stages side by side.
CONCAT_ENCODER = FUSIONS["concat"].encoder
CONCAT_PARTS = FUSIONS["concat"].stages
# Where several stages have run, the one whose encoder a run stands for: the fusions before their parts.
_PREFERENCE = ("inf", "joint", "cml", "ser")
# In a stage's file, what the names of the whitening of its clip feature begin with.
_WHITENING = "whitening."


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run was started with.

    Attributes:
        data: path of the store; that of a store within the run folder follows the folder where it is moved.
        data_sha256: its hash; evaluation refuses another store.
        dataset: its data set name.
        frames: the format of its frames, before the recipe's own steps.
        split: the split trained on; None is the store's first.
        stages: stages in the order in which they run.
        recipe_name: the recipe that overrides were applied to.
        recipe: the resolved recipe.
        seed: of weights, dropout and shuffling.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads of torch.
        versions: of the software.
        fusion: the fusion that the stages were chosen by; None where they were named.
        probe_every: epochs between nearest-neighbour scores; 0 for none.
        on_nonfinite: ``stop`` or ``skip``: what is done about a step whose loss or gradient is not finite.
        checkpoint_every: epochs of a stage between two checkpoints; 0 for none.
        checkpoint_minutes: between two, also within an epoch; 0 for none.
        keep: of the newest checkpoints that are kept.
        processes: that train together.
        training_clips: clips of the split that are trained on; 0 where it is not recorded, in a config of before.
    """

    data: str
    data_sha256: str
    dataset: str
    frames: FrameFormat
    split: str | None
    stages: tuple[str, ...]
    recipe_name: str
    recipe: Recipe
    seed: int
    device: str
    threads: int
    versions: Mapping[str, str | None] = field(default_factory=dict)
    fusion: str | None = None
    probe_every: int = 10
    on_nonfinite: str = "stop"
    checkpoint_every: int = 5
    checkpoint_minutes: float = 10.0
    keep: int = 3
    processes: int = 1
    training_clips: int = 0

    def __post_init__(self) -> None:
        """Check the types, which a config from elsewhere may have wrong, and the fusion.

        Raises:
            ConfigError: a field is of another type, the fusion is unknown, or there are no clips for so many steps.
        """
        for name, kind in _TYPES.items():
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name} is {shown(getattr(self, name))}, which it cannot be")
        if not all(isinstance(stage, str) for stage in self.stages):
            raise ConfigError(f"stages are {shown(self.stages)}, expected their names")
        if self.fusion is not None:
            get_fusion(self.fusion)
        if self.training_clips < (1 if self.recipe.steps else 0):
            raise ConfigError(f"training_clips is {shown(self.training_clips)}, which it cannot be")

    @property
    def epochs(self) -> int:
        """The epochs of each stage: the recipe's, or those that its steps come to."""
        return self.recipe.epochs_on(self.training_clips)

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "frames": self.frames.record()}


_TYPES: dict[str, Any] = {
    **dict.fromkeys(("data", "data_sha256", "dataset", "recipe_name", "device", "on_nonfinite"), str),
    **dict.fromkeys(("split", "fusion"), (str, type(None))),
    **dict.fromkeys(("seed", "threads", "probe_every", "checkpoint_every", "keep", "training_clips"), int),
    "checkpoint_minutes": (int, float),
    "versions": Mapping,
}


class RunFolder:
    """A run on disk: ``config.json``, ``metrics.jsonl``, TensorBoard events, ``STAGE.safetensors``, ``eval/*.json``.

    Checkpoints lie in ``checkpoints`` (see ``training.checkpoint``). A run on a store in memory also keeps it, in
    ``data/store.safetensors``.

    Args:
        path: the folder; see ``create`` and ``open``.
        config: what it was started with.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunFolder:
        """Make a new run folder.

        Raises:
            ConfigError: it exists and is not empty, or cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(not _is_passing(file.name) for file in path.iterdir()):
                raise ConfigError(
                    f"{path}: exists and is not empty: name another folder with --out, or go on with --resume {path}"
                )
            return cls(path, config).reconfigured(config)
        except OSError as error:
            raise ConfigError(f"{path}: cannot make the run folder ({error.strerror})") from error

    def reconfigured(self, config: RunConfig) -> RunFolder:
        """Return the run with another config, which is written.

        Raises:
            CrrlError: it cannot be written.
        """
        write_json(self.path / CONFIG_FILE, config.record(), durable=True)
        return RunFolder(self.path, config)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder.

        Raises:
            ConfigError: it is no run folder, or its config is damaged.
        """
        file = path / CONFIG_FILE
        try:
            values = json.loads(read_limited(file, "record"))
            stages = tuple(values.pop("stages"))
            if (path / OWN_STORE).is_file():
                values["data"] = str((path / OWN_STORE).resolve())
            frames = _recorded_frames(values)
            before = Recipe(align=align_of_before(frames.preprocessing))
            recipe = before.with_overrides(values.pop("recipe"))
            return cls(path, RunConfig(recipe=recipe, stages=stages, frames=frames, **values))
        except OSError as error:
            raise ConfigError(f"{path}: not a run folder ({CONFIG_FILE}: {error.strerror})") from error
        except CrrlError as error:
            raise ConfigError(f"{file}: {error}") from error
        except MALFORMED as error:
            raise ConfigError(f"{file}: damaged ({shown(error)})") from error

    def save_stage(self, stage: str, module: nn.Module, encoder: nn.Module | None = None) -> Path:
        """Write a finished stage's weights to ``STAGE.safetensors``; the file appears whole or not at all.

        Args:
            stage: its name.
            module: the stage.
            encoder: the module's encoder as ``with_feature`` returns it, whose whitening has been fitted; None where
                the recipe has none.
        """
        path = self.stage_file(stage)
        tensors = {} if encoder is None else encoder.state_dict()
        fitted = {name: tensor for name, tensor in tensors.items() if name.startswith(_WHITENING)}
        write_weights(path, {**module.state_dict(), **fitted}, durable=True)
        return path

    def load_stage(self, stage: str) -> dict[str, Tensor]:
        """Return the weights of a finished stage's module, on the CPU.

        Raises:
            DataError: the file cannot be read, or is damaged; so too SafetensorError.
        """
        tensors = load_tensors(self.stage_file(stage))
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(_WHITENING)}

    def stage_file(self, stage: str) -> Path:
        """Return the path of a finished stage's weights."""
        return self.path / f"{stage}.safetensors"

    def has_finished(self, stage: str) -> bool:
        """Return whether a stage has finished."""
        return self.stage_file(stage).is_file()

    def default_encoder(self) -> str:
        """Return the encoder that the run stands for.

        It is that of the run's fusion where its stages have finished; else that of the first finished stage of ``inf``,
        ``joint``, ``cml`` and ``ser``.

        Raises:
            ConfigError: no stage has finished.
        """
        if self.config.fusion is not None:
            fusion = get_fusion(self.config.fusion)
            if all(map(self.has_finished, fusion.stages)):
                return fusion.encoder
        for stage in _PREFERENCE:
            if self.has_finished(stage):
                return stage
        raise ConfigError(f"{self.path}: no stage has finished, so there is no checkpoint to use")

    def load_encoder(self, name: str) -> ClipEncoder:
        """Return an encoder of the run on the CPU.

        Args:
            name: a finished stage, ``ser``, ``cml``, ``inf`` or ``joint``; ``concat`` for those of ``ser`` and ``cml``
                side by side; ``random`` for a randomly initialised one, whose whitening is not fitted to anything.

        Raises:
            ConfigError: the stage has no checkpoint, or its checkpoint is damaged or of other sizes.
        """
        if name == CONCAT_ENCODER:
            return ConcatEncoder({part: self._load_stage_encoder(part) for part in CONCAT_PARTS})
        return self._load_stage_encoder(name)

    def _load_stage_encoder(self, name: str) -> MotionEncoder | FeatureEncoder:
        recipe = self.config.recipe

        def build() -> MotionEncoder:
            return MotionEncoder(self.config.frames.width, recipe.hidden_size, recipe.layers, recipe.dropout)

        if name == RANDOM_ENCODER:
            with seeded_weights(self.config.seed, RANDOM_ENCODER):
                return with_feature(build_checked(self.path, build), recipe, self.config.frames)
        path = self.stage_file(name)
        if not path.is_file():
            raise ConfigError(f"{self.path}: stage {name!r} has no checkpoint here; {self._finished()}")
        try:
            encoder = with_feature(load_weights(path, build, "encoder."), recipe, self.config.frames)
            if isinstance(encoder, FeatureEncoder) and encoder.whitening:
                encoder.whitening = load_weights(path, lambda: encoder.whitening, _WHITENING)
            return encoder
        except (OSError, SafetensorError, DataError) as error:
            raise ConfigError(f"{path}: not a usable checkpoint ({error})") from error

    def check_data(self, store: Store, path: Path) -> None:
        """Refuse a store other than the one the run was trained on.

        Raises:
            ConfigError: the hashes differ.
        """
        if store.info.sha256 != self.config.data_sha256:
            raise ConfigError(
                f"{path}: not the store that {self.path} was trained on "
                f"(hash {store.info.sha256[:12]}, expected {self.config.data_sha256[:12]}): name that one with --data"
            )

    def _finished(self) -> str:
        finished = sorted(file.stem for file in self.path.glob("*.safetensors"))
        return f"finished stages: {', '.join(finished)}" if finished else "no stage has finished"


def align_of_before(preprocessing: Sequence[dict[str, Any]]) -> str:
    """Return ``Recipe.align`` of a run of before that was a field: it took the clips as they were turned already.

    Args:
        preprocessing: what its store records.
    """
    is_rotated = not effective_steps(ALIGNMENTS["rotate"], math.inf, steps_from_record(preprocessing))
    return "rotate" if is_rotated else "none"


def with_feature(encoder: MotionEncoder, recipe: Recipe, frames: FrameFormat) -> MotionEncoder | FeatureEncoder:
    """Return what gives the clip feature that ``recipe`` asks for by ``encoder``, with a whitening yet to be fitted.

    Args:
        encoder: of clips in the format ``frames``.
        recipe: says which feature.
        frames: says which joints the bones lie between.
    """
    if recipe.feature == "coords" and recipe.whitening == 0:
        return encoder
    return FeatureEncoder(
        encoder,
        None if recipe.feature == "coords" else recipe.velocity_scale,
        parents=frames.parents() if recipe.feature == "all" else None,
        whitens=recipe.whitening > 0,
    )


def _is_passing(name: str) -> bool:
    """Return whether a file's name is that of a lock, or of a file that a killed process had begun."""
    return name == LOCK_FILE or (name.startswith(".") and name.endswith(".tmp"))


def _recorded_frames(values: dict[str, Any]) -> FrameFormat:
    """Take the frame format out of a config; one that was written before it was recorded leaves it to the store."""
    if "frames" in values:
        return FrameFormat.from_record(values.pop("frames"))
    return FrameFormat.of(open_data(values["data"])[0].info)
