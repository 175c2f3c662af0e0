import numpy as np
import pytest

from crrl_fast.data import catalog
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import LAYOUTS
from crrl_fast.data.readers import find_reader, own
from crrl_fast.errors import ConfigError, DataError
from tests.data.foreign_own import read_clips, write_clips, zip_folder

COCO = LAYOUTS["coco17"]


def clip_of(frames, bodies=None, joints=17, dims=3, seed=0):
    shape = (frames, joints, dims) if bodies is None else (frames, bodies, joints, dims)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def in_3d(clip):
    return np.concatenate([clip, np.zeros((*clip.shape[:-1], 3 - clip.shape[-1]), np.float32)], axis=-1)


def read_own(source, joints=COCO, **request):
    return read_clips("clips", source, joints=joints, **request)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".npy", {}),
        (".npz", {}),
        (".csv", {}),
        (".csv", {"heading": True}),
        (".json", {}),
        (".json", {"mediapipe": True}),
    ],
)
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_file_for_each_clip(tmp_path, suffix, options, dims, as_zip):
    clips = {"b": clip_of(3, dims=dims), "a": clip_of(1, dims=dims, seed=1)}
    folder = write_clips(tmp_path / "mine", clips, suffix, **options)
    source = zip_folder(folder) if as_zip else folder
    reader, found = find_reader(source)
    assert reader is own.READER
    assert f"2 {suffix}" in found
    recording, result = read_own(source)
    assert (recording.count, recording.class_names, recording.splits) == (2, [], {})
    assert [clip.name for clip in result] == ["a", "b"]
    for clip in result:
        np.testing.assert_allclose(clip.coords[:, 0], in_3d(clips[clip.name]), rtol=1e-6)
        assert clip.label == -1


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".json"])
def test_several_bodies(tmp_path, suffix):
    clip = clip_of(4, bodies=2)
    _, (result,) = read_own(write_clips(tmp_path / "mine", {"x": clip}, suffix))
    np.testing.assert_array_equal(result.coords, clip)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".json"])
def test_one_file_alone(tmp_path, suffix):
    clip = clip_of(4)
    folder = write_clips(tmp_path / "mine", {"x": clip}, suffix)
    source = folder / f"x{suffix}"
    assert find_reader(source)[0] is own.READER
    recording, (result,) = read_own(source)
    assert (result.name, recording.count) == ("x", 1)
    np.testing.assert_allclose(result.coords[:, 0], clip, rtol=1e-6)


@pytest.mark.parametrize("bodies", [None, 2])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_clips(tmp_path, bodies, order):
    clips = np.stack([clip_of(5, bodies=bodies, seed=seed) for seed in range(3)])
    path = tmp_path / "x.npy"
    np.save(path, np.asarray(clips, order=order))
    recording, result = read_own(path)
    assert [clip.name for clip in result] == ["0", "1", "2"]
    assert recording.count == 3
    for clip, expected in zip(result, clips, strict=True):
        np.testing.assert_array_equal(clip.coords, expected if bodies else expected[:, None])


@pytest.mark.parametrize("labels", [[3, 10, 3], ["walk", "run", "walk"], [b"walk", b"run", b"walk"]])
def test_a_packed_archive(tmp_path, labels):
    clips = np.stack([clip_of(5, seed=seed) for seed in range(3)])
    path = tmp_path / "x.npz"
    np.savez_compressed(path, data=clips, lengths=[5, 1, 3], labels=labels)
    recording, result = read_own(path)
    assert [len(clip.coords) for clip in result] == [5, 1, 3]
    np.testing.assert_array_equal(result[2].coords[:, 0], clips[2, :3])
    numbers = labels == [3, 10, 3]
    assert recording.class_names == (["3", "10"] if numbers else ["run", "walk"])
    assert [clip.label for clip in result] == ([0, 1, 0] if numbers else [1, 0, 1])


