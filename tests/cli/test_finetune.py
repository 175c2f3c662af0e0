"""`eval finetune`, `eval semi` and `eval transfer` as a user meets them."""

import inspect
import json

import pytest

from crrl_fast.cli import finetune, semi
from crrl_fast.data.info import Split
from crrl_fast.data.store import Store
from crrl_fast.evaluation import LinearProbe, SemiSupervised, Tuning
from tests.conftest import one_line_error, random_walks
from tests.evaluation.runs import make_run

QUICK = ("--epochs", 2, "--batch-size", 8)
TRAINED = ("finetune", "semi", "transfer")


def target_of(command):
    return ("--to", "other.safetensors") if command == "transfer" else ()


def save_other(path, *, labels=(0, 1) * 4, camera=(1, 1, 1, 1, 2, 2, 2, 2), layout="kinect20", joints=20):
    Store.from_arrays(
        random_walks(8, joints=joints),
        labels=labels,
        camera=camera,
        layout=layout,
        dataset="other",
        class_names=("clap", "wave"),
        splits={"x": Split("camera", (1,))},
    ).save(path)


@pytest.fixture
def run(tmp_path, tiny_path):
    make_run(tmp_path / "run", tiny_path)
    return "run"


def loaded(path):
    return json.loads(path.read_text())


def test_finetune_takes_its_settings_and_prints_the_last_epoch(crrl, run, tmp_path):
    options = ("--lr", 0.5, "--encoder-lr", 0.01, "--schedule", "step", "--milestones", "1,2", "--decay", 0.5)
    more = ("--warmup", 1, "--momentum", 0.8, "--weight-decay", 0.1, "--clip-grad-norm", 0, "--length-buckets", 2)
    code, out, err = crrl("eval", "finetune", run, *QUICK, *options, *more, "--precision", "bf16", "--seed", 5)
    assert (code, err) == (0, "")
    record = loaded(tmp_path / "run/eval/finetune-cml.json")
    expected = Tuning(2, 8, 0.5, 0.01, "step", (1, 2), 0.5, 1, 0.8, 0.1, 0.0, "bf16", 2, 5)
    assert {name: record[name] for name in vars(expected)} == {**vars(expected), "milestones": [1, 2]}
    assert record["accuracy"] == record["curve"][-1]
    assert len(record["curve"]) == len(record["loss_curve"]) == 2
    assert f"{record['accuracy']:.1f} %" in out
    for part in ("tiny, split xview", "last epoch, not the best", "written to run/eval/finetune-cml.json"):
        assert part in out


def test_defaults_are_those_of_the_settings_and_of_the_help():
    shown = {}
    for name, parameter in inspect.signature(finetune, eval_str=True).parameters.items():
        if parameter.default is None and name in vars(Tuning()) and name != "milestones":
            shown[name] = parameter.annotation.__metadata__[0].show_default
    expected = {name: value for name, value in vars(Tuning()).items() if name not in ("milestones", "seed")}
    assert {name: type(expected[name])(text) for name, text in shown.items()} == expected
    of_semi, ours = inspect.signature(semi, eval_str=True).parameters, SemiSupervised()
    assert of_semi["percent"].default == ",".join(f"{percent:g}" for percent in ours.percent)
    assert (of_semi["draws"].default, of_semi["min_steps"].default) == (ours.draws, ours.min_steps)


def test_semi_prints_mean_and_spread_of_every_size(crrl, run, tmp_path):
    options = ("--percent", "20,50", "--draws", 2, "--min-steps", 0)
    code, out, err = crrl("eval", "semi", run, *options, *QUICK)
    assert (code, err) == (0, "")
    record = loaded(tmp_path / "run/eval/semi-cml.json")
    assert [(part["percent"], part["clips"], part["draws"]) for part in record["fractions"]] == [(20, 3, 2), (50, 9, 2)]
    for part in record["fractions"]:
        assert f"{part['percent']:g} % of labels" in out
        assert (
            f"{part['mean']:.1f} ± {part['std']:.1f} % ({part['min']:.1f} to {part['max']:.1f}; {part['clips']}" in out
        )
    assert crrl("eval", "semi", run, "--frozen", "--percent", "20", "--draws", 1, "--json", "frozen.json")[0] == 0
    record = loaded(tmp_path / "frozen.json")
    assert record["frozen"] is True
    assert record["epochs"] == LinearProbe().epochs


def test_transfer_maps_and_cuts_and_says_so(crrl, run, tmp_path):
    save_other(tmp_path / "other.safetensors", layout="ntu25", joints=25)
    arguments = ("eval", "transfer", run, "--to", "other.safetensors", *QUICK)
    one_line_error(crrl(*arguments), "ntu25 (25 joints)", "kinect20 (20 joints)", "--map-joints maps the 20 joints")
    code, out, err = crrl(*arguments, "--map-joints")
    assert (code, err) == (0, "")
    record = loaded(tmp_path / "run/eval/transfer-cml-other.json")
    assert (record["dataset"], record["class_names"], record["to"]["split"]) == ("other", ["clap", "wave"], "x")
    for part in ("other, split x", "pretrained on", "ntu25 mapped to kinect20: 20 of 20 shared", "4 training, 4 test"):
        assert part in out
    save_other(tmp_path / "other.safetensors")
    assert crrl(*arguments, "--to-split", "x", "--encoder", "random", "--json", "random.json")[0] == 0
    assert loaded(tmp_path / "random.json")["to"]["mapped_joints"] is None


