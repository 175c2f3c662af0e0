"""Embedding: clip features of any data by the encoder of a run."""

from crrl_fast.embedding.embedder import Embedder
from crrl_fast.embedding.embeddings import Embeddings

__all__ = ["Embedder", "Embeddings"]
