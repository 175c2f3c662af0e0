"""Evaluation of pretrained encoders: ``evaluate`` runs a protocol on an encoder of a run, or on several fused late."""

from crrl_fast.evaluation.context import LabelledSplit, RunEvaluation
from crrl_fast.evaluation.features import FeatureSet, extract_features
from crrl_fast.evaluation.knn import NearestNeighbours
from crrl_fast.evaluation.linear import LinearProbe
from crrl_fast.evaluation.outcome import Outcome
from crrl_fast.evaluation.protocol import Finding, Protocol, evaluate
from crrl_fast.evaluation.retrieval import Retrieval
from crrl_fast.evaluation.suite import suite

__all__ = [
    "FeatureSet",
    "Finding",
    "LabelledSplit",
    "LinearProbe",
    "NearestNeighbours",
    "Outcome",
    "Protocol",
    "Retrieval",
    "RunEvaluation",
    "evaluate",
    "extract_features",
    "suite",
]
