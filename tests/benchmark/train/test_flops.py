import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from crrl_fast.benchmark.train.flops import Ragged, gru_macs, step_flops
from crrl_fast.benchmark.train.host import HostBatch
from crrl_fast.benchmark.train.stock import Contrast, Distiller, Encoder, Reconstructor
from crrl_fast.config import Recipe

CLIPS, FRAMES, WIDTH, HIDDEN, LAYERS, QUEUE = 4, 5, 12, 16, 3, 8
DENSE = Ragged(CLIPS, CLIPS * FRAMES)
SIZE = 2 * HIDDEN
RECIPE = Recipe(hidden_size=HIDDEN, layers=LAYERS, batch_size=CLIPS, queue_size=QUEUE)


def counted(run) -> int:
    """Return the operations of the products that torch dispatches."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def zero_state_flops(hidden: int, layers: int, directions: int, products: int) -> int:
    """Return what a dense ``nn.GRU`` spends on the zero state before its first frame, which is not useful."""
    return 2 * products * directions * layers * CLIPS * hidden * 3 * hidden


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_gru_takes_what_torch_counts(layers, directions):
    gru = torch.nn.GRU(WIDTH, HIDDEN, layers, batch_first=True, bidirectional=directions == 2)
    x = torch.randn(CLIPS, FRAMES, WIDTH)
    useful = 2 * gru_macs(DENSE, WIDTH, HIDDEN, layers, directions=directions)
    # The zero state is multiplied forward and for the weight's gradient; its own gradient nobody asks for.
    assert counted(lambda: gru(x)[0].sum().backward()) == useful + zero_state_flops(HIDDEN, layers, directions, 2)

    useful = 2 * gru_macs(DENSE, WIDTH, HIDDEN, layers, directions=directions, trained=False)
    with torch.no_grad():
        assert counted(lambda: gru(x)) == useful + zero_state_flops(HIDDEN, layers, directions, 1)


def test_a_constant_input_is_projected_once_a_clip():
    gru = torch.nn.GRU(SIZE, WIDTH, LAYERS, batch_first=True)
    vector = torch.randn(CLIPS, 1, SIZE, requires_grad=True)
    useful = 2 * gru_macs(DENSE, SIZE, WIDTH, LAYERS, constant_input=True)
    repeated = 2 * 3 * CLIPS * (FRAMES - 1) * SIZE * 3 * WIDTH  # forward, both gradients
    found = counted(lambda: gru(vector.expand(-1, FRAMES, -1))[0].sum().backward())
    assert found == useful + repeated + zero_state_flops(WIDTH, LAYERS, 1, 2)


@pytest.mark.parametrize("stage", ["ser", "cml", "inf"])
def test_a_step_takes_what_torch_counts_of_stock_on_a_dense_batch(stage):
    module = {
        "ser": lambda: Reconstructor(WIDTH, RECIPE),
        "cml": lambda: Contrast(WIDTH, RECIPE),
        "inf": lambda: Distiller(WIDTH, RECIPE, Encoder(WIDTH, RECIPE)),
    }[stage]()
    x = torch.randn(CLIPS, FRAMES, WIDTH)
    batch = HostBatch([FRAMES] * CLIPS, x, x, x, x)

    def train():
        module(batch)["loss"].backward()

    found = counted(train)
    encoder = zero_state_flops(HIDDEN, LAYERS, 2, 2)
    frozen = zero_state_flops(HIDDEN, LAYERS, 2, 1)
    if stage == "cml":
        positives = 2 * 2 * CLIPS * SIZE  # the query with its own key, and back: no matrix product
        wasted = encoder + frozen + positives
    else:
        repeated = 2 * 2 * 3 * CLIPS * (FRAMES - 1) * SIZE * 3 * WIDTH
        wasted = encoder + repeated + 2 * zero_state_flops(WIDTH, LAYERS, 1, 2)
    if stage == "inf":
        teacher = 2 * gru_macs(DENSE, WIDTH, HIDDEN, LAYERS, directions=2, trained=False)
        wasted += teacher + frozen
    assert found == step_flops(stage, DENSE, WIDTH, RECIPE) + wasted


@pytest.mark.parametrize("stage", ["ser", "cml", "inf"])
def test_only_valid_frames_count(stage):
    # Work is linear in the frames of a batch, whoever's they are: clips of 1 and 5 frames take that of two of 3.
    def flops(clips, frames):
        return step_flops(stage, Ragged(clips, frames), WIDTH, RECIPE)

    assert flops(4, 20) - flops(4, 16) == flops(4, 16) - flops(4, 12) > 0
    assert flops(8, 40) == 2 * flops(4, 20)
    # One frame has no state before it: the first layer's input and the heads remain.
    assert 0 < flops(1, 1) < flops(1, 2)
