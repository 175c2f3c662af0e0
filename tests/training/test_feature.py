"""Runs whose recipe whitens the clip feature, and puts that of velocity beside it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import crrl_fast
from crrl_fast.config import Recipe
from crrl_fast.data.batches import ResidentClips, resident_split
from crrl_fast.data.store import Store
from crrl_fast.evaluation import NearestNeighbours, RunEvaluation, Transfer, TransferEvaluation, Tuning, evaluate
from crrl_fast.evaluation.features import covariance_of_views, extract_features
from crrl_fast.models import FeatureEncoder, MotionEncoder
from crrl_fast.run import RunFolder
from crrl_fast.views import PRESETS
from tests.training.runs import SMALL, assert_same_runs, at_step, metrics, pretrain
from tests.training.test_distributed import finished, torchrun

STAGES = ("ser", "cml", "inf", "joint")
FIELDS = {"feature": "both", "whitening": 0.5, "velocity_scale": 10.0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the store and the run of all stages on it, made once."""
    from tests.conftest import tiny_store

    folder = tmp_path_factory.mktemp("whole")
    data = folder / "tiny.safetensors"
    tiny_store.__wrapped__().save(data)
    return data, pretrain(data, folder / "run", stages=STAGES, probe_every=1, **FIELDS)


def fitted_in_place(run: RunFolder, stage: str, store: Store) -> tuple[FeatureEncoder, torch.Tensor]:
    """Return a stage's encoder, whitened here by the features of the training clips, and these features."""
    recipe = run.config.recipe
    encoder = MotionEncoder(60, recipe.hidden_size, recipe.layers, recipe.dropout).eval()
    state = load_file(run.stage_file(stage))
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")})
    fitted = FeatureEncoder(encoder, 10.0, whitens=True).eval()
    train, _ = resident_split(store.processed(run.config.recipe.preprocessing()), None, torch.device("cpu"))
    fitted.fit_whitening(extract_features(fitted, train), 0.5)
    return fitted, extract_features(fitted, train)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_saved_with_its_whitening_which_comes_back(whole, stage):
    data, run = whole
    tensors = load_file(run.stage_file(stage))
    whitening = {name: list(tensor.shape) for name, tensor in tensors.items() if name.startswith("whitening.")}
    assert whitening == {f"whitening.{i}.{name}": shape for i in (0, 1) for name, shape in WHITENING.items()}
    fitted, features = fitted_in_place(run, stage, Store.open(data))
    loaded = RunFolder.open(run.path).load_encoder(stage)
    assert loaded.feature_size == 32
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert RunEvaluation.open(run, stage).features.train.shape == (16, 32)
    train, _ = resident_split(Store.open(data).processed(run.config.recipe.preprocessing()), None, torch.device("cpu"))
    assert torch.equal(extract_features(loaded, train), features)
    norms = features.view(16, 2, 16).square().sum(dim=2).mean(dim=0)
    torch.testing.assert_close(norms, torch.full((2,), 0.5), rtol=1e-3, atol=0)


WHITENING = {"mean": [16], "matrix": [16, 16]}


@pytest.mark.parametrize("stage", STAGES)
def test_the_probe_scores_what_evaluation_does(whole, stage):
    _, run = whole
    last = [row["knn"] for row in metrics(run.path) if row["stage"] == stage][-1]
    assert last == evaluate(RunEvaluation.open(run, stage), NearestNeighbours())["accuracy"]


def test_the_fields_change_neither_weights_nor_losses(whole, tmp_path):
    data, run = whole
    plain = pretrain(data, tmp_path / "plain", stages=STAGES, probe_every=1, velocity_scale=10.0)
    for stage in STAGES:
        theirs = load_file(plain.stage_file(stage))
        ours = {name: tensor for name, tensor in load_file(run.stage_file(stage)).items() if "whitening." not in name}
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    losses = [[row["loss"] for row in metrics(path)] for path in (plain.path, run.path)]
    assert losses[0] == losses[1]


class Killed(BaseException):
    """As good as a kill: nothing is saved on the way out."""


@pytest.mark.parametrize("steps", [13, 25, 30])  # the first of cml and of inf, and one within
def test_a_run_killed_between_stages_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch, steps):
    data, run = whole

    def die():
        raise Killed

    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        at_step(patch, steps, die)
        pretrain(data, out, stages=STAGES, probe_every=1, **FIELDS)
    assert (out / "ser.safetensors").exists()
    assert (out / "cml.safetensors").exists() == (steps > 24)
    crrl_fast.pretrain(resume=out, quiet=True)
    assert_same_runs(out, run.path)


def test_a_run_killed_while_it_whitens_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    data, run = whole
    calls, save = [], RunFolder.save_stage

    def die_at_the_second(self, stage, *arguments):
        calls.append(stage)
        if len(calls) == 2:
            raise Killed
        return save(self, stage, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "save_stage", die_at_the_second)
        pretrain(data, tmp_path / "run", stages=STAGES, probe_every=1, **FIELDS)
    assert calls == ["ser", "cml"]
    crrl_fast.pretrain(resume=tmp_path / "run", quiet=True)
    assert_same_runs(tmp_path / "run", run.path)