def test_an_archive_with_an_array_for_each_clip(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, jump=clip_of(2), walk=clip_of(7, bodies=1))
    _, result = read_own(path)
    assert [(clip.name, clip.coords.shape) for clip in result] == [("jump", (2, 1, 17, 3)), ("walk", (7, 1, 17, 3))]


def test_folders_are_classes(tmp_path):
    clips = {"train/walk/a": clip_of(1), "train/run/a": clip_of(2), "test/walk/b": clip_of(3)}
    source = write_clips(tmp_path / "mine", clips, ".npy")
    assert "2 classes by folder" in find_reader(source)[1]
    recording, result = read_own(source)
    assert recording.class_names == ["run", "walk"]
    assert [(clip.name, clip.label) for clip in result] == [("test/walk/b", 1), ("train/run/a", 0), ("train/walk/a", 1)]
    write_clips(source, {"loose": clip_of(1)}, ".npy")  # a clip outside: the folders are no classes then
    recording, result = read_own(source)
    assert (recording.class_names, {clip.label for clip in result}) == ([], {-1})


def test_a_zip_has_the_same_names_and_classes_as_its_folder(tmp_path):
    clips = {"x/walk/a": clip_of(1), "x/run/a": clip_of(2)}
    folder = write_clips(tmp_path / "mine", clips, ".npy")
    for source in (folder, zip_folder(folder)):
        recording, result = read_own(source)
        assert recording.class_names == ["run", "walk"]
        assert [(clip.name, clip.label) for clip in result] == [("run/a", 0), ("walk/a", 1)]
        labels = tmp_path / "labels.csv"
        labels.write_text("x/walk/a.npy,A\nrun/a,B\n")  # a path or its end
        recording, result = read_own(source, labels=labels)
        assert [(clip.name, clip.label) for clip in result] == [("run/a", 1), ("walk/a", 0)]


def test_labels_from_a_csv(tmp_path):
    names = ["s1/a", "s1/b", "s2/a", "s2/c"]
    source = write_clips(tmp_path / "mine", dict.fromkeys(names, clip_of(1)), ".csv")
    labels = source / "labels.csv"  # beside the clips, where people keep it
    labels.write_text("label, name, subject, fold\nrun, s1/a.csv, 1, 0\nwalk, b, 1, 1\n, s2/a, 2, 1\n\n")
    recording, result = read_own(source, labels=labels)
    assert recording.class_names == ["run", "walk"]
    assert recording.splits == {"fold": Split("fold", (0,))}
    assert [(c.name, c.label, c.subject, c.fold, c.camera) for c in result] == [
        ("s1/a", 0, 1, 0, -1), ("s1/b", 1, 1, 1, -1), ("s2/a", -1, 2, 1, -1), ("s2/c", -1, -1, -1, -1),
    ]  # fmt: skip


def test_numbers_as_labels_keep_their_order(tmp_path):
    source = tmp_path / "x.npy"
    np.save(source, np.stack([clip_of(2)] * 3))
    labels = tmp_path / "labels.csv"
    labels.write_text("0,10\n1,9\n2,10\n")
    recording, result = read_own(source, labels=labels)
    assert (recording.class_names, [clip.label for clip in result]) == (["9", "10"], [1, 0, 1])
    assert recording.splits == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no labels"),
        ("a\n", "line 1: 1 values, expected 2: name, label"),
        ("a,walk\na,run\n", "line 2: clip 'a' stands twice"),
        ("a,walk\na.csv,run\n", "line 2: clip 'a' stands twice"),
        (",walk\n", "line 1: has no clip name"),
        ("name,class\na,walk\n", "line 1: columns name, class, expected name, label and"),
        ("name,label,label\na,walk,run\n", "line 1: columns"),
        ("name,label,subject\na,walk,x\n", "line 2: subject 'x' is not a whole number"),
        ("name,label,subject\na,walk,-1\n", "line 2: subject '-1' is not a whole number"),
        ("label,subject\nwalk,1\n", "line 1: columns label, subject, expected name, label"),
        ("name,label\na,walk,1\n", "line 2: 3 values, expected 2"),
        ("other,walk\n", "labels none of the 1 clips: it names 'other', but the source 'a'"),
    ],
)
def test_malformed_labels_name_file_and_line(tmp_path, content, message):
    source = write_clips(tmp_path / "mine", {"a": clip_of(1)}, ".npy")
    labels = tmp_path / "labels.csv"
    labels.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_own(source, labels=labels)
    assert str(labels) in str(caught.value)


