"""Embeddings as files, read back by what people read them with."""

import csv
import io
import sys

import numpy as np
import pytest

from crrl_fast.embedding import Embeddings
from crrl_fast.embedding.tables import check_table, write_csv, write_table
from crrl_fast.errors import ConfigError, CrrlError

NAMES = ("plain", 'comma, and "quotes"', "two\nlines", "return\ror not", "Ünï", " padded ")


@pytest.fixture
def embeddings():
    features = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    features[0] = [0.1, 1e-30, -1e30, 0]
    labels = np.array([0, 1, -1, 0, 1, -1])
    return Embeddings(features, NAMES, labels, ("stand, up", "sit"), np.array([1, 60, 2, 3, 4, 5]))


def test_csv_gives_back_names_and_the_very_same_numbers(embeddings):
    stream = io.StringIO(newline="")
    write_csv(stream, embeddings)
    stream.seek(0)
    rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["name", "label", "class", "frames", "feature_0", "feature_1", "feature_2", "feature_3"]
    assert [row["name"] for row in rows] == list(NAMES)
    assert [row["class"] for row in rows] == ["stand, up", "sit", "", "stand, up", "sit", ""]
    assert [int(row["label"]) for row in rows] == embeddings.labels.tolist()
    assert [int(row["frames"]) for row in rows] == embeddings.lengths.tolist()
    values = np.array([[row[f"feature_{i}"] for i in range(4)] for row in rows]).astype(np.float32)
    np.testing.assert_array_equal(values, embeddings.features)
    assert rows[0]["feature_0"] == "0.1"


def test_a_csv_file_holds_what_is_printed(embeddings, tmp_path):
    stream = io.StringIO(newline="")
    write_csv(stream, embeddings)
    write_table(tmp_path / "new" / "out.csv", embeddings)
    assert (tmp_path / "new" / "out.csv").read_bytes().decode() == stream.getvalue()


def test_npz_needs_no_pickle(embeddings, tmp_path):
    path = tmp_path / "out.npz"
    write_table(path, embeddings)
    with np.load(path, allow_pickle=False) as found:
        assert set(found) == {"features", "names", "labels", "class_names", "lengths"}
        np.testing.assert_array_equal(found["features"], embeddings.features)
        assert found["features"].dtype == np.float32
        assert tuple(found["names"].tolist()) == NAMES
        assert found["labels"].tolist() == embeddings.labels.tolist()
        assert found["class_names"].tolist() == ["stand, up", "sit"]
        assert found["lengths"].tolist() == embeddings.lengths.tolist()
    assert [file.name for file in tmp_path.iterdir()] == ["out.npz"]


def test_npz_of_unlabelled_clips(embeddings, tmp_path):
    unlabelled = Embeddings(embeddings.features, NAMES, np.full(6, -1), (), embeddings.lengths)
    write_table(tmp_path / "out.npz", unlabelled)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert found["class_names"].shape == (0,)


def test_parquet_has_a_row_a_clip_and_its_feature_in_one_column(embeddings, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    write_table(path, embeddings)
    table = pq.read_table(path)
    assert table.column_names == ["name", "label", "class", "frames", "feature"]
    assert str(table.schema.field("feature").type) == "fixed_size_list<element: float>[4]"
    rows = table.to_pylist()
    assert [row["name"] for row in rows] == list(NAMES)
    assert [row["class"] for row in rows] == ["stand, up", "sit", None, "stand, up", "sit", None]
    assert [row["label"] for row in rows] == embeddings.labels.tolist()
    np.testing.assert_array_equal(np.array([row["feature"] for row in rows], np.float32), embeddings.features)


def test_parquet_without_pyarrow_says_how_to_get_it(embeddings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"Parquet needs pyarrow .*: pip install 'crrl-fast\[parquet\]'"):
        check_table(tmp_path / "out.parquet")
    check_table(tmp_path / "out.npz")


@pytest.mark.parametrize("name", ["out.txt", "out", "out.npy", ".npz"])
def test_other_suffixes_are_refused(embeddings, tmp_path, name):
    with pytest.raises(ConfigError, match=r"unknown suffix '.*': choose .npz, .parquet, .csv"):
        write_table(tmp_path / name, embeddings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_a_failure_leaves_the_old_file_and_nothing_else(embeddings, tmp_path, monkeypatch, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow.parquet")
    (tmp_path / f"out.{suffix}").write_text("old")
    (tmp_path / "folder" / f"x.{suffix}").mkdir(parents=True)
    with pytest.raises(CrrlError, match="cannot be written"):
        write_table(tmp_path / "folder" / f"x.{suffix}", embeddings)
    with pytest.raises(CrrlError, match="cannot be written"):
        write_table(tmp_path / f"out.{suffix}" / f"y.{suffix}", embeddings)
    assert (tmp_path / f"out.{suffix}").read_text() == "old"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == [f"x.{suffix}"]
