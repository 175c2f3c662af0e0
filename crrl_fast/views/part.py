"""What every part of a preset is: a probability, a kind, and what may come before it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from torch import Tensor

from crrl_fast.errors import ConfigError
from crrl_fast.views.draft import Draft


class Kind(Enum):
    """What a part does to a view, as far as the order of parts is concerned."""

    CROP = "a temporal crop"
    TIME_FLIP = "a time flip"
    ORIGIN = "an origin joint"
    SWAP = "a spatial flip"
    DENSE = "a matrix that mixes axes"
    DIAGONAL = "a scale of axes"
    JOINTS = "a change of some joints"
    NOISE = "noise"
    BLUR = "a blur"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What all parts share.

    Attributes:
        p: probability that a view gets this part.
    """

    kind: ClassVar[Kind]
    p: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields."""
        self.require(0 <= self.p <= 1, f"p must be within [0, 1], got {self.p}")

    def require(self, holds: bool, message: str) -> None:
        """Raise ConfigError naming this part unless the condition holds."""
        if not holds:
            raise ConfigError(f"{type(self).__name__}: {message}")

    def kinds(self) -> frozenset[Kind]:
        """Return what a view that has this part may contain."""
        return frozenset((self.kind,))

    def check_after(self, before: frozenset[Kind]) -> None:
        """Raise ConfigError where no single pass over a view can apply this part after those kinds."""
        for kind in sorted(before & _REFUSED_AFTER.get(self.kind, frozenset()), key=lambda kind: kind.value):
            raise ConfigError(f"{type(self).__name__} cannot come after {kind.value}: {_CURES[self.kind]}")

    def draw(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw this part for the views of the gate."""
        self.apply(draft, draft.gate(self.p, gate))

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw this part for the views of the gate, whatever ``p``."""
        raise NotImplementedError


# Noise is drawn last but for the blur, so of what follows it only a scale of axes can be carried over to it; blur, crop
# and the parts that tell joints apart do not commute either. Flips do: noise has no direction and no side.
_REFUSED_AFTER = {
    Kind.CROP: frozenset({Kind.CROP, Kind.TIME_FLIP, Kind.NOISE, Kind.BLUR}),
    Kind.ORIGIN: frozenset({Kind.ORIGIN, Kind.JOINTS, Kind.NOISE}),
    Kind.DENSE: frozenset({Kind.NOISE}),
    Kind.JOINTS: frozenset({Kind.JOINTS, Kind.NOISE}),
    Kind.NOISE: frozenset({Kind.NOISE, Kind.BLUR}),
    Kind.BLUR: frozenset({Kind.BLUR}),
}
_CURES = {
    Kind.CROP: "put the one crop first",
    Kind.ORIGIN: "put it before",
    Kind.DENSE: "put it before the noise",
    Kind.JOINTS: "use one, before the noise",
    Kind.NOISE: "use one, before the blur",
    Kind.BLUR: "use one",
}
