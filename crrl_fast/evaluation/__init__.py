"""Evaluation of pretrained encoders: ``evaluate`` runs a protocol on an encoder of a run, or on several fused late."""

from crrl_fast.evaluation.context import LabelledSplit, RunEvaluation
from crrl_fast.evaluation.features import FeatureSet, extract_features
from crrl_fast.evaluation.finetune import FineTune
from crrl_fast.evaluation.knn import NearestNeighbours
from crrl_fast.evaluation.linear import LinearProbe
from crrl_fast.evaluation.outcome import Outcome
from crrl_fast.evaluation.protocol import Finding, Protocol, evaluate
from crrl_fast.evaluation.retrieval import Retrieval
from crrl_fast.evaluation.semi import SemiSupervised
from crrl_fast.evaluation.suite import all_protocols
from crrl_fast.evaluation.transfer import Transfer, TransferEvaluation
from crrl_fast.evaluation.tuning import Tuning, fine_tune

__all__ = [
    "FeatureSet",
    "Finding",
    "FineTune",
    "LabelledSplit",
    "LinearProbe",
    "NearestNeighbours",
    "Outcome",
    "Protocol",
    "Retrieval",
    "RunEvaluation",
    "SemiSupervised",
    "Transfer",
    "TransferEvaluation",
    "Tuning",
    "all_protocols",
    "evaluate",
    "extract_features",
    "fine_tune",
]
