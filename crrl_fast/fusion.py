"""The fusions: how reconstruction and contrast become one encoder, each by name."""

from __future__ import annotations

from dataclasses import dataclass

from crrl_fast.errors import ConfigError


@dataclass(frozen=True)
class Fusion:
    """What a fusion takes.

    Attributes:
        stages: that it trains, in order.
        encoder: the name of the one that comes out of it, see ``RunFolder.load_encoder``.
    """

    stages: tuple[str, ...]
    encoder: str


DEFAULT_FUSION = "distill"
# Distillation is what the paper proposes; it is compared with the next two, and with no fusion at all.
FUSIONS = {
    "distill": Fusion(stages=("cml", "inf"), encoder="inf"),
    "joint": Fusion(stages=("joint",), encoder="joint"),
    "concat": Fusion(stages=("ser", "cml"), encoder="concat"),
    "contrast": Fusion(stages=("cml",), encoder="cml"),
}


def get_fusion(name: str) -> Fusion:
    """Return the fusion called ``name``.

    Raises:
        ConfigError: no fusion has that name.
    """
    if name not in FUSIONS:
        raise ConfigError(f"unknown fusion {name!r}: choose one of {', '.join(FUSIONS)}")
    return FUSIONS[name]
