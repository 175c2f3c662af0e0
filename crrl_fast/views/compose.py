"""Parts made of parts: one after the other, or one of several."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from crrl_fast.views.draft import Draft
from crrl_fast.views.part import Kind, Part


@dataclass(frozen=True)
class Compose(Part):
    """Parts applied in order; a preset is one of these.

    ``skeleton_views`` makes a view in one pass: crop, origin, flip, matrices, noise, blur. An order of parts that comes
    to the same is accepted, whatever it looks like; one that does not is refused here, in one line.

    Attributes:
        parts: what is applied, in order.
        p: probability that a view gets all of this.

    Raises:
        ConfigError: an order that a single pass cannot apply, such as a shear after noise.
    """

    parts: tuple[Part, ...] = ()
    p: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        object.__setattr__(self, "parts", tuple(self.parts))
        self.check_after(frozenset())

    def kinds(self) -> frozenset[Kind]:
        """Return what a view that has this part may contain."""
        return frozenset[Kind]().union(*(part.kinds() for part in self.parts))

    def check_after(self, before: frozenset[Kind]) -> None:
        """Raise ConfigError where these parts cannot follow those kinds, or each other."""
        for part in self.parts:
            part.check_after(before)
            before |= part.kinds()

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw the parts."""
        for part in self.parts:
            part.draw(draft, gate)


@dataclass(frozen=True)
class OneOf(Part):
    """One of several parts, each as likely as the others.

    Attributes:
        parts: what is chosen from.
        p: probability that a view gets any.

    Raises:
        ConfigError: there are no parts.
    """

    parts: tuple[Part, ...]
    p: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        object.__setattr__(self, "parts", tuple(self.parts))
        self.require(len(self.parts) > 0, "there is nothing to choose from")

    def kinds(self) -> frozenset[Kind]:
        """Return what a view that has this part may contain."""
        return frozenset[Kind]().union(*(part.kinds() for part in self.parts))

    def check_after(self, before: frozenset[Kind]) -> None:
        """Raise ConfigError where one of the parts cannot follow those kinds."""
        for part in self.parts:
            part.check_after(before)

    def apply(self, draft: Draft, gate: Tensor | None) -> None:
        """Draw the choice and the parts."""
        choice = draft.integers(len(self.parts))
        for number, part in enumerate(self.parts):
            chosen = choice == number
            part.draw(draft, chosen if gate is None else torch.logical_and(gate, chosen))
