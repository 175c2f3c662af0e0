import pytest
import torch
import torch.nn.functional as F

from crrl_fast import reference
from crrl_fast.models import MomentumQueue
from crrl_fast.ops import queue_info_nce
from tests.property_based import HealthCheck, given, settings, st

HALVES = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, *HALVES)

# Matrices as users make them. All but the last two keep the numbers of a key side by side and are read in place.
VIEWS = {
    "contiguous": lambda new, rows, dim: new(rows, dim),
    "row_slice": lambda new, rows, dim: new(2 * rows, dim)[::2],
    "wide": lambda new, rows, dim: new(rows, dim + 3)[:, 1 : dim + 1],
    "misaligned": lambda new, rows, dim: new(rows * dim + 1)[1:].view(rows, dim),
    "transposed": lambda new, rows, dim: new(dim, rows).T,
    "column_slice": lambda new, rows, dim: new(rows, 2 * dim)[:, ::2],
}


def laid_out(view, values):
    """Return the values in memory as the view says."""
    matrix = VIEWS[view](lambda *size: torch.full(size, torch.nan, dtype=values.dtype), *values.shape)
    return matrix.copy_(values)


def make(batch, dim, keys, seed=0):
    """Return float64 query, key and queue: planted positives near and far, a copy of a query among the negatives."""
    generator = torch.Generator().manual_seed(seed)
    query, noise, queue = (
        F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)
        for rows in (batch, batch, keys)
    )
    nearness = torch.linspace(-1, 1, batch, dtype=torch.float64)[:, None]
    key = F.normalize(nearness * query + 0.3141 * noise, dim=1)  # never zero, not even where D is 1
    if keys > 2:
        queue[keys // 2] = query[0]
        queue[-1] = -query[-1]
        queue[0] *= 5  # an outlier: nobody says that the queue is normalised
    return query, key, queue


def run(op, query, key, queue, *, weights=None, key_grad=True, **options):
    """Return the rows' losses, the accuracy, and the gradients of the weighted sum of losses."""
    query, key = query.detach().requires_grad_(), key.detach().requires_grad_(key_grad)
    loss, accuracy = op(query, key, queue, reduction="none", return_accuracy=True, **options)
    weights = torch.linspace(0.5, 2, len(loss)) if weights is None else weights
    leaves = (query, key) if key_grad else (query,)
    grads = torch.autograd.grad(loss, leaves, weights.to(loss))
    return [loss.detach().cpu(), accuracy.cpu(), *(grad.cpu() for grad in grads)]


def errors(results, truth):
    """Return how far the loss and the gradients are off."""
    pairs = [(got, want) for i, (got, want) in enumerate(zip(results, truth, strict=True)) if i != 1]
    return [float((got.double() - want).abs().max()) for got, want in pairs]


def naive(query, key, queue, temperature=0.07, *, normalize=False, reduction="mean", return_accuracy=True):
    """Say it as people write it, all in the dtype of the queue."""
    query, key = query.to(queue.dtype), key.to(queue.dtype)
    if normalize:
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], dim=1) / temperature
    loss = F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device), reduction=reduction)
    return loss, torch.zeros(2)


@pytest.mark.parametrize("dim", [1, 2, 15, 16, 17, 64, 128, 255, 256, 257, 1024])
@pytest.mark.parametrize("keys", [0, 1, 15, 16, 17, 63, 64, 255, 256, 257, 1500])
def test_equals_the_truth_in_float64(device, dim, keys):
    for batch in (1, 2, 16, 17, 63, 64, 65, 128, 129, 200):
        arguments = [x.float() for x in make(batch, dim, keys, seed=batch)]
        truth = run(reference.queue_info_nce, *(x.double() for x in arguments))
        got = run(queue_info_nce, *(x.to(device) for x in arguments))
        for error, exact in zip(errors(got, truth), (truth[0], *truth[2:]), strict=True):
            assert error <= 5e-6 * max(1.0, float(exact.abs().max()))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize("keys", [0, 3, 5, 40, 700])
