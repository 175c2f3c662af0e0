"""Parts that act on some joints, or by joint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crrl_fast.errors import DataError
from crrl_fast.views.draft import Draft
from crrl_fast.views.part import Kind, Part


@dataclass(frozen=True, kw_only=True)
class OriginJoint(Part):
    """Subtract a joint from all joints of its body, frame by frame.

    Source: ``subtract`` of AS-CAL (Rao et al., Information Sciences 2021), joint 1.

    Attributes:
        joint: its number or name in the layout; None draws one for each view.
    """

    kind: ClassVar[Kind] = Kind.ORIGIN
    joint: int | str | None = 1

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        names, joint = draft.layout.joints, self.joint
        if joint is None:
            origin = draft.integers(len(names))
        else:
            number = names.index(joint) if joint in names else joint
            if not isinstance(number, int) or not 0 <= number < len(names):
                raise DataError(f"OriginJoint: layout {draft.layout.name!r} has no joint {joint!r}")
            origin = torch.full_like(draft.lengths, number)
        if draft.mirror is not None and draft.partner is not None:  # the joint that a flip before this put there
            origin = torch.where(draft.mirror, draft.partner[origin], origin)
        draft.origin = draft.choose(gate, origin, torch.full_like(origin, -1) if draft.origin is None else draft.origin)


@dataclass(frozen=True, kw_only=True)
class SpatialFlip(Part):
    """Swap left and right joints.

    Source: ``random_spatial_flip`` of AimCLR (p 0.5), which swaps joints and keeps their coordinates; so does this,
    unless ``negate`` names an axis (0, 1, 2) whose sign changes too, which makes it a reflection.
    """

    kind: ClassVar[Kind] = Kind.SWAP
    p: float = 0.5
    negate: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        self.require(self.negate in (None, 0, 1, 2), f"negate must be None, 0, 1 or 2, got {self.negate}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        partner = list(range(draft.layout.num_joints))
        for left, right in draft.layout.mirror:
            partner[left], partner[right] = right, left
        draft.partner = draft.numbers(tuple(partner))
        flip = torch.ones_like(draft.lengths, dtype=torch.bool) if gate is None else gate
        draft.mirror = flip if draft.mirror is None else flip ^ draft.mirror
        if draft.joints is not None:
            draft.joints = draft.choose(gate, draft.joints[:, draft.partner], draft.joints)
        if self.negate is not None:
            signs = draft.constant(tuple(-1.0 if axis == self.negate else 1.0 for axis in range(3)))
            draft.multiply(signs.diag().expand_as(draft.identity()), gate)


@dataclass(frozen=True, kw_only=True)
class _JointChoice(Part):
    """Random joints, the same on every body.

    Attributes:
        share: (low, high) of the joints; the count is a random integer from round(low * V) to round(high * V).
    """

    kind: ClassVar[Kind] = Kind.JOINTS
    share: tuple[float, float] = (0.6, 0.6)

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        low, high = self.share
        self.require(0 <= low <= high <= 1, f"share must rise within [0, 1], got {self.share}")

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw it."""
        fewest, most = (round(share * draft.layout.num_joints) for share in self.share)
        rank = draft.uniform(draft.layout.num_joints).argsort(dim=1)
        count: Tensor | int = most if fewest == most else fewest + draft.integers(most - fewest + 1)[:, None]
        joints = rank < count
        matrix = self.matrix(draft)
        nothing = torch.zeros_like(joints) if draft.joints is None else draft.joints
        none_yet = torch.zeros_like(matrix) if draft.joint_matrix is None else draft.joint_matrix
        draft.joints = draft.choose(gate, joints, nothing)
        draft.joint_matrix = draft.choose(gate, matrix, none_yet)

    def matrix(self, draft: Draft) -> Tensor:
        """Return (B, 3, 3): what becomes of the chosen joints."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class JointMask(_JointChoice):
    """Set random joints to zero, in every frame.

    Sources: ``joint_courruption`` of skeleton-contrast, 15 of 25; ``zeroOutJoints`` of AS-CAL, 5 to 15 of 25, which
    leaves them alone in some of the frames.
    """

    def matrix(self, draft: Draft) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(draft.identity())


@dataclass(frozen=True, kw_only=True)
class JointCorruption(_JointChoice):
    """Multiply random joints by one random matrix of U(-``amplitude``, ``amplitude``).

    Source: ``joint_courruption`` of skeleton-contrast, 15 of 25, amplitude 1.
    """

    amplitude: float = 1.0

    def matrix(self, draft: Draft) -> Tensor:
        """Draw the matrices."""
        matrix = (draft.uniform(3, 3) * 2 - 1) * self.amplitude
        return matrix if draft.matrix is None else matrix @ draft.matrix