def test_two_processes_whiten_once(whole, tmp_path):
    data, _ = whole
    fields = [f"--set={name}={value}" for name, value in {**SMALL, **FIELDS, "dropout": 0}.items()]
    asked = ["--data", data, "--device", "cpu", "--stages", "cml,inf", "--probe-every", "1", *fields]
    code, _, err = finished(torchrun(2, "crrl_fast", "pretrain", *asked, "--out", tmp_path / "run"))
    assert code == 0, err
    run = RunFolder.open(tmp_path / "run")
    for stage in ("cml", "inf"):
        fitted, _ = fitted_in_place(run, stage, Store.open(data))
        loaded = run.load_encoder(stage)
        for name, tensor in fitted.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
        last = [row["knn"] for row in metrics(run.path) if row["stage"] == stage][-1]
        assert last == evaluate(RunEvaluation.open(run, stage), NearestNeighbours())["accuracy"]


def test_a_random_encoder_is_whitened_by_the_clips_it_is_compared_on(whole, tmp_path):
    data, run = whole
    evaluation = RunEvaluation.open(run, "random")
    encoder = evaluation.load_encoder()
    train = evaluation.clips.train
    assert not torch.equal(encoder.whitening[0].matrix, torch.eye(16))
    plain = FeatureEncoder(run.load_encoder("random").encoder, 10.0, whitens=True)
    plain.fit_whitening(extract_features(plain, train), 0.5)
    assert torch.equal(evaluation.features.train, extract_features(plain, train))

    other = Store.open(data)
    Store.from_arrays(
        [2 * other.clip(i).numpy().reshape(-1, 20, 3) for i in range(len(other))],
        labels=other.labels.tolist(),
        camera=other.camera.tolist(),
        layout="kinect20",
        dataset="other",
        splits=other.info.splits,
    ).save(tmp_path / "other.safetensors")
    onto = str(tmp_path / "other.safetensors")
    quick = Transfer(Tuning(epochs=1, batch_size=8))
    target = TransferEvaluation.onto(run, "random", onto)
    theirs = target.load_encoder()
    assert torch.equal(theirs.encoder.gru.weight_hh_l0, encoder.encoder.gru.weight_hh_l0)
    whitened = extract_features(theirs, target.clips.train).view(16, 2, 16)
    torch.testing.assert_close(whitened.square().sum(dim=2).mean(dim=0), torch.full((2,), 0.5), rtol=1e-3, atol=0)
    # One that was pretrained keeps the whitening of what it was pretrained on.
    pretrained = TransferEvaluation.onto(run, "inf", onto).load_encoder()
    assert torch.equal(pretrained.whitening[1].matrix, run.load_encoder("inf").whitening[1].matrix)
    for name in ("random", "inf"):
        assert evaluate(TransferEvaluation.onto(run, name, onto), quick)["evaluation"] == "transfer"


def test_embedding_gives_the_whitened_feature(whole):
    data, run = whole
    store = Store.open(data)
    evaluation = RunEvaluation.open(run)
    clips = [store.clip(i).numpy().reshape(-1, 20, 3) for i in range(16)]
    embedder = crrl_fast.load(run, device="cpu")
    assert embedder.feature_size == 32
    features = torch.from_numpy(embedder.encode(clips))
    torch.testing.assert_close(features, evaluation.features.train, rtol=1e-4, atol=1e-5)
    # Of a random encoder it has no training clips to fit a whitening to.
    bare = run.load_encoder("random").eval()
    assert torch.equal(bare.whitening[0].matrix, torch.eye(16))
    found = torch.from_numpy(crrl_fast.load(run, "random", device="cpu").encode(clips))
    torch.testing.assert_close(found, extract_features(bare, evaluation.clips.train))


def test_the_report_compares_a_random_encoder_that_is_whitened(whole):
    pytest.importorskip("sklearn")
    from crrl_fast.report.collect import read_run
    from crrl_fast.report.gallery import encode_split

    data, run = whole
    found = encode_split(read_run(run, "run", "random"), Store.open(data), torch.device("cpu"))
    want = torch.nn.functional.normalize(RunEvaluation.open(run, "random").features.train, dim=1)
    torch.testing.assert_close(torch.from_numpy(found.train.features), want)


def test_concat_and_semi_take_the_feature(whole):
    from crrl_fast.evaluation import FineTune, SemiSupervised

    _, run = whole
    assert RunEvaluation.open(run, "concat").features.test.shape == (8, 64)
    tuning = Tuning(epochs=1, batch_size=8, precision="bf16")
    assert 0 <= evaluate(RunEvaluation.open(run, "cml"), FineTune(tuning))["accuracy"] <= 100
    semi = evaluate(RunEvaluation.open(run, "random"), SemiSupervised(tuning, percent=(50,), draws=2, min_steps=1))
    assert semi["fractions"][0]["draws"] == 2


