import re

import numpy as np
import pytest

from crrl_fast.data import catalog
from crrl_fast.data.info import Split
from crrl_fast.data.readers import find_reader, pku
from crrl_fast.data.readers.pku_protocol import CLASS_NAMES
from crrl_fast.errors import DataError
from tests.data.foreign_own import read_clips, write_pku, zip_folder


def walk(frames, seed=0, bodies=1):
    coords = np.zeros((frames, 2, 25, 3))
    coords[:, :bodies] = np.random.default_rng(seed).normal(size=(frames, bodies, 25, 3))
    return coords.round(6)


@pytest.fixture
def two(tmp_path):
    """Return a folder with two sequences of part II, seen by two cameras, and their labels."""
    sequences = {"A01N02-L": walk(30), "A02N04-M": walk(20, seed=1, bodies=2)}
    labels = {"A01N02-L": [(1, 0, 10), (51, 10, 30)], "A02N04-M": [(7, 5, 9)]}
    return write_pku(tmp_path / "pku", sequences, labels), sequences


def test_real_sequence_without_labels_is_one_clip(real_data):
    source = real_data("pku")
    recording, found = catalog.open_recording("pku2", source)
    (clip,) = recording.clips
    expected = np.loadtxt(source / "A10N08-L.txt").reshape(1040, 2, 25, 3)
    np.testing.assert_array_equal(clip.coords, expected.astype(np.float32))
    assert "1 sequences, no labels" in found
    assert (clip.name, clip.label, clip.subject, clip.camera, clip.fold) == ("A10N08-L", -1, 8, 1, 0)
    assert (recording.class_names, recording.count, recording.fps) == ((), 1, 30.0)
    # Kinect v2 gives metres: spine base to shoulders of an adult.
    torso = recording.layout.torso_of(clip.coords[:, 0])
    assert 0.4 < np.linalg.norm(torso, axis=1).mean() < 0.7


@pytest.mark.parametrize("as_zip", [False, True])
def test_segments_become_clips(two, as_zip):
    folder, sequences = two
    source = zip_folder(folder) if as_zip else folder
    recording, clips = read_clips("pku-mmd", source, dataset="pku2")
    assert find_reader(source)[0] is pku.READER
    assert recording.class_names == CLASS_NAMES
    assert recording.count == len(clips) == 3
    first = sequences["A01N02-L"].astype(np.float32)
    np.testing.assert_array_equal(clips[0].coords, first[0:10])
    np.testing.assert_array_equal(clips[1].coords, first[10:30])
    np.testing.assert_array_equal(clips[2].coords, sequences["A02N04-M"].astype(np.float32)[5:9])
    assert [clip.name for clip in clips] == ["A01N02-L_001", "A01N02-L_002", "A02N04-M_001"]
    assert [(c.label, c.subject, c.camera, c.fold) for c in clips] == [(0, 2, 1, 1), (50, 2, 1, 1), (6, 4, 2, 0)]


def test_the_fifty_one_classes():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 51
    assert (CLASS_NAMES[0], CLASS_NAMES[33], CLASS_NAMES[50]) == ("bow", "standing up", "writing")
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)  # the distribution numbers them so


def test_crlf_an_end_beyond_the_sequence_and_a_segment_without_a_body(tmp_path):
    frames = walk(10)
    frames[4:6] = 0
    labels = {"0002-L": [(1, 8, 12), (2, 4, 6)]}
    source = write_pku(tmp_path / "pku", {"0002-L": frames}, labels, line_end="\r\n")
    skipped = []
    _, clips = read_clips("pku-mmd", source, dataset="pku1", skip=lambda *args: skipped.append(args))
    assert [(clip.name, len(clip.coords)) for clip in clips] == [("0002-L_001", 2)]
    assert skipped == [("0002-L_002", "no body is seen in it")]


def test_splits_without_lists(tmp_path):
    names = ["0290-L", "0291-M", "0334-R", "0335-R"]
    source = write_pku(tmp_path / "pku", {name: walk(1) for name in names})
    recording, clips = read_clips("pku-mmd", source, dataset="pku1")
    assert recording.splits == {"xsub": Split("fold", (0,)), "xview": Split("camera", (2, 3))}
    assert [(clip.fold, clip.camera, clip.subject) for clip in clips] == [
        (0, 1, -1),
        (1, 2, -1),
        (1, 3, -1),
        (0, 3, -1),
    ]
    # 44 sequences of three cameras make the 132 test videos of the paper.
    stems = [f"{i:04d}-{camera}" for i in range(365) for camera in "LMR"]
    assert sum(pku.parse_name("pku1", stem).fold for stem in stems) == 132


def test_splits_from_the_lists_of_the_distribution(tmp_path):
    names = ["A01N01-L", "A01N02-M", "A01N03-R"]
    lists = {
        "cross_subject_v2.txt": (["A01N03-R", "A09N09-L"], ["A01N01-L"]),
        "cross_view_v2.txt": (["A01N01-L", "A01N03-R"], ["A01N02-M"]),
        "cross-subject_v1.txt": (["0002-L"], ["0003-L"]),
    }
    source = write_pku(tmp_path / "pku", {name: walk(1) for name in names}, lists=lists)
    recording, clips = read_clips("pku-mmd", source, dataset="pku2")
    assert recording.splits["xview"] == Split("camera", (1, 3))
    assert [clip.fold for clip in clips] == [1, -1, 0]  # the second is in neither part


