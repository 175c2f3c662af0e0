"""The pretraining stages, each one module whose forward returns its losses for a batch."""

from crrl_fast.training.stages.cml import ContrastiveMotionLearner
from crrl_fast.training.stages.inf import InformationFuser
from crrl_fast.training.stages.joint import JointLearner
from crrl_fast.training.stages.ser import SequenceReconstructor

__all__ = ["ContrastiveMotionLearner", "InformationFuser", "JointLearner", "SequenceReconstructor"]
