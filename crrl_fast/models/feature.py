"""The clip feature of a recipe that takes more than the mean of an encoder's outputs for coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crrl_fast.models.encoder import Encoding, MotionEncoder
from crrl_fast.models.whitening import Whitening
from crrl_fast.ops import motion_diff


class FeatureEncoder(nn.Module):
    """Encodes coordinates, velocity and bones with one encoder, and whitens what it finds of each of them.

    Args:
        encoder: of them all.
        velocity_scale: factor on the velocity before it is encoded; None leaves velocity out.
        parents: of each of the D numbers of a frame that of the joint's parent, or itself where it has none, which are
            subtracted to give the bones; None leaves bones out.
        whitens: whether features pass a ``Whitening``, which leaves them as they are before it is fitted.

    Attributes:
        streams: how many there are of coordinates, velocity and bones; their features stand in this order.
        whitening: that of each; empty where there is none.
    """

    parents: Tensor | None

    def __init__(
        self,
        encoder: MotionEncoder,
        velocity_scale: float | None,
        *,
        parents: Sequence[int] | None = None,
        whitens: bool,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.velocity_scale = velocity_scale
        self.register_buffer("parents", None if parents is None else torch.tensor(parents), persistent=False)
        self.streams = 1 + (velocity_scale is not None) + (parents is not None)
        self.feature_size = self.streams * encoder.feature_size
        self.whitening = nn.ModuleList(Whitening(encoder.feature_size) for _ in range(self.streams * whitens))

    def forward(self, frames: Tensor, lengths: Tensor) -> Encoding:
        """Encode the coordinates ``frames`` (B, T, D), of which ``lengths`` (B) int64 are valid."""
        streams = [frames]
        if self.velocity_scale is not None:
            streams.append(motion_diff(frames, lengths) * self.velocity_scale)
        if self.parents is not None:
            streams.append(frames - frames[:, :, self.parents])
        encoding = self.encoder(torch.cat(streams), lengths.repeat(self.streams))
        feature, first, last = (torch.cat(part.chunk(self.streams), dim=1) for part in encoding)
        return Encoding(self.whitened(feature), first, last)

    def whitened(self, features: Tensor) -> Tensor:
        """Return features (B, C), those of the streams side by side, whitened."""
        if not self.whitening:
            return features
        parts = zip(self.whitening, features.chunk(self.streams, dim=1), strict=True)
        return torch.cat([whitening(part) for whitening, part in parts], dim=1)

    def fit_whitening(self, features: Tensor, power: float, within: Tensor | None = None) -> None:
        """Fit it to ``features`` (N, C) that have not been whitened; see ``Whitening.fit``.

        ``within`` holds the covariance of each stream, (streams, C / streams, C / streams). The mean squared norm of
        all streams together is 1, of which each has the same share: a probe's learning rate then suits them, however
        many there are.
        """
        covariances = [None] * self.streams if within is None else within.unbind()
        parts = zip(self.whitening, features.chunk(self.streams, dim=1), covariances, strict=True)
        for whitening, part, covariance in parts:
            whitening.fit(part, power, within=covariance, squared_norm=1 / self.streams)  # type: ignore[operator]
