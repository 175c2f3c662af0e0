"""Features whose classes are neither trivial nor hopeless to tell apart."""

import torch

from crrl_fast.evaluation import FeatureSet


def clusters(count, classes, spread, seed=0):
    """Return a feature set whose classes are Gaussian clusters around orthogonal directions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    points = 3 * torch.eye(classes, 16)[labels] + spread * torch.randn(count, 16, generator=generator)
    half = count // 2
    return FeatureSet(points[:half], labels[:half], points[half:], labels[half:], classes)
