import zipfile

import numpy as np
import pytest

from crrl_fast import _ext
from crrl_fast.data import catalog
from crrl_fast.data.preparation import Findings, check
from crrl_fast.data.readers import ntu
from crrl_fast.data.readers.ntu import plain
from crrl_fast.data.readers.ntu.protocol import NTU60, NTU120, load_missing
from crrl_fast.errors import DataError
from tests.data.ntu_files import FIRST_ID, ntu_text, standing, write_ntu
from tests.fuzz.damage import damaged_files
from tests.property_based import given, settings, st

NAME = "S001C002P003R001A004.skeleton"


def native(content):
    if _ext.module is None:
        pytest.skip("no compiled module")
    return _ext.module.parse_ntu_skeleton(content)


def outcome(parse, content):
    """Return the arrays, or the message."""
    try:
        return parse(content)
    except ValueError as error:
        return str(error)


def assert_same(content):
    """Both parsers make the same of ``content``; return what."""
    one, other = outcome(native, content), outcome(plain.parse_ntu_skeleton, content)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        for mine, theirs in zip(one, other, strict=True):
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
            assert mine.tobytes() == theirs.tobytes()
    return one


def read_all(source, dataset="ntu60", **options):
    findings = Findings()
    recording, _ = catalog.open_recording(dataset, source, skip=findings.skip, **options)
    return {clip.name: clip for clip in recording.clips}, findings


def read_one(tmp_path, text, **options):
    folder = tmp_path / "raw"
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_text(text, newline="")
    clips, findings = read_all(folder, **options)
    return clips[NAME[:20]].coords if clips else findings


def frames_of(length, **bodies):
    """Return frames from ``name=(first frame, joints)``; ids grow with the order of the names."""
    frames = [{} for _ in range(length)]
    for body, (first, joints) in enumerate(bodies.values()):
        for t, pose in enumerate(joints):
            frames[first + t][FIRST_ID + body] = pose
    return frames


def test_real_files_parse_alike_in_both_parsers(real_data):
    for path in sorted(real_data("ntu_raw").iterdir()):
        bodies, ids, joints = assert_same(path.read_bytes())
        assert len(ids) == len(joints) == bodies.sum()


def test_real_files_as_ntu60_and_ntu120(real_data):
    clips, findings = read_all(real_data("ntu_raw"))
    assert len(clips) == 17
    assert findings.skipped == {
        ntu.MISSING: 1,
        "of actions above 60, which NTU RGB+D 60 does not have": 8,
    }
    assert list(clips) == sorted(clips)
    first = clips["S001C001P001R001A001"]
    assert first.coords.shape == (103, 2, 25, 3)
    assert first.coords[0, 0, 0].tolist() == np.float32([0.2181153, 0.1725972, 3.785547]).tolist()
    assert not first.coords[:, 1].any()
    clip = clips["S017C003P020R002A050"]
    assert (clip.label, clip.subject, clip.camera, clip.setup, clip.replication) == (49, 20, 3, 17, 2)
    assert clip.coords[:, 1].any(axis=(1, 2)).all()
    clips, findings = read_all(real_data("ntu_raw"), "ntu120")
    assert len(clips) == 25
    assert findings.skipped == {ntu.MISSING: 1}


def test_real_file_whose_body_changes_its_id(real_data):
    clips, _ = read_all(real_data("ntu_raw"))
    # 55 frames; in the first the body has another id, and a track of one frame is noise.
    assert clips["S005C002P004R001A023"].coords.shape == (54, 2, 25, 3)
    coming = clips["S017C003P020R002A059"].coords
    assert coming.any(axis=(2, 3)).sum(axis=0).tolist() == [111, 32]


def test_real_truncated_file_is_named_with_its_line(real_data):
    with pytest.raises(DataError, match=r"S005C002P013R002A056\.skeleton, line 2086: a joint has 11 columns"):
        read_all(real_data("ntu_truncated"))
    findings = Findings()
    recording, _ = catalog.open_recording("ntu60", real_data("ntu_truncated"), report=findings.report)
    check(recording, findings, dataset="ntu60")
    assert (findings.taken, len(findings.problems)) == (0, 1)


def test_missing_samples_are_the_official_ones(real_data):
    def official(name):
        return {line.strip() for line in real_data(name).read_text().splitlines() if line.startswith("S0")}

    missing = load_missing()
    assert missing == official("NTU_RGBD120_samples_with_missing_skeletons.txt")
    of_60 = {name for name in missing if int(name[1:4]) <= 17}
    assert of_60 == official("NTU_RGBD_samples_with_missing_skeletons.txt")
    assert (len(of_60), len(missing)) == (302, 535)
    assert all(int(name[-3:]) <= 60 for name in of_60)