def test_accuracy_is_the_share_of_best_positives(device, dtype, keys):
    if device.type == "cuda" and dtype == torch.float64:
        pytest.skip("float64 runs the reference on a GPU")
    query, key, queue = (x.to(dtype) for x in make(200, 32, keys))
    positive = (query.double() * key.double()).sum(dim=1, keepdim=True)
    negative = query.double() @ queue.double().T
    # Only rows whose rank does not hang on rounding.
    clear = ((negative - positive).abs() > 0.02 * positive.abs()).all(dim=1)
    assert clear.sum() > 20
    query, key = query[clear], key[clear]
    rank = (negative > positive).sum(dim=1)[clear]
    expected = [float((rank < best).double().mean()) for best in (1, 5)]
    _, accuracy = queue_info_nce(*(x.to(device) for x in (query, key, queue)), return_accuracy=True)
    torch.testing.assert_close(accuracy.cpu(), torch.tensor(expected, dtype=torch.float32))


def test_double_precision_is_the_kernels_own():
    for batch, dim, keys in [(1, 1, 1), (65, 33, 300), (130, 256, 1100)]:
        arguments = make(batch, dim, keys)
        for normalize in (False, True):
            truth = run(reference.queue_info_nce, *arguments, normalize=normalize)
            for ours, exact in zip(run(queue_info_nce, *arguments, normalize=normalize), truth, strict=True):
                torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("queue_dtype", DTYPES)
