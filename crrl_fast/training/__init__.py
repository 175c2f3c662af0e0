"""Training: the stages, the loop, the run's log and its display."""