def test_splits_and_classes_of_both_editions():
    assert [len(edition.class_names) for edition in (NTU60, NTU120)] == [60, 120]
    assert len(set(NTU120.class_names)) == 120
    assert (NTU60.class_names[42], NTU120.class_names[119][:14]) == ("falling", "finger-guessin")
    assert {name: (split.field, len(split.train)) for name, split in NTU60.splits.items()} == {
        "xsub": ("subject", 20),
        "xview": ("camera", 2),
    }
    assert {name: (split.field, len(split.train)) for name, split in NTU120.splits.items()} == {
        "xsub": ("subject", 53),
        "xset": ("setup", 16),
    }
    old, new = NTU60.splits["xsub"].train, NTU120.splits["xsub"].train
    assert sorted({*range(1, 41)} - {*old}) == [
        *(3, 6, 7, 10, 11, 12, 20, 21, 22, 23, 24, 26, 29, 30, 32, 33, 36, 37, 39, 40)  # the paper's test subjects
    ]
    assert [subject for subject in new if subject <= 40] == list(old)  # the 120's protocol extends the 60's
    assert (sorted({*new}), max(new)) == (list(new), 103)


def test_a_name_of_ones_own_goes_by_what_the_files_hold(tmp_path):
    for action, classes in ((4, 60), (61, 120)):
        write_ntu(tmp_path / f"S001C001P001R001A{action:03}.skeleton", standing(3)[:, None])
        recording, found = catalog.open_recording("mine", tmp_path)
        assert len(recording.class_names) == classes
    assert (found, recording.count, recording.fps) == ("NTU RGB+D: 2 raw skeleton files", 2, 30.0)


def test_written_clips_come_back_exactly(tmp_path):
    clip = np.stack([standing(30, 1.0), standing(30, 0.5, seed=1)], axis=1)
    clip[12:15, 1] = 0
    clip[20:22] = 0
    for newline in ("\n", "\r\n"):
        write_ntu(tmp_path / NAME, clip, newline)
        for workers in (1, 3):
            clips, _ = read_all(tmp_path, workers=workers)
            assert np.array_equal(clips[NAME[:20]].coords, clip)


def test_folder_and_zip_and_any_number_of_workers_give_the_same_clips(tmp_path):
    folder = tmp_path / "raw"
    (folder / "b").mkdir(parents=True)
    names = [f"{'b/' * (i % 2)}S001C001P{i:03}R001A001.skeleton" for i in range(40)]
    for i, name in enumerate(names):
        write_ntu(folder / name, standing(i % 5 + 1, seed=i)[:, None])
    (folder / "b/S001C001P090R001A001.skeleton").write_text("1\n0\n")
    archive = tmp_path / "raw.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*.skeleton"), reverse=True):
            file.write(path, path.relative_to(folder))
    expected, findings = read_all(folder, workers=1)
    assert list(expected) == [name[-29:-9] for name in sorted(names)]
    assert findings.skipped == {ntu.EMPTY: 1}
    for source in (folder, archive):
        clips, findings = read_all(source, workers=4)
        assert list(clips) == list(expected)
        assert findings.skipped == {ntu.EMPTY: 1}
        for name, clip in clips.items():
            assert np.array_equal(clip.coords, expected[name].coords)


def test_without_the_compiled_module_the_plain_parser_reads(tmp_path, monkeypatch):
    text = ntu_text(frames_of(2, a=(0, standing(2))))
    expected = read_one(tmp_path, text)
    monkeypatch.setattr(ntu, "_parse", plain.parse_ntu_skeleton)
    assert np.array_equal(read_one(tmp_path, text), expected)


def test_nan_matters_in_xyz_alone(tmp_path):
    frames = frames_of(2, a=(0, standing(2)))
    expected = read_one(tmp_path, ntu_text(frames))
    assert np.array_equal(read_one(tmp_path, ntu_text(frames, rest="NaN nan NaN NaN -nan 1 0 NaN 2")), expected)
    frames[1][FIRST_ID] = frames[1][FIRST_ID].copy()
    frames[1][FIRST_ID][3, 1] = np.nan
    with pytest.raises(DataError, match=rf"{NAME}, line 36: y is 'nan', not a finite number: repair or remove"):
        read_one(tmp_path, ntu_text(frames))


def test_frames_without_a_body_go_at_the_ends_and_stay_inside(tmp_path):
    walk = standing(9)
    frames = [{}, {}, *({FIRST_ID: pose} for pose in walk[:4]), {}, *({FIRST_ID: pose} for pose in walk[4:]), {}]
    coords = read_one(tmp_path, ntu_text(frames))
    assert np.array_equal(coords[:, 0], np.concatenate([walk[:4], np.zeros((1, 25, 3)), walk[4:]]))
    assert not coords[:, 1].any()


