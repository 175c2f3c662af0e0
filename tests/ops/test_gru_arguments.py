import pytest
import torch

from crrl_fast import reference
from crrl_fast.ops import gru
from tests.ops.gru_cases import Case, cast

X, WEIGHTS, LENGTHS = cast(*Case(4, 2, 3, 5).make(), "cpu", torch.float32)
DEEP = [weight.float() for weight in Case(4, 2, 3, 5, layers=2, bidirectional=True).make()[1]]
TWO = {"num_layers": 2, "bidirectional": True}


def but(weights, **changes):
    """Return the weights with some of them changed: ``_3=...``."""
    return [changes.get(f"_{index}", weight) for index, weight in enumerate(weights)]


BAD_INPUTS = {
    "integers": ((X.int(), WEIGHTS), {}, TypeError, "x must be float32, float64, bfloat16 or float16, got int32"),
    "one dimension": ((X[0, 0], WEIGHTS), {}, ValueError, r"x must have shape \[B, T, D\], or \[B, D\] .* got \[5\]"),
    "no frames": ((X[:, 0], WEIGHTS), {}, ValueError, r"or \[B, D\] where frames is given, got \[2, 5\]"),
    "needless frames": ((X, WEIGHTS), {"frames": 3}, ValueError, r"\[B, D\] where frames is given, got \[2, 3, 5\]"),
    "zero frames": ((X[:, :0], WEIGHTS), {}, ValueError, "T and D must be at least 1, got 0 and 5"),
    "constant of zero": ((X[:, 0], WEIGHTS), {"frames": 0}, ValueError, "T and D must be at least 1, got 0 and 5"),
    "zero numbers": ((X[:, :, :0], WEIGHTS), {}, ValueError, "T and D must be at least 1, got 3 and 0"),
    "no layers": ((X, WEIGHTS), {"num_layers": 0}, ValueError, "num_layers must be at least 1, got 0"),
    "all dropped": ((X, WEIGHTS), {"dropout": 1.0}, ValueError, "dropout must be at least 0 and less than 1, got 1.0"),
    "no dropout": ((X, WEIGHTS), {"dropout": float("nan")}, ValueError, "less than 1, got nan"),
    "int32 lengths": ((X, WEIGHTS, LENGTHS.int()), {}, TypeError, "lengths must be int64, got int32"),
    "too few lengths": ((X, WEIGHTS, LENGTHS[:1]), {}, ValueError, r"lengths must have shape \[2\], got \[1\]"),
    "too few weights": (
        (X, WEIGHTS),
        TWO,
        ValueError,
        "weights must be 16 tensors, or 8 without biases, where num_layers is 2 and bidirectional is True, got 4",
    ),
    "first weight": (
        (X, but(WEIGHTS, _0=WEIGHTS[1])),
        {},
        ValueError,
        r"weights\[0\] \(weight_ih_l0\) must have shape \[12, 5\], got \[12, 4\]",
    ),
    "recurrent weight": (
        (X, but(DEEP, _13=DEEP[13].T)),
        TWO,
        ValueError,
        r"weights\[13\] \(weight_hh_l1_reverse\) must have shape \[12, 4\], got \[4, 12\]",
    ),
    "weight of a later layer": (
        (X, but(DEEP, _8=DEEP[0])),
        TWO,
        ValueError,
        r"weights\[8\] \(weight_ih_l1\) must have shape \[12, 8\], got \[12, 5\]",
    ),
    "bias": (
        (X, but(DEEP, _7=DEEP[7][:4])),
        TWO,
        ValueError,
        r"weights\[7\] \(bias_hh_l0_reverse\) must have shape \[12\], got \[4\]",
    ),
    "no units": (
        (X, [torch.zeros(0, 5), torch.zeros(0, 0)]),
        {},
        ValueError,
        r"weights\[0\] \(weight_ih_l0\) must have shape \[3, 5\], got \[0, 5\]",
    ),
    "double weights": (
        (X, [weight.double() for weight in WEIGHTS]),
        {},
        TypeError,
        "weights must be float32 where x is float32, got float64",
    ),
    "half weights": (
        (X.bfloat16(), [weight.half() for weight in WEIGHTS]),
        {},
        TypeError,
        "weights must be bfloat16 or float32 where x is bfloat16, got float16",
    ),
    "one double weight": (
        (X, but(WEIGHTS, _2=WEIGHTS[2].double())),
        {},
        TypeError,
        r"weights\[2\] \(bias_ih_l0\) must be float32 like weights\[0\], got float64",
    ),
    "products": (
        (X, WEIGHTS),
        {"products": torch.float64},
        TypeError,
        "products must be float32 or bfloat16 or float16 where x is float32, got float64",
    ),
    "products of doubles": (
        (X.double(), [weight.double() for weight in WEIGHTS]),
        {"products": torch.bfloat16},
        TypeError,
        "products must be float64 where x is float64, got bfloat16",
    ),
}
ON_THE_CPU = {
    "a length over T": ((X, WEIGHTS, torch.tensor([3, 4])), {}, ValueError, r"lengths\[1\] = 4 is outside \[0, 3\]"),
    "a length under 0": ((X, WEIGHTS, torch.tensor([-1, 0])), {}, ValueError, r"lengths\[0\] = -1 is outside \[0, 3\]"),
    "lengths elsewhere": ((X, WEIGHTS, LENGTHS.to("meta")), {}, ValueError, "lengths must be on cpu, got meta"),
    "weight elsewhere": (
        (X, but(WEIGHTS, _3=WEIGHTS[3].to("meta"))),
        {},
        ValueError,
        r"weights\[3\] \(bias_hh_l0\) must be on cpu, got meta",
    ),
}


@pytest.mark.parametrize("op", [gru, reference.gru], ids=["op", "reference"])
@pytest.mark.parametrize("name", [*BAD_INPUTS, *ON_THE_CPU])
def test_bad_input_is_named(op, name):
    arguments, options, error, message = {**BAD_INPUTS, **ON_THE_CPU}[name]
    with pytest.raises(error, match=f"gru: .*{message}"):
        op(*arguments, **options)


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_named_while_tracing(name):
    (x, weights, *lengths), options, error, message = BAD_INPUTS[name]
    arguments = x.to("meta"), [weight.to("meta") for weight in weights], *(given.to("meta") for given in lengths)
    with pytest.raises(error, match=message):
        gru(*arguments, **options)


def test_shapes_are_known_without_values():
    out = gru(X.to("meta"), [weight.to("meta") for weight in DEEP], **TWO)
    assert [list(result.shape) for result in out] == [[2, 3, 8], [2, 8], [2, 8], [2, 8]]
    constant = gru(X[:, 0].to("meta"), [weight.to("meta") for weight in DEEP], frames=7, return_outputs=False, **TWO)
    assert constant.outputs is None
    assert constant.mean.shape == (2, 8)


def test_backends():
    with pytest.raises(ValueError, match="backend must be auto, cudnn or persistent, got 'mkl'"):
        gru(X, WEIGHTS, backend="mkl")
    with pytest.raises(ValueError, match="backend 'cudnn' is for CUDA, but x is on cpu"):
        gru(X, WEIGHTS, backend="cudnn")