def test_the_name_chooses_the_part(tmp_path):
    source = write_pku(tmp_path / "pku", {"0002-L": walk(1), "A01N01-L": walk(2)})
    assert find_reader(source)[1].count("1 sequences") == 2
    for dataset, name in [("pku1", "0002-L"), ("pku2", "A01N01-L")]:
        _, (clip,) = read_clips("pku-mmd", source, dataset=dataset)
        assert clip.name == name
    with pytest.raises(DataError, match="PKU-MMD I and PKU-MMD II: call the data set pku1 or pku2, not 'mine'"):
        read_clips("pku-mmd", source, dataset="mine")
    (source / "Data" / "PKU_Skeleton_Renew" / "A01N01-L.txt").unlink()
    assert len(read_clips("pku-mmd", source, dataset="mine")[1]) == 1
    with pytest.raises(DataError, match="PKU-MMD I: call the data set pku1, not 'pku2'"):
        read_clips("pku-mmd", source, dataset="pku2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"0002-L\.txt or A10N08-L\.txt"):
        read_clips("pku-mmd", tmp_path / "empty", dataset="pku1")


SKELETON, LABEL = "Data/PKU_Skeleton_Renew/A01N02-L.txt", "Label/Train_Label_PKU_final/A01N02-L.txt"
GOOD_LINE = b" ".join([b"1.5"] * 150)


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (SKELETON, b"", "has no frames"),
        (SKELETON, GOOD_LINE + b"\n1.5 2.5\n", "line 2: 2 numbers, expected 150"),
        (SKELETON, GOOD_LINE + b"\n" + GOOD_LINE.replace(b"1.5", b"x", 1), "line 2: 'x' is not a number"),
        (SKELETON, GOOD_LINE + b"\n\n" + GOOD_LINE, "line 2: 0 numbers, expected 150"),
        (
            SKELETON,
            GOOD_LINE + b"\n" + b"nan " + GOOD_LINE[4:],
            "line 2: nan for body 0, joint 'spine_base', coordinate x",
        ),
        (SKELETON, GOOD_LINE[4:] + b" 1e60", "line 1: inf for body 1, joint 'thumb_right', coordinate z"),
        (LABEL, b"1,0,2", None),
        (LABEL, b"1,0\n", "line 1: '1,0' is not `class,start,end,confidence`"),
        (LABEL, b"1,0,2,1\n1,a,2,1\n", "line 2: '1,a,2,1' is not"),
        (LABEL, b"0,0,2,1\n", "line 1: class 0 is not from 1 to 51"),
        (LABEL, b"52,0,2,1\n", "line 1: class 52 is not"),
        (LABEL, b"1,2,2,1\n", "line 1: frames 2 to 2 are no part of a sequence of 30 frames"),
        (LABEL, b"1,30,40,1\n", "line 1: frames 30 to 40 are no part"),
        (LABEL, b"1,-1,4,1\n", "line 1: frames -1 to 4 are no part"),
        (LABEL, None, r"there are label files, but no A01N02-L\.txt"),
        (SKELETON, None, r"there is no skeleton file A01N02-L\.txt"),
    ],
)
def test_malformed_files_name_file_and_line(two, path, content, message):
    folder, _ = two
    if content is None:
        (folder / path).unlink()
    else:
        (folder / path).write_bytes(content)
    problems = []
    _, clips = read_clips("pku-mmd", folder, dataset="pku2", report=lambda problem: problems.append(str(problem)))
    assert clips[-1].name == "A02N04-M_001"  # the others are still read
    if message is None:
        assert not problems
        return
    (problem,) = (problem for problem in problems if re.search(message, problem))
    assert content is None or path in problem
    with pytest.raises(DataError):
        read_clips("pku-mmd", folder, dataset="pku2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cross_subject_v2.txt", "", "not a split list"),
        ("cross_subject_v2.txt", "Training videos:\nA01N02-L\n", "not a split list"),
        ("cross_subject_v2.txt", "A01N02-L\n", "line 1: 'A01N02-L' comes before the heading"),
        ("cross_subject_v2.txt", "Training videos:\na, b\nTest videos:\nb", "line 4: 'b' is in both parts"),
        (
            "cross_view_v2.txt",
            "Training videos:\nx-L, y-M\nTest videos:\nz-L",
            "does not divide the sequences by their",
        ),
        (
            "cross_view_v2.txt",
            "Training videos:\nx-L, y-Q\nTest videos:\nz-M",
            "does not divide the sequences by their",
        ),
    ],
)
def test_malformed_lists_are_named(two, name, content, message):
    folder, _ = two
    (folder / "Split").mkdir()
    (folder / "Split" / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_clips("pku-mmd", folder, dataset="pku2")
    assert name in str(caught.value)
