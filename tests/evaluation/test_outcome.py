import pytest
import torch

from crrl_fast.evaluation.outcome import Outcome, fuse, per_class, probabilities


def outcome():
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0], [0.5, 0.5, 0.0]])
    return Outcome(scores, torch.tensor([0, 1, 1, 1]))


def test_confusion_counts_every_clip_by_truth_and_prediction():
    assert outcome().confusion().tolist() == [[1, 0, 0], [2, 1, 0], [0, 0, 0]]
    assert outcome().accuracy == 50


def test_a_class_without_test_clips_has_no_accuracy():
    assert per_class(outcome().confusion()) == [100, pytest.approx(100 / 3), None]
    assert outcome().record()["per_class"][2] is None


def test_late_fusion_is_the_weighted_sum_of_scores():
    other = Outcome(torch.tensor([[0.0, 0.0, 1.0]]).repeat(4, 1), outcome().labels)
    assert fuse([outcome(), other], [1.0, 0.0]).predicted.tolist() == outcome().predicted.tolist()
    assert fuse([outcome(), other], [1.0, 0.85]).predicted.tolist() == [0, 2, 2, 2]


def test_probabilities_make_scores_of_different_ranges_alike():
    logits = torch.tensor([[3.0, 1.0], [-100.0, 100.0]])
    torch.testing.assert_close(probabilities(logits).sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert probabilities(logits)[1].tolist() == pytest.approx([0, 1])