def test_streams_are_fused_by_every_command(crrl, tmp_path, tiny_path):
    save_other(tmp_path / "other.safetensors")
    for stream in ("joint", "bone"):
        make_run(tmp_path / stream, tiny_path, stream=stream)
    for command in TRAINED:
        options = ("--percent", "50", "--draws", 1, "--min-steps", 0) if command == "semi" else target_of(command)
        code, out, _ = crrl("eval", command, "joint", "bone", "--weights", "0.6,0.4", *QUICK, *options)
        assert code == 0
        assert "bone stream" in out
        (file,) = (tmp_path / "joint/eval").glob(f"{command}-cml-fused-joint+bone*.json")
        assert "weighted sum of the class probabilities" in loaded(file)["protocol"]


@pytest.mark.parametrize("command", TRAINED)
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("absent",), ["absent: not a run folder"]),
        (("run", "--encoder", "inf"), ["stage 'inf' has no checkpoint here; finished stages: cml"]),
        (("run", "--epochs", 0), ["epochs must be greater than 0, got 0"]),
        (("run", "--lr", -1), ["lr must be greater than 0"]),
        (("run", "--encoder-lr", "nan"), ["encoder_lr must be at least 0"]),
        (("run", "--schedule", "linear"), ["schedule must be one of cosine, step, got 'linear'"]),
        (("run", "--milestones", "5,x"), ["--milestones '5,x': not a list of whole numbers"]),
        (("run", "--precision", "fp8"), ["precision must be one of fp32, bf16"]),
        (("run", "--weights", "1,2"), ["--weights 1,2: 2 for 1 run"]),
        (("run", "--device", "tpu"), ["'tpu'"]),
    ],
)
def test_mistakes_end_in_one_line(crrl, run, tmp_path, command, arguments, parts):
    save_other(tmp_path / "other.safetensors")
    one_line_error(crrl("eval", command, *arguments, *target_of(command)), *parts)
    assert not (tmp_path / "run/eval").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("semi", "run", "--percent", "0,5"), ["percent must be above 0", "got 0,5"]),
        (("semi", "run", "--percent", "few"), ["--percent 'few': not a list of numbers"]),
        (("semi", "run", "--draws", 0), ["draws must be at least 1"]),
        (("semi", "run", "--frozen", "--lr", 1), ["--frozen", "--lr has no effect"]),
        (("transfer", "run"), ["--to"]),
        (("transfer", "run", "--to", "absent.safetensors"), ["absent.safetensors: no such file"]),
        (("transfer", "run", "--to", "other.safetensors", "--to-split", "y"), ["no split 'y': it defines x"]),
    ],
)
def test_mistakes_of_one_command(crrl, run, tmp_path, arguments, parts):
    save_other(tmp_path / "other.safetensors")
    one_line_error(crrl("eval", *arguments), *parts)
    assert not (tmp_path / "run/eval").exists()


@pytest.mark.parametrize(
    ("labels", "camera", "part"),
    [
        ([-1] * 8, (1, 1, 1, 1, 2, 2, 2, 2), "no clip has a label"),
        ([-1] * 4 + [0, 1, 0, 1], (1, 1, 1, 1, 2, 2, 2, 2), "training part of split 'x' has no labelled clip"),
        ([0, 0, 0, 0, 0, 1, 0, 1], (1, 1, 1, 1, 2, 2, 2, 2), "class 'wave' has 2 test clips but no training clip"),
        ([0, 1] * 4, (1,) * 8, "puts no clip into its test part"),
    ],
)
def test_stores_that_cannot_be_trained_on(crrl, tmp_path, labels, camera, part):
    path = tmp_path / "other.safetensors"
    save_other(path, labels=labels, camera=camera)
    make_run(tmp_path / "run", path)
    for command in TRAINED:
        one_line_error(crrl("eval", command, "run", *target_of(command)), "other.safetensors", part)


def test_a_run_without_a_checkpoint(crrl, tmp_path, tiny_path):
    save_other(tmp_path / "other.safetensors")
    make_run(tmp_path / "run", tiny_path, stages=())
    for command in TRAINED:
        one_line_error(crrl("eval", command, "run", *target_of(command)), "no stage has finished")


def test_a_loss_that_explodes_ends_in_one_line(crrl, run):
    explosive = ("--lr", 1e38, "--encoder-lr", 1e38, "--clip-grad-norm", 0, "--epochs", 20)
    one_line_error(crrl("eval", "finetune", run, *explosive), "fine-tuning: the loss is", "lower lr (now 1e+38)")
