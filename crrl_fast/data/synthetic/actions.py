"""The actions, as tables of timed poses."""

from __future__ import annotations

from dataclasses import dataclass

from crrl_fast.data.synthetic.body import STAND, Arm, Leg, Pose

Key = tuple[float, Pose]


@dataclass(frozen=True)
class Action:
    """One action: poses, and the seconds that the movement to each takes at tempo 1.

    Attributes:
        name: class name.
        enter: the poses up to the repeated part.
        loop: the repeated part.
        cycles: smallest and largest number of repetitions.
        leave: the poses after it.
        start: the pose before the action.
    """

    name: str
    enter: tuple[Key, ...]
    loop: tuple[Key, ...] = ()
    cycles: tuple[int, int] = (1, 1)
    leave: tuple[Key, ...] = ((0.5, STAND),)
    start: Pose = STAND

    def keys(self, cycles: int) -> list[Key]:
        """Return the whole table with ``cycles`` repetitions of the loop; the first pose is at 0 seconds."""
        return [(0.0, self.start), *self.enter, *(self.loop * cycles), *self.leave]


def _both(arm: Arm = STAND.hand, leg: Leg = STAND.leg, **trunk: float) -> Pose:
    """Return a pose whose sides do the same."""
    return Pose(hand=arm, off_hand=arm, leg=leg, off_leg=leg, **trunk)


_WAVE_OUT = Pose(hand=Arm(100, 60, 75, 30))
_WAVE_IN = Pose(hand=Arm(100, 60, 75, 115))
_AT_MOUTH = Pose(hand=Arm(48, 20, -42, 130), nod=-4)
_COCKED = Pose(hand=Arm(85, 75, 70, 105), turn=-22, bend=-4)
_THROWN = Pose(hand=Arm(75, -8, 0, 15), turn=24, bend=16)
_GUARD = Pose(hand=Arm(40, 30, -10, 125), turn=-14)
_PUNCH = Pose(hand=Arm(85, -4, -20, 8), turn=22, bend=10)
_APART = _both(Arm(48, 45, -15, 75))
_TOGETHER = _both(Arm(50, -2, -40, 68))
_AT_CHEST = _both(Arm(28, 45, -30, 128))
_PUSHED = _both(Arm(80, 6, -10, 8))
_SQUAT = _both(leg=Leg(72, 20, 95), bend=35)
_REACHED = _both(Arm(62, 0, 0, 6), Leg(62, 20, 80), bend=62, nod=-5)
_SHELF = _both(Arm(150, 10, 0, 15), bend=-6, nod=-12)
_SEATED = _both(Arm(22, 10, -10, 60), Leg(84, 8, 84))
_RISING = _both(Arm(30, 0, 0, 40), Leg(62, 10, 72), bend=42)
_KICK_BACK = Pose(leg=Leg(-22, 0, 55), bend=6)
_KICKED = Pose(leg=Leg(85, 0, 6), bend=-10)
_STEP = Pose(leg=Leg(48, 0, 70))
_OFF_STEP = Pose(off_leg=Leg(48, 0, 70))
_CROUCH = _both(leg=Leg(48, 15, 78), bend=32)
_AIRBORNE = _both(leg=Leg(6, 15, 12), rise=28)

# Many share their poses and differ in order or rhythm: throw and catch, push and pull, stow and fetch, sit and stand.
ACTIONS: tuple[Action, ...] = (
    Action("wave", ((0.5, _WAVE_IN),), ((0.2, _WAVE_OUT), (0.2, _WAVE_IN)), (2, 4)),
    Action("drink", ((0.6, _AT_MOUTH), (0.8, _AT_MOUTH))),
    Action("throw", ((0.5, _COCKED), (0.2, _THROWN))),
    Action("catch", ((0.5, _THROWN), (0.25, _COCKED))),
    Action("punch", ((0.4, _GUARD),), ((0.16, _PUNCH), (0.22, _GUARD)), (1, 3)),
    Action("clap", ((0.4, _APART),), ((0.16, _TOGETHER), (0.18, _APART)), (3, 5)),
    Action("push", ((0.6, _AT_CHEST), (0.25, _PUSHED)), leave=((0.6, STAND),)),
    Action("pull", ((0.6, _PUSHED), (0.25, _AT_CHEST)), leave=((0.6, STAND),)),
    Action("stow on shelf", ((0.6, _REACHED), (0.7, _SHELF))),
    Action("fetch from shelf", ((0.6, _SHELF), (0.7, _REACHED)), leave=((0.6, STAND),)),
    Action("sit down", ((0.5, _RISING), (0.45, _SEATED)), leave=((0.2, _SEATED),)),
    Action("stand up", ((0.2, _SEATED), (0.45, _RISING), (0.5, STAND)), leave=(), start=_SEATED),
    Action("squat", ((0.6, _SQUAT), (0.3, _SQUAT)), leave=((0.6, STAND),)),
    Action("jump", ((0.35, _CROUCH),), ((0.2, _AIRBORNE), (0.22, _CROUCH)), (1, 2), ((0.35, STAND),)),
    Action("kick", ((0.35, _KICK_BACK), (0.22, _KICKED))),
    Action("march", (), ((0.3, _STEP), (0.25, STAND), (0.3, _OFF_STEP), (0.25, STAND)), (2, 2), ()),
)
