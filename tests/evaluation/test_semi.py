import json

import pytest
import torch

from crrl_fast.errors import ConfigError
from crrl_fast.evaluation import LinearProbe, RunEvaluation, SemiSupervised, Tuning, evaluate
from crrl_fast.evaluation.semi import stratified_part
from tests.evaluation.runs import make_run

QUICK = Tuning(epochs=1, batch_size=4, encoder_lr=0.1)
LABELS = torch.tensor([0] * 100 + [1] * 50 + [2] * 10 + [3])[
    torch.randperm(161, generator=torch.Generator().manual_seed(5))
]


@pytest.fixture
def evaluation(tiny_path, tmp_path):
    """16 training clips, 6 of class 0 and 5 of the others, and 8 test clips."""
    return RunEvaluation.open(make_run(tmp_path / "run", tiny_path))


@pytest.mark.parametrize(
    ("percent", "counts"),
    [
        (1, [1, 1, 1, 1]),  # 1, 0.5 rounded up, at least one of 0.1 and 0.01
        (5, [5, 3, 1, 1]),  # 2.5 and 0.5 are rounded up
        (10, [10, 5, 1, 1]),
        (20, [20, 10, 2, 1]),
        (100, [100, 50, 10, 1]),
    ],
)
def test_every_class_gives_its_share_and_at_least_one_clip(percent, counts):
    for draw in range(3):
        part = stratified_part(LABELS, percent, seed=0, draw=draw)
        assert LABELS[part].bincount().tolist() == counts
        assert part.tolist() == sorted(set(part.tolist()))


def test_draws_differ_are_nested_and_come_back_with_their_seed():
    parts = {(p, d): set(stratified_part(LABELS, p, 0, d).tolist()) for p in (1, 5, 20) for d in range(3)}
    for draw in range(3):
        assert parts[1, draw] < parts[5, draw] < parts[20, draw]
    assert len({frozenset(parts[5, draw]) for draw in range(3)}) == 3
    assert set(stratified_part(LABELS, 5, 0, 1).tolist()) == parts[5, 1]
    assert set(stratified_part(LABELS, 5, 1, 1).tolist()) != parts[5, 1]


def test_every_clip_of_a_class_is_as_likely_as_the_others():
    labels = torch.tensor([0, 0, 0, 0, 1])
    drawn = torch.cat([stratified_part(labels, 25, 0, draw) for draw in range(400)]).bincount().tolist()
    assert drawn[4] == 400
    assert all(70 < count < 130 for count in drawn[:4])  # 100 expected, standard deviation 8.7


def test_the_record_says_what_every_draw_gave(evaluation, tmp_path):
    protocol = SemiSupervised(QUICK, percent=(20, 50), draws=3, min_steps=4)
    returned = evaluate(evaluation, protocol)
    record = json.loads((tmp_path / "run/eval/semi-cml.json").read_text())
    assert record["fractions"] == returned["fractions"]
    assert [part["percent"] for part in record["fractions"]] == [20, 50]
    assert [part["clips"] for part in record["fractions"]] == [3, 9]  # 1 + 1 + 1 and 3 + 3 + 3
    for part in record["fractions"]:
        accuracies = torch.tensor(part["accuracies"], dtype=torch.float64)
        assert (part["draws"], len(accuracies)) == (3, 3)
        assert part["mean"] == pytest.approx(float(accuracies.mean()))
        assert part["std"] == pytest.approx(float(accuracies.std(correction=1)))
        assert (part["min"], part["max"]) == (min(part["accuracies"]), max(part["accuracies"]))
        confusion = torch.tensor(part["confusion"])
        assert confusion.sum(dim=1).tolist() == [3 * 2, 3 * 3, 3 * 3]  # of all draws together
        assert part["mean"] == pytest.approx(100 * int(confusion.trace()) / 24)
    largest = record["fractions"][1]
    assert record["accuracy"] == pytest.approx(largest["mean"])
    assert (record["per_class"], record["confusion"]) == (largest["per_class"], largest["confusion"])
    assert (record["train_clips"], record["test_clips"], record["seed"], record["frozen"]) == (16, 8, 0, False)
    assert "at least one a class, 3 random draws of each size" in record["protocol"]
    assert "last epoch, not the best" in record["protocol"]


