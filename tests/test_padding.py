import torch

from crrl_fast.padding import reverse_time, valid_frames


def test_valid_frames_come_first():
    assert valid_frames(torch.tensor([2, 0, 3]), 3).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_reverse_time_turns_valid_frames_only():
    x = torch.arange(1, 13.0).view(2, 6, 1)
    reversed_x = reverse_time(x, torch.tensor([4, 1]))
    assert reversed_x[0, :, 0].tolist() == [4, 3, 2, 1, 5, 6]
    assert torch.equal(reversed_x[1], x[1])
    assert torch.equal(reverse_time(reversed_x, torch.tensor([4, 1])), x)
