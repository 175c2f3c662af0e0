"""Errors a user can mend. The command line prints their message as one line and exits with code 2."""

from __future__ import annotations


class CrrlError(Exception):
    """Base of every error that names what is wrong, where, and the cure."""


class DataError(CrrlError):
    """A file, a clip or a store is not what it should be."""


class ConfigError(CrrlError):
    """A recipe field, an option or a run folder is not usable."""


class TrainingError(CrrlError):
    """Training cannot go on (a loss that is no longer finite, for instance).

    Args:
        message: what is wrong, where, and the cure.
        options: of the command line, with which the run could be gone on with; empty where none help.
    """

    def __init__(self, message: str, options: str = "") -> None:
        super().__init__(message)
        self.options = options


class DeviceMemoryError(TrainingError):
    """The memory of a device, or of the host where it computes, does not suffice."""


class CheckpointError(CrrlError):
    """A checkpoint is truncated, altered, or of another run."""


def shortened(text: str, most: int = 200) -> str:
    """Return a text for a message: of one that a file made too long, the beginning."""
    return text if len(text) <= most else f"{text[:most]}..."


def shown(value: object) -> str:
    """Return a value for a message, as Python writes it, shortened."""
    try:
        return shortened(repr(value))
    except ValueError:  # a number of more digits than Python writes
        return f"a {type(value).__name__} beyond reason"