def test_the_largest_part_is_the_result_wherever_it_stands(evaluation):
    there = evaluate(evaluation, SemiSupervised(QUICK, (50, 20), draws=2))
    back = evaluate(evaluation, SemiSupervised(QUICK, (20, 50), draws=2))
    assert there["fractions"] == back["fractions"][::-1]
    assert there["confusion"] == there["fractions"][0]["confusion"] == back["confusion"]


def test_one_draw_has_no_spread_and_all_labels_are_fine_tuning(evaluation):
    record = evaluate(evaluation, SemiSupervised(QUICK, (100,), draws=1))
    (part,) = record["fractions"]
    assert (part["clips"], part["std"]) == (16, None)
    assert part["accuracies"] == [record["accuracy"]]


def test_small_parts_get_more_epochs(evaluation):
    totals = []

    def counting(what, total):
        from contextlib import nullcontext

        totals.append(total)
        return nullcontext(lambda count: None)

    evaluation.counting = counting
    evaluate(evaluation, SemiSupervised(QUICK, (20, 100), draws=1, min_steps=8))
    # 3 clips: 8 steps of one batch; 16 clips: 4 batches, so 2 epochs.
    assert totals == [8 * 3 + 2 * 16]
    evaluate(evaluation, SemiSupervised(QUICK, (20, 100), draws=1, min_steps=0))
    assert totals[1] == 3 + 16


def test_a_frozen_encoder_is_probed_on_features_that_are_extracted_once(evaluation, monkeypatch):
    monkeypatch.setattr("crrl_fast.evaluation.semi.fine_tune", None)
    protocol = SemiSupervised(LinearProbe(epochs=5), (20, 100), draws=2)
    record = evaluate(evaluation, protocol)
    assert record["frozen"] is True
    assert [part["clips"] for part in record["fractions"]] == [3, 16]
    assert "linear classifier trained on its frozen clip features for 5 epochs" in record["protocol"]
    assert record == evaluate(evaluation, protocol)


def test_streams_are_fused_draw_by_draw(tiny_path, tmp_path):
    evaluations = [
        RunEvaluation.open(make_run(tmp_path / stream, tiny_path, stream=stream)) for stream in ("joint", "bone")
    ]
    protocol = SemiSupervised(QUICK, (20, 50), draws=2, min_steps=2)
    alone = [evaluate(evaluation, protocol) for evaluation in evaluations]
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        fused = evaluate(evaluations, protocol, weights=weights)
        assert fused["fractions"] == alone[weights.index(1.0)]["fractions"]
        assert [stream["accuracy"] for stream in fused["streams"]] == [record["accuracy"] for record in alone]
    both = [protocol.run(evaluation) for evaluation in evaluations]
    fused = evaluate(evaluations, protocol, weights=[0.6, 0.4])
    expected = []
    for first, second in zip(both[0].draws[0], both[1].draws[0], strict=True):
        predicted = (0.6 * first.scores + 0.4 * second.scores).argmax(dim=1)
        expected.append(100 * float((predicted == first.labels).double().mean()))
    assert fused["fractions"][0]["accuracies"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"percent": ()}, "percent must be above 0 and at most 100, got none"),
        ({"percent": (0, 5)}, "percent must be above 0 and at most 100, got 0,5"),
        ({"percent": (101,)}, "got 101"),
        ({"percent": (float("nan"),)}, "got nan"),
        ({"percent": (5, 5.0)}, "percent 5,5: name each once"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"min_steps": -1}, "min_steps must be at least 0"),
    ],
)
def test_unusable_settings(settings, message):
    with pytest.raises(ConfigError, match=f"semi: .*{message}"):
        SemiSupervised(**settings)
