"""A GRU layer stack for clips of different lengths."""

from __future__ import annotations

from torch import Tensor, nn

from crrl_fast.ops.gru import gru
from crrl_fast.reference.gru import GruOutput


class RaggedGRU(nn.RNNBase):
    """``nn.GRU`` for batches of clips of different lengths, without packing or sorting.

    Equations, parameters, their names and initialisation, and ``state_dict`` are those of ``nn.GRU``, so weights move
    both ways. The batch comes first, and states start from zero. See ``crrl_fast.ops.gru``.

    Args:
        input_size: numbers D a frame.
        hidden_size: units H per direction.
        num_layers: GRU layers.
        bias: False leaves the biases out.
        bidirectional: every layer also runs in reverse.
        dropout: between layers, in training mode.
        constant_input: the input is one vector a clip, fed at every frame, as decoders do.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        constant_input: bool = False,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
        )
        self.constant_input = constant_input

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, *, frames: int | None = None, return_outputs: bool = True
    ) -> GruOutput:
        """Run over each clip's valid frames.

        Args:
            x: (B, T, D); with ``constant_input`` (B, D).
            lengths: (B) int64 valid frames of each clip; None: all T.
            frames: T, with ``constant_input`` only.
            return_outputs: False leaves the outputs (B, T, C) out, where mean, first and last are enough.

        Raises:
            TypeError: ``frames`` is missing with ``constant_input``, or given without; a dtype that is not taken.
            ValueError: shapes or devices that do not go together.
        """
        if self.constant_input != (frames is not None):
            wanted = "needs frames=T" if self.constant_input else "takes no frames"
            raise TypeError(f"RaggedGRU: constant_input={self.constant_input} {wanted}, got frames={frames}")
        return gru(
            x,
            # By name and not from RNNBase's list, which does not follow torch.func.functional_call.
            [getattr(self, name) for name in self._flat_weights_names],
            lengths,
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            dropout=self.dropout if self.training else 0.0,
            frames=frames,
            return_outputs=return_outputs,
        )

    def extra_repr(self) -> str:
        """Return the arguments, as nn.GRU prints them."""
        return super().extra_repr() + (", constant_input=True" if self.constant_input else "")