@pytest.mark.parametrize("text", ["0\n", "2\n0\n0\n", ntu_text([{FIRST_ID: np.zeros((25, 3))}])])
def test_clips_without_a_body_are_left_out_and_counted(tmp_path, text):
    assert read_one(tmp_path, text).skipped == {ntu.EMPTY: 1}


def test_the_body_that_moves_more_comes_first(tmp_path):
    calm, lively = standing(20, 0.1), standing(20, 2.0, seed=1)
    coords = read_one(tmp_path, ntu_text(frames_of(20, a=(0, calm), b=(0, lively))))
    assert np.array_equal(coords, np.stack([lively, calm], axis=1))


def test_short_tracks_are_noise_unless_there_is_nothing_else(tmp_path):
    body, ghost = standing(12), standing(11, 9.0, seed=1)
    coords = read_one(tmp_path, ntu_text(frames_of(12, a=(0, body), b=(0, ghost))))
    assert np.array_equal(coords[:, 0], body)
    assert not coords[:, 1].any()
    coords = read_one(tmp_path, ntu_text(frames_of(11, a=(0, body[:11]), b=(0, ghost))))
    assert np.array_equal(coords, np.stack([ghost, body[:11]], axis=1))


def test_wide_bodies_are_furniture_unless_there_is_nothing_else(tmp_path):
    body, table = standing(20, 0.5), standing(20, 9.0, seed=1) * np.float32([9, 1, 1])
    coords = read_one(tmp_path, ntu_text(frames_of(20, a=(0, table), b=(0, body))))
    assert np.array_equal(coords[:, 0], body)
    assert not coords[:, 1].any()
    assert np.array_equal(read_one(tmp_path, ntu_text(frames_of(20, a=(0, table))))[:, 0], table)
    # Wide in half of its frames, it stays, but these do not count as motion.
    half = standing(20, 0.01, seed=2)
    half[::2] *= np.float32([99, 1, 1])
    coords = read_one(tmp_path, ntu_text(frames_of(20, a=(0, half), b=(0, body))))
    assert np.array_equal(coords, np.stack([body, half], axis=1))


def test_a_body_that_is_found_again_under_another_id_goes_on(tmp_path):
    before, after, other = standing(20), standing(15, 0.5, seed=1), standing(36, 2.0, seed=2)
    lone = read_one(tmp_path, ntu_text(frames_of(36, a=(0, before), b=(21, after))))
    assert np.array_equal(lone[:, 0], np.concatenate([before, np.zeros((1, 25, 3)), after]))
    assert not lone[:, 1].any()
    both = read_one(tmp_path, ntu_text(frames_of(36, a=(0, before), b=(21, after), c=(0, other))))
    assert np.array_equal(both[:, 0], other)
    assert np.array_equal(both[:, 1], lone[:, 0])


def test_a_third_body_at_the_same_time_is_left_out(tmp_path):
    bodies = [standing(20, motion, seed) for seed, motion in enumerate((1.0, 3.0, 2.0))]
    coords = read_one(tmp_path, ntu_text(frames_of(20, a=(0, bodies[0]), b=(0, bodies[1]), c=(0, bodies[2]))))
    assert np.array_equal(coords, np.stack([bodies[1], bodies[2]], axis=1))


def test_a_third_body_before_the_second_is_the_second(tmp_path):
    first, late, early = standing(60, 2.0), standing(30, 1.0, seed=1), standing(20, 0.5, seed=2)
    coords = read_one(tmp_path, ntu_text(frames_of(60, a=(0, first), b=(30, late), c=(0, early))))
    assert np.array_equal(coords[:, 0], first)
    assert np.array_equal(coords[:, 1], np.concatenate([early, np.zeros((10, 25, 3)), late]))


GOOD = ntu_text(frames_of(2, a=(0, standing(2)), b=(0, standing(2, seed=1))))


