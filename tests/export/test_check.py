import pytest
import torch
from torch import nn

from crrl_fast.errors import CrrlError
from crrl_fast.export.check import TOLERANCE, largest_difference, require_equal
from crrl_fast.models import MotionEncoder
from crrl_fast.padding import valid_frames


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return MotionEncoder(6, 8, 1, 0.0).eval()


def with_swapped_gates(encoder):
    wrong = MotionEncoder(6, 8, 1, 0.0).eval()
    state = {
        name: torch.cat([weight[8:16], weight[:8], weight[16:]]) for name, weight in encoder.gru.state_dict().items()
    }
    wrong.gru.load_state_dict(state)
    return lambda x, lengths: wrong(x, lengths).feature


def over_the_padding(encoder):
    def feature(x, lengths):
        outputs = encoder.gru(x.nan_to_num(), lengths).outputs
        return outputs.mean(dim=1)

    return feature


def without_regard_to_lengths(encoder):
    gru = nn.GRU(6, 8, bidirectional=True, batch_first=True)
    gru.load_state_dict(encoder.gru.state_dict())

    def feature(x, lengths):
        valid = valid_frames(lengths, x.shape[1])[:, :, None]
        return (gru(x.nan_to_num())[0] * valid).sum(dim=1) / lengths[:, None]

    return feature


def test_the_encoder_equals_itself(encoder):
    assert largest_difference(encoder, lambda x, lengths: encoder(x, lengths).feature, 6) == 0


@pytest.mark.parametrize("wrong", [with_swapped_gates, over_the_padding, without_regard_to_lengths])
def test_common_mistakes_are_far_beyond_the_tolerance(encoder, wrong):
    assert largest_difference(encoder, wrong(encoder), 6) > 100 * TOLERANCE


def test_a_difference_is_refused(tmp_path):
    require_equal(TOLERANCE, tmp_path)
    for difference in (2 * TOLERANCE, float("nan")):
        with pytest.raises(CrrlError, match="not written"):
            require_equal(difference, tmp_path)