def test_labels_that_cannot_be_read(tmp_path):
    source = write_clips(tmp_path / "mine", {"a": clip_of(1)}, ".npy")
    (tmp_path / "bad.csv").write_bytes(b"a,\xff\n")
    for labels in (tmp_path / "absent.csv", tmp_path / "bad.csv"):
        with pytest.raises(DataError, match="cannot read the labels"):
            read_own(source, labels=labels)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 17, 3), "probably --joints coco17"),
        ((4, 2, 25, 3), "probably --joints ntu25"),
        ((4, 33, 2), "probably --joints mediapipe33"),
        ((4, 18, 3), "probably --joints openpose18"),
        ((4, 60), "probably --joints kinect20"),
        ((4,), r"--joints NAME"),
        ((4, 19, 3), r"--joints NAME \(ntu25, .*\) or FILE\.toml"),
    ],
)
def test_without_a_joint_layout_the_likely_one_is_proposed(tmp_path, shape, message):
    source = write_clips(tmp_path / "mine", {"a": np.zeros(shape)}, ".npy")
    with pytest.raises(ConfigError, match=message) as caught:
        read_own(source, joints=None)
    assert "\n" not in str(caught.value)


def test_a_layout_of_ones_own(tmp_path):
    description = tmp_path / "stick.toml"
    description.write_text(
        'joints = ["hip", "chest", "l", "r"]\nbones = [["chest", "hip"]]\nmirror = [["l", "r"]]\n'
        'center = ["hip"]\nspine_top = ["chest"]\nhips = ["l", "r"]\n'
    )
    source = write_clips(tmp_path / "mine", {"a": clip_of(2, joints=4)}, ".csv")
    recording, _ = catalog.open_recording("mine", source, joints=str(description))
    (clip,) = recording.clips
    assert (recording.layout.name, clip.coords.shape) == ("stick", (2, 1, 4, 3))


def with_value(value):
    clip = clip_of(3)
    clip[2, 5, 1] = value
    return clip


