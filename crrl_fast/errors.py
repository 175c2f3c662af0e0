"""Errors a user can mend. The command line prints their message as one line and exits with code 2."""

from __future__ import annotations


class CrrlError(Exception):
    """Base of every error that names what is wrong, where, and the cure."""


class DataError(CrrlError):
    """A file, a clip or a store is not what it should be."""


class ConfigError(CrrlError):
    """A recipe field, an option or a run folder is not usable."""


class TrainingError(CrrlError):
    """Training cannot go on (a loss that is no longer finite, for instance)."""


class CheckpointError(CrrlError):
    """A checkpoint is truncated, altered, or of another run."""