def changed(line, text):
    lines = GOOD.split("\n")
    lines[line - 1] = text
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the file ends after 0 of 0 frames"),
        ("2", "line 2: the file ends after 0 of 2 frames"),
        (GOOD[: GOOD.index("\n2\n", 9)] + "\n", "line 57: the file ends after 1 of 2 frames"),
        (changed(1, "1"), "line 57: there is more after the last of 1 frames"),
        (changed(1, "3"), "line 112: the file ends after 2 of 3 frames"),
        (changed(1, ""), "line 1: the number of frames has 0 columns, expected 1"),
        (changed(1, "two"), "line 1: the number of frames is 'two', not a whole number up to 1000000"),
        (changed(1, "1000001"), "line 1: the number of frames is '1000001', not a whole number up to 1000000"),
        (changed(1, "9" * 999), "line 1: the number of frames is '99999999999999999999...', not a whole number up to"),
        (changed(2, "-1"), "line 2: the number of bodies is '-1', not a whole number up to 64"),
        (changed(2, "65"), "line 2: the number of bodies is '65', not a whole number up to 64"),
        (changed(3, "1 2"), "line 3: a body has 2 columns, expected 10"),
        (
            changed(3, "x 0 1 1 1 1 0 0 0 2"),
            "line 3: the body id is 'x', not a whole number up to 1844674407370955161",
        ),
        (changed(30, GOOD.split("\n")[2]), f"line 30: body {FIRST_ID} stands twice in a frame"),
        (changed(4, "20"), "line 4: the body has 20 joints, expected 25"),
        (changed(5, "1 2 3"), "line 5: a joint has 3 columns, expected 12"),
        (changed(5, "1 2 nan 4 5 6 7 8 9 10 11"), "line 5: a joint has 11 columns, expected 12"),
        (changed(5, "1 2 nan 4 5 6 7 8 9 10 11 12"), "line 5: z is 'nan', not a finite number"),
        (changed(5, "1 \xff 3 4 5 6 7 8 9 10 11 12"), r"line 5: y is '\?\?', not a finite number"),
        (changed(5, "1e39 2 3 4 5 6 7 8 9 10 11 12"), "line 5: x is '1e39', not a finite number"),
    ],
)
def test_malformed_text_names_line_and_fault(tmp_path, text, message):
    assert_same(text.encode())
    with pytest.raises(DataError, match=message):
        read_one(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip.skeleton", "the name is not SsssCcccPpppRrrrAaaa.skeleton"),
        ("S001C002P003R001A000.skeleton", "action 0 is not one of 1 to 120"),
        ("S001C002P003R001A121.skeleton", "action 121 is not one of 1 to 120"),
    ],
)
def test_names_that_are_none(tmp_path, name, message):
    (tmp_path / name).write_text(GOOD)
    with pytest.raises(DataError, match=message) as caught:
        read_all(tmp_path, layout="ntu-raw")
    assert name in str(caught.value)


def test_a_file_too_large_for_a_clip_is_not_read(tmp_path):
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(1 << 29)  # sparse: it takes no disk
    with pytest.raises(DataError, match=rf"{NAME}: has 536870912 bytes, too large for a clip"):
        read_all(tmp_path)


def joint_line(number):
    return changed(5, f"{number} 2 3 4 5 6 7 8 9 10 11 12").encode()


@given(st.one_of(st.text("0123456789.eE+-_", max_size=24), st.text("0nifaINF(x)+-", max_size=8)))
@settings(max_examples=400)
def test_both_parsers_take_the_same_numbers(number):
    assert_same(joint_line(number))


@pytest.mark.parametrize(
    "number",
    [
        *("+1.5", "+-1", "-+1", "1_0", "0x1", ".5", "5.", ".", "-", "-0", "1e400", "1e-400", "1E-45", "3.4028235e38"),
        *("3.4028236e38", "9007199254740993", "999999999999999", "123456789012345.6", "0." + "0" * 61, "0." + "0" * 63),
    ],
)
def test_both_parsers_take_the_same_odd_numbers(number):
    assert_same(joint_line(number))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(["", ".7g", ".9g", ".3f", ".17g"]))
@settings(max_examples=400)
def test_numbers_are_rounded_as_python_and_numpy_do(value, form):
    number = format(value, form)
    parsed = assert_same(joint_line(number))
    if not isinstance(parsed, str):
        assert parsed[2][0, 0, 0].tobytes() == np.float32(float(number)).tobytes()


def test_damaged_files_end_in_clips_or_in_problems(tmp_path):
    contents = []

    @given(damaged_files(NAME, GOOD.encode()))
    @settings(max_examples=400)
    def parse(content):
        contents.append((content, not isinstance(assert_same(content), str)))

    parse()
    parsed = sum(is_good for _, is_good in contents)
    assert 0 < parsed < len(contents)
    for i, (content, _) in enumerate(contents):
        (tmp_path / f"S001C001P001R{i:03}A001.skeleton").write_bytes(content)
    findings = Findings()
    recording, _ = catalog.open_recording("ntu60", tmp_path, report=findings.report, skip=findings.skip)
    check(recording, findings, dataset="ntu60")
    assert findings.seen == recording.count == len(contents)
    assert findings.taken + findings.skipped.total() == parsed
    assert all(".skeleton, line " in problem for problem in findings.problems)