@pytest.mark.parametrize(
    ("suffix", "clip", "message"),
    [
        (".npy", with_value(np.nan), "nan at frame 2, body 0, joint 'shoulder_left', coordinate y"),
        (".csv", with_value(np.nan), "nan at frame 2, body 0, joint 'shoulder_left', coordinate y"),
        (".json", with_value(-np.inf), "-inf at frame 2, body 0, joint 'shoulder_left', coordinate y"),
        (".npz", with_value(1).astype(np.float64) * 1e300, "inf at frame 0"),
        (".npy", clip_of(2, joints=25), r"shape \(2, 25, 3\), expected \(frames, 17, 2 or 3\)"),
        (".npy", clip_of(2, dims=4), r"shape \(2, 17, 4\)"),
        (".npy", np.zeros((0, 17, 3)), r"shape \(0, 17, 3\) of float64 is no array of numbers"),
        (".npy", np.zeros((2, 40, 17, 3)), "makes 40 bodies a frame, expected 1 to 32"),
        (".npy", np.zeros((2, 17, 3), bool), "of bool is no array of numbers"),
        (".npy", np.full((2, 17, 3), "x"), "holds <U1, not numbers"),
        (".npy", np.zeros((2, 17, 3), complex), "of complex128 is no array of numbers"),
        (".csv", np.zeros((2, 50)), r"shape \(2, 50\), expected"),
    ],
)
def test_malformed_clips_name_file_frame_and_joint(tmp_path, suffix, clip, message):
    source = write_clips(tmp_path / "mine", {"good": clip_of(1), "bad": clip}, suffix)
    problems = []
    _, result = read_own(source, report=lambda problem: problems.append(str(problem)))
    assert [clip.name for clip in result] == ["good"]
    with pytest.raises(DataError, match=message):
        read_own(source)
    assert len(problems) == 1
    assert f"bad{suffix}" in problems[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", b"", "not a .npy array|cannot mmap an empty file"),
        ("x.npy", b"\x93NUMPY\x09\x00", "not a .npy array"),
        ("x.npz", b"PK", "cannot read this archive"),
        ("x.csv", b"", "has no frames"),
        ("x.csv", b"a,b,c\n", "has no frames"),
        ("x.csv", b"x,y\n1,2\n1,z\n", "line 3: 'z' is not a number"),
        ("x.csv", b"1,2\n1\n", "line 2: 1 numbers, expected 2"),
        ("x.json", b"{", "not a JSON clip"),
        ("x.json", b"{}", "an object with nothing, expected x and y"),
        ("x.json", b'[[["1", "2"]]]', "text '1' in place of a number"),
        ("x.json", b"[[[1, 2], [3]]]", "not a JSON clip"),
        ("x.json", b"[" * 100_000, "not a JSON clip"),
        ("x.json", b"[[[1" + b"0" * 400 + b", 2]]]", "not a JSON clip"),
        ("x.json", b"7", r"shape \(\), expected"),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_malformed_files_are_named(tmp_path, name, content, message, alone):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_own(folder / name if alone else folder)
    assert name in str(caught.value)


def test_arrays_of_objects_are_refused_unread(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    array = np.array([Bomb(), None], dtype=object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    np.savez(tmp_path / "x.npz", data=array)
    np.savez(tmp_path / "y.npz", clip=array)
    for name in ("x.npy", "x.npz", "y.npz"):
        with pytest.raises(DataError, match="holds Python objects, not numbers"):
            read_own(tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.zeros((2, 3, 17, 3)), "lengths": [1]}, r"lengths has shape \(1,\)"),
        ({"data": np.zeros((2, 3, 17, 3)), "lengths": [1, 4]}, r"lengths\[1\] is 4, expected 1 to 3"),
        ({"data": np.zeros((2, 3, 17, 3)), "lengths": [0, 1]}, r"lengths\[0\] is 0, expected 1 to 3"),
        ({"data": np.zeros((2, 3, 17, 3)), "lengths": [1.0, 2.0]}, "lengths has shape .* of float64"),
        ({"data": np.zeros((2, 3, 17, 3)), "labels": [[1, 2]]}, r"labels has shape \(1, 2\)"),
        ({"data": np.zeros((2, 3, 17, 3)), "label": [1, 2]}, "beside `data` stand label, expected"),
        ({"data": np.zeros((3, 17, 3))}, r"data: shape \(3, 17, 3\), expected \(clips, frames"),
        ({"a": np.zeros((100, 40, 17, 3))}, "makes 40 bodies a frame"),
    ],
)
def test_malformed_archives(tmp_path, arrays, message):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        read_own(path)


def test_headers_that_promise_too_much_and_zip_bombs(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, clip_of(2))
    path.write_bytes(path.read_bytes().replace(b"(2, 17, 3), }     ", b"(200000, 17, 3), }"))
    with pytest.raises(DataError, match=r"makes \d+ bytes, but there are \d+: cut short"):
        read_own(path)
    np.savez_compressed(tmp_path / "x.npz", clip=np.zeros((1 << 18, 17, 3)))
    with pytest.raises(DataError, match="a zip bomb"):
        read_own(tmp_path / "x.npz")


def test_other_sources_are_not_recognised(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert own.recognise(tmp_path) is None
    assert own.recognise(tmp_path / "notes.txt") is None
    assert own.recognise(tmp_path / "absent.npy") is None
    (tmp_path / "a01_s01_e00_v01.json").write_text("{}")
    assert find_reader(tmp_path)[0].name == "ucla"