def test_a_run_from_before_the_fields_has_the_feature_it_had(whole, tmp_path):
    _, run = whole
    shutil.copytree(run.path, tmp_path / "old")
    config = json.loads((tmp_path / "old/config.json").read_text())
    for name in ("feature", "whitening", "whitening_views"):
        del config["recipe"][name]
    (tmp_path / "old/config.json").write_text(json.dumps(config))
    encoder = RunFolder.open(tmp_path / "old").load_encoder("inf")
    assert isinstance(encoder, MotionEncoder)
    assert torch.equal(encoder.gru.weight_hh_l0, run.load_encoder("inf").encoder.gru.weight_hh_l0)


@pytest.mark.parametrize("fields", [{"feature": "both"}, {"whitening": 1.0}])
def test_either_field_alone(tiny_path, tmp_path, fields):
    run = pretrain(tiny_path, tmp_path / "run", stages=("cml",), probe_every=3, **fields)
    encoder = run.load_encoder("cml")
    assert encoder.feature_size == (32 if "feature" in fields else 16)
    assert len(encoder.whitening) == ("whitening" in fields)
    tensors = load_file(run.stage_file("cml"))
    assert any(name.startswith("whitening.") for name in tensors) == ("whitening" in fields)
    score = evaluate(RunEvaluation.open(run), NearestNeighbours())["accuracy"]
    assert score == metrics(run.path)[-1]["knn"]


def covariance_of_drawn(encoder: FeatureEncoder, clips: ResidentClips, draws: int) -> torch.Tensor:
    """Return the covariance of views of the same clip by its definition, of views that torch's own generator draws."""
    torch.manual_seed(3)
    everyone = torch.arange(len(clips))
    with torch.no_grad():
        drawn = [clips.view(everyone, PRESETS["crrl"], clips.longest) for _ in range(draws)]
        views = torch.stack([encoder(view.coords, view.lengths).feature for view in drawn]).double()
    apart = (views - views.mean(dim=0)).view(draws * len(clips), encoder.streams, -1).transpose(0, 1)
    return apart.mT @ apart / ((draws - 1) * len(clips))


@pytest.mark.parametrize("clips", [16, 3])
def test_the_covariance_is_that_of_views_of_the_same_clip(whole, clips):
    data, _ = whole
    train, _ = resident_split(Store.open(data), None, torch.device("cpu"))
    train = train.subset(torch.arange(clips))
    torch.manual_seed(0)
    encoder = FeatureEncoder(MotionEncoder(60, 8, 1, 0.2), 10.0, whitens=True)
    state = torch.get_rng_state()
    have = covariance_of_views(encoder, train, PRESETS["crrl"])
    assert torch.equal(have, covariance_of_views(encoder, train, PRESETS["crrl"]))
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    want = covariance_of_drawn(encoder.eval(), train, 1000)
    # 4,096 views of 16 clips: variances are within a few times sqrt(2 / 4096) = 2 percent.
    assert have.shape == (2, 16, 16)
    assert float((have - want).norm() / want.norm()) < 0.08


def test_a_run_whitens_by_views_and_so_is_a_random_encoder(tiny_path, tmp_path):
    fields = {"feature": "both", "whitening": 1.0, "whitening_views": "crrl", "velocity_scale": 10.0}
    run = pretrain(tiny_path, tmp_path / "run", stages=("cml",), probe_every=3, **fields)
    plain = pretrain(tiny_path, tmp_path / "plain", stages=("cml",), **{**fields, "whitening_views": "none"})
    score = evaluate(RunEvaluation.open(run), NearestNeighbours())["accuracy"]
    assert score == metrics(run.path)[-1]["knn"]
    for name in ("cml", "random"):
        evaluation = RunEvaluation.open(run, name)
        encoder, train = evaluation.load_encoder(), evaluation.clips.train
        again = FeatureEncoder(encoder.encoder, 10.0, whitens=True).eval()
        within = covariance_of_views(again, train, PRESETS["crrl"])
        again.fit_whitening(extract_features(again, train), 1.0, within)
        assert all(torch.equal(again.state_dict()[key], value) for key, value in encoder.state_dict().items())
        # What views change is less of the feature than where the clips' own variance is evened out.
        between = RunEvaluation.open(plain, name).load_encoder()
        shares = [
            covariance_of_drawn(one.eval(), train, 20).diagonal(dim1=1, dim2=2).sum() for one in (encoder, between)
        ]
        assert shares[0] < shares[1]
    resumed = crrl_fast.pretrain(resume=run.path, quiet=True)
    assert resumed.config.recipe.whitening_views == "crrl"


def test_recipes_refuse_what_they_cannot_be():
    wrongs = ({"feature": "velocity"}, {"whitening": -0.1}, {"whitening": 1.5}, {"whitening": float("nan")})
    for wrong in (*wrongs, {"whitening_views": "views"}):
        with pytest.raises(crrl_fast.errors.ConfigError, match=next(iter(wrong))):
            Recipe(**wrong)