@pytest.mark.parametrize("query_dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 64, 40), (33, 128, 700), (130, 66, 1025), (40, 512, 64), (9, 7, 300)])
def test_error_is_within_the_naive_one(device, shape, query_dtype, queue_dtype, normalize):
    query, key, queue = make(*shape)
    query, key, queue = (2 * query).to(query_dtype), key.to(query_dtype), queue.to(queue_dtype)
    truth = run(reference.queue_info_nce, query.double(), key.double(), queue.double(), normalize=normalize)
    arguments = [x.to(device) for x in (query, key, queue)]
    ours = errors(run(queue_info_nce, *arguments, normalize=normalize), truth)
    theirs = errors(run(naive, *arguments, normalize=normalize), truth)
    # Both round query and weights to the queue's dtype, though not alike, hence the half on top; naive rounds its
    # logits too. In the end the gradient is rounded to the query's dtype.
    rounding = max(torch.finfo(query_dtype).eps, 1e-6)
    for mine, budget, exact in zip(ours, theirs, (truth[0], *truth[2:]), strict=True):
        assert mine <= 1.5 * budget + rounding * max(1.0, float(exact.abs().max()))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_layout_equals_the_reference(device, data):
    batch, dim, keys = data.draw(st.integers(1, 140)), data.draw(st.integers(1, 70)), data.draw(st.integers(0, 600))
    query, key, queue = (
        laid_out(data.draw(st.sampled_from(sorted(VIEWS))), x.float()).to(device) for x in make(batch, dim, keys)
    )
    options = {
        "temperature": data.draw(st.sampled_from([0.05, 0.2, 1.0])),
        "normalize": data.draw(st.booleans()),
        "key_grad": data.draw(st.booleans()),
        "filled": data.draw(st.sampled_from([None, -3, 0, 1, keys // 2, keys, keys + 9])),
    }
    if options["filled"] is not None:
        options["filled"] = torch.tensor(options["filled"], device=device)
    truth = run(reference.queue_info_nce, query.double(), key.double(), queue.double(), **options)
    for error in errors(run(queue_info_nce, query, key, queue, **options), truth):
        # The outlier's logits are 5 / temperature, and gradients are differences of vectors of that size.
        assert error <= 5e-6 * 5 / options["temperature"]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(("batch", "keys"), [(1, 0), (1, 5), (3, 20)])
def test_gradients(device, normalize, reduction, batch, keys):
    query, key, queue = (x.to(device) for x in make(batch, 4, keys))
    options = {"normalize": normalize, "reduction": reduction}
    leaves = (2 * query.detach()).requires_grad_(), (0.5 * key.detach()).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: queue_info_nce(q, k, queue, 0.3, **options), leaves)
    assert torch.autograd.gradcheck(lambda q: queue_info_nce(q, key, queue, 0.3, **options), leaves[:1])
    assert torch.autograd.gradcheck(lambda k: queue_info_nce(query, k, queue, 0.3, **options), leaves[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_and_dtypes(device, dtype):
    query, key, queue = (x.to(device, dtype) for x in make(9, 32, 70))
    rows = queue_info_nce(query, key, queue, reduction="none")
    assert rows.dtype == torch.float32
    for reduction, expected in (("mean", rows.mean()), ("sum", rows.sum())):
        query.requires_grad_()
        loss = queue_info_nce(query, key, queue, reduction=reduction)
        torch.testing.assert_close(loss, expected)
        (grad,) = torch.autograd.grad(loss, query)
        assert grad.dtype == dtype
        scale = 1 / 9 if reduction == "mean" else 1.0
        *_, expected_grad = run(queue_info_nce, query, key, queue, weights=torch.full((9,), scale), key_grad=False)
        torch.testing.assert_close(grad.cpu(), expected_grad)


def test_a_vector_of_zeros_can_be_normalised(device):
    query, key, queue = (x.float().to(device) for x in make(4, 8, 20))
    query[1], key[2] = 0, 0
    expected = run(reference.queue_info_nce, query, key, queue, normalize=True)
    for ours, theirs in zip(run(queue_info_nce, query, key, queue, normalize=True), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_small_loss_keeps_its_digits(device):
    query = torch.eye(4, 8, device=device)
    queue = -torch.eye(4, 8, device=device)
    truth = reference.queue_info_nce(query.double(), query.double(), queue.double(), 0.07, reduction="none")
    got = queue_info_nce(query, query, queue, 0.07, reduction="none")
    assert 0 < float(truth.max()) < 1e-5
    torch.testing.assert_close(got.double(), truth, rtol=1e-5, atol=0)


def test_logits_of_any_size(device):
    query, key, queue = (x.float() for x in make(20, 16, 300))
    for scale in (1e-3, 30.0, 1e4):
        truth = run(reference.queue_info_nce, query.double(), key.double(), (queue * scale).double())
        got = run(queue_info_nce, *(x.to(device) for x in (query, key, queue * scale)))
        for ours, exact in zip(got, truth, strict=True):
            torch.testing.assert_close(ours.double(), exact.double(), rtol=2e-5, atol=2e-5 * max(scale, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_collapsed_encoder_scores_nothing(device, dtype):
    same = F.normalize(torch.randn(1, 128, generator=torch.Generator().manual_seed(1)), dim=1).to(device)
    queue = MomentumQueue(300, 128, dtype).to(device)
    queue.enqueue(same.expand(300, -1))
    batch = same.expand(64, -1)
    for op in (queue_info_nce, reference.queue_info_nce):
        _, accuracy = op(batch, batch, queue.keys, return_accuracy=True)
        assert accuracy.tolist() == [0, 0]


def test_the_queue_may_change_before_the_backward(device):
    query, key, queue = (x.float().to(device) for x in make(8, 16, 50))
    saved = []
    expected = run(queue_info_nce, query, key, queue)
    query.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.shape) or x, lambda x: x):
        loss = queue_info_nce(query, key, queue, reduction="none")
    queue.zero_()
    (grad,) = torch.autograd.grad(loss, query, torch.linspace(0.5, 2, 8).to(loss))
    torch.testing.assert_close(grad.cpu(), expected[2])
    assert saved
    assert all(50 not in shape for shape in saved)


def test_nan_stays_where_it_is(device):
    query, key, queue = (x.float().to(device) for x in make(40, 16, 300))
    clean = run(queue_info_nce, query, key, queue, filled=torch.tensor(200, device=device))
    queue[200:] = torch.nan
    dirty = run(queue_info_nce, query, key, queue, filled=torch.tensor(200, device=device))
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
    query[3, 5] = torch.nan
    loss, _, grad, _ = run(queue_info_nce, query, key, queue[:200])
    assert loss.isnan().nonzero().flatten().tolist() == [3]
    assert grad.isnan().any(dim=1).nonzero().flatten().tolist() == [3]
    queue[7, 7] = torch.nan
    assert run(queue_info_nce, query, key, queue[:200])[0].isnan().all()


def test_gradient_only_where_it_is_asked_for(device):
    query, key, queue = (x.float().to(device) for x in make(4, 8, 20))
    assert not queue_info_nce(query, key, queue).requires_grad
    _, _, for_query, for_key = torch.ops.crrl_fast.queue_info_nce(query, key, queue, None, 0.07, False, 1, True, False)
    assert for_query.shape == query.shape
    assert for_key.numel() == 0
    key.requires_grad_()
    loss, accuracy = queue_info_nce(query, key, queue, return_accuracy=True)
    assert loss.requires_grad
    assert not accuracy.requires_grad
    with torch.no_grad():
        assert not queue_info_nce(query, key, queue).requires_grad


def test_a_second_derivative_is_refused(device):
    query, key, queue = (x.float().to(device) for x in make(4, 8, 20))
    query.requires_grad_()
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(queue_info_nce(query, key, queue), query, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_same_bits_with_any_number_of_threads(dtype):
    query, key, queue = (x.to(dtype) for x in make(200, 64, 9000))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            results.append(run(queue_info_nce, query, key, queue))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_same_bits_every_time(device):
    query, key, queue = (x.float().to(device) for x in make(33, 128, 5000))
    first = run(queue_info_nce, query, key, queue)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, run(queue_info_nce, query, key, queue), strict=True))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("grads", [(True, True), (True, False), (False, False)])
def test_opcheck(device, view, grads):
    query, key, queue = (laid_out(view, x.float()).to(device) for x in make(5, 6, 9))
    query.requires_grad_(grads[0])
    key.requires_grad_(grads[1])
    for reduction in range(3):
        for filled in (None, torch.tensor(4, device=device)):
            arguments = (query, key, queue, filled, 0.1, True, reduction, *grads)
            torch.library.opcheck(torch.ops.crrl_fast.queue_info_nce, arguments)


@pytest.mark.parametrize(("backend", "dynamic"), [("inductor", False), ("aot_eager", False), ("aot_eager", True)])
def test_compiles_as_one_graph(device, backend, dynamic):
    def step(query, key, queue):
        loss, accuracy = queue_info_nce(query * 2, key, queue, normalize=True, return_accuracy=True)
        return loss * 3, accuracy

    compiled = torch.compile(step, fullgraph=True, backend=backend, dynamic=dynamic)
    for batch, keys in [(6, 40), (7, 50)]:
        query, key, queue = (x.float().to(device) for x in make(batch, 8, keys))
        eager, traced = query.clone().requires_grad_(), query.clone().requires_grad_()
        expected, got = step(eager, key, queue), compiled(traced, key, queue)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(torch.autograd.grad(got[0], traced), torch.autograd.grad(expected[0], eager))


X = torch.ones(2, 3)
BAD_INPUTS = {
    "no rows": ((X[:0], X[:0], X), {}, ValueError, r"query must have shape \(B, D\) with B at least 1, got .*\[0, 3\]"),
    "one dimension": ((X[0], X[0], X), {}, ValueError, r"query must have shape \(B, D\)"),
    "no numbers": ((X[:, :0], X[:, :0], X[:, :0]), {}, ValueError, "D must be from 1 to 1024, got 0"),
    "too many numbers": ((torch.ones(1, 1025),) * 3, {}, ValueError, "D must be from 1 to 1024, got 1025"),
    "other key": ((X, X[:1], X), {}, ValueError, r"key must have the shape of query, \[2, 3\], got \[1, 3\]"),
    "other queue": ((X, X, X[:, :2]), {}, ValueError, r"queue must have shape \(K, 3\), got \[2, 2\]"),
    "integers": ((X.int(), X, X), {}, TypeError, "query must be float32, .* got int32"),
    "integer queue": ((X, X, X.long()), {}, TypeError, "queue must be float32, .* got int64"),
    "some double": ((X.double(), X, X), {}, TypeError, "must all be float64 or none, got float64, float32 and float32"),
    "elsewhere": ((X, X, X.to("meta")), {}, ValueError, "must be on query's device, cpu, got cpu and meta"),
    "cold": ((X, X, X, 0.0), {}, ValueError, "temperature must be greater than 0, got 0"),
    "no temperature": ((X, X, X, float("nan")), {}, ValueError, "temperature must be greater than 0, got nan"),
    "reduction": ((X, X, X), {"reduction": "max"}, ValueError, "reduction must be mean, sum or none, got 'max'"),
    "queue grad": ((X, X, X.clone().requires_grad_()), {}, ValueError, r"the queue requires grad.* queue.detach\(\)"),
    "filled int32": ((X, X, X), {"filled": torch.tensor(1).int()}, TypeError, "filled must be int64, got int32"),
    "filled list": ((X, X, X), {"filled": torch.ones(2).long()}, ValueError, r"filled must be a single number.*\[2\]"),
}


@pytest.mark.parametrize("op", [queue_info_nce, reference.queue_info_nce], ids=["op", "reference"])
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_named(op, name):
    arguments, options, error, message = BAD_INPUTS[name]
    with pytest.raises(error, match=message):
        op(*arguments, **options)


@pytest.mark.parametrize("name", [name for name in BAD_INPUTS if name not in ("reduction", "queue grad", "elsewhere")])
def test_bad_input_is_named_while_tracing(name):
    arguments, options, error, message = BAD_INPUTS[name]
    query, key, queue, *temperature = arguments
    options = {option: value.to("meta") for option, value in options.items()}
    with pytest.raises(error, match=message.replace("cpu", "meta")):
        queue_info_nce(query.to("meta"), key.to("meta"), queue.to("meta"), *temperature, **options)


def test_a_cuda_graph_holds_loss_gradient_and_enqueue(cuda):
    query, key, _ = (x.float().to(cuda) for x in make(32, 128, 0))
    queue = MomentumQueue(100, 128, start="empty").to(cuda)
    other = MomentumQueue(100, 128, start="empty").to(cuda)

    def step(queue):
        leaf = query.detach().requires_grad_()
        loss = queue_info_nce(leaf, key, queue.keys, filled=queue.filled)
        (grad,) = torch.autograd.grad(loss, leaf)
        queue.enqueue(key)
        return loss.detach(), grad

    stream = torch.cuda.Stream(cuda)
    stream.wait_stream(torch.cuda.current_stream(cuda))
    with torch.cuda.stream(stream):
        step(queue)
    torch.cuda.current_stream(cuda).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(queue)
    step(other)
    for _ in range(5):
        query.copy_(F.normalize(torch.randn_like(query), dim=1))
        key.copy_(F.normalize(query + 0.1 * torch.randn_like(query), dim=1))
        graph.replay()
        for got, expected in zip(captured, step(other), strict=True):
            assert torch.equal(got, expected)
        assert torch.equal(queue.keys, other.keys)
        assert int(queue.filled) == int(other.filled)


def test_double_precision_on_a_gpu_runs_the_reference(cuda):
    query, key, queue = (x.to(cuda) for x in make(5, 8, 20))
    torch.testing.assert_close(queue_info_nce(query, key, queue), reference.queue_info_nce(query, key, queue))


def test_runs_on_the_current_stream(cuda):
    query, key, queue = (x.float().to(cuda) for x in make(64, 128, 4096))
    expected = queue_info_nce(query, key, queue)
    held = queue.clone()
    queue.zero_()
    stream = torch.cuda.Stream(cuda)
    stream.wait_stream(torch.cuda.current_stream(cuda))
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        queue.copy_(held)  # seen only by work that waits in line behind it
        got = queue_info_nce(query, key, queue)
    stream.synchronize()
    assert torch.equal(got, expected)
