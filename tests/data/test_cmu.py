import re

import numpy as np
import pytest

from crrl_fast.data import catalog
from crrl_fast.data.info import Split
from crrl_fast.data.layouts import CMU31
from crrl_fast.data.readers import cmu, find_reader
from crrl_fast.data.readers.asf import parse_motion, parse_skeleton, rotation
from crrl_fast.data.store import Store
from crrl_fast.errors import DataError
from tests.data.foreign_own import read_clips, write_cmu, zip_folder

METRES = 0.0254 / 0.45  # the database's own statement: lengths are inches over 0.45


def turn(vector, axis, degrees):
    """Rotate a vector about a unit axis, right-handed (Rodrigues)."""
    angle = np.radians(degrees)
    return (
        vector * np.cos(angle)
        + np.cross(axis, vector) * np.sin(angle)
        + axis * np.dot(axis, vector) * (1 - np.cos(angle))
    )


def positions_of(asf, frame):
    """State the kinematics without a matrix: a bone's vector is turned about its own axes, then its ancestors'.

    ``frame`` is the text of one frame of an AMC; returns {joint: position in metres}.
    """
    bones = {}
    for block in re.findall(r"begin\s+id.*?end", asf, re.DOTALL):
        text = dict(re.findall(r"^\s*(name|direction|length|axis|dof)\s+(.*?)\s*$", block, re.MULTILINE))
        angles = [float(word) for word in text["axis"].split()[:3]]
        own_axes = np.eye(3)
        for world_axis, degrees in zip(np.eye(3), angles, strict=True):
            own_axes = np.array([turn(own_axis, world_axis, degrees) for own_axis in own_axes])
        offset = np.array(text["direction"].split(), float) * float(text["length"]) * METRES
        bones[text["name"]] = offset, dict(zip("xyz", own_axes, strict=True)), text.get("dof", "").split()
    bones["root"] = np.zeros(3), dict(zip("xyz", np.eye(3), strict=True)), ["tx", "ty", "tz", "rx", "ry", "rz"]
    parent = {
        child: line.split()[0]
        for line in asf.split(":hierarchy")[1].splitlines()
        for child in line.split()[1:]
    }  # fmt: skip
    values = {line.split()[0]: [float(word) for word in line.split()[1:]] for line in frame.splitlines()}
    result = {}
    for name in bones:
        point, bone = np.zeros(3), name
        while bone is not None:  # from the far end to the root: each turns all that hangs on it
            offset, axes, dof = bones[bone]
            point = point + offset
            for channel, degrees in zip(dof, values.get(bone, []), strict=True):
                if channel[0] == "r":
                    point = turn(point, axes[channel[1]], degrees)
            bone = parent.get(bone)
        result[name] = point + np.array(values["root"][:3]) * METRES
    return result


def frames_of(amc):
    text = amc.replace("\r", "")
    return re.split(r"^\d+\n", text, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("subject_trial", ["02/02_01", "03/03_01"])
def test_real_motion_is_what_the_kinematics_say(real_data, subject_trial):
    folder = real_data("cmu")
    subject, trial = subject_trial.split("/")
    asf = (folder / subject / f"{subject}.asf").read_text()
    frames = frames_of((folder / subject / f"{trial}.amc").read_text())
    recording, _ = catalog.open_recording("cmu", folder)
    clip = next(clip for clip in recording.clips if clip.name == trial)
    assert len(clip.coords) == -(-len(frames) // 4)
    for kept in (0, 10, len(clip.coords) - 1):
        expected = positions_of(asf, frames[4 * kept])
        for joint, position in zip(CMU31.joints, clip.coords[kept, 0], strict=True):
            np.testing.assert_allclose(position, expected[joint], atol=1e-5)


def test_real_motions_are_plausible(real_data):
    folder = real_data("cmu")
    recording, found = catalog.open_recording("cmu", folder)
    clips = {clip.name: clip for clip in recording.clips}
    assert "4 motions of 2 skeletons" in found
    assert list(clips) == ["02_01", "02_03", "02_04", "03_01"]
    assert (recording.fps, recording.count, recording.class_names) == (30, 4, [])
    assert [(clip.subject, clip.replication) for clip in clips.values()] == [(2, 1), (2, 3), (2, 4), (3, 1)]
    for clip in clips.values():
        coords = clip.coords[:, 0].astype(np.float64)
        asf = (folder / clip.name[:2] / f"{clip.name[:2]}.asf").read_text()
        lengths = dict(
            zip(re.findall(r"name (l\w+|r\w+|\w+)", asf)[1:], re.findall(r"length ([\d.]+)", asf)[1:], strict=True)
        )
        for child, parent in CMU31.bones:
            bone = np.linalg.norm(coords[:, child] - coords[:, parent], axis=1)
            np.testing.assert_allclose(bone, float(lengths[CMU31.joints[child]]) * METRES, rtol=1e-4, atol=1e-6)
        assert 1.3 < np.ptp(coords[..., 1], axis=1).max() < 2.0  # height to the top of the head bone
        # Nothing moves faster than 10 m/s between frames at 30 a second.
        assert np.linalg.norm(np.diff(coords, axis=0), axis=-1).max() < 10 / 30
    for name in ("02_01", "02_03"):  # a walk and a run on the flat laboratory floor
        assert abs(clips[name].coords[..., 1].min()) < 0.03


def test_real_walk_faces_where_it_goes_with_its_left_on_the_left(real_data):
    recording, _ = catalog.open_recording("cmu", real_data("cmu"))
    coords = next(recording.clips).coords[:, 0].astype(np.float64)
    left, right = CMU31.hips
    forward = np.cross(coords[:, left] - coords[:, right], CMU31.torso_of(coords))
    way = coords[-1, 0] - coords[0, 0]
    assert np.linalg.norm(way) > 1
    assert np.all(forward @ way > 0)


@pytest.mark.parametrize("as_zip", [False, True])
def test_made_up_motions(tmp_path, as_zip):
    folder = write_cmu(tmp_path / "cmu", {"05_02": 9, "05_10": 4, "12_01": 5})
    source = zip_folder(folder) if as_zip else folder
    assert find_reader(source)[0] is cmu.READER
    _, clips = read_clips("cmu", source)
    assert [(clip.name, len(clip.coords), clip.subject) for clip in clips] == [
        ("05_02", 3, 5), ("05_10", 1, 5), ("12_01", 2, 12),
    ]  # fmt: skip
    for clip in clips:
        asf = (folder / clip.name[:2] / f"{clip.name[:2]}.asf").read_bytes().decode()
        frames = frames_of((folder / clip.name[:2] / f"{clip.name}.amc").read_bytes().decode())
        for kept, coords in enumerate(clip.coords):
            expected = positions_of(asf.replace("\r", ""), frames[4 * kept])
            np.testing.assert_allclose(coords[0], [expected[joint] for joint in CMU31.joints], atol=1e-5)


def test_channels_and_axes_in_another_order(tmp_path):
    folder = write_cmu(tmp_path / "cmu", {"05_02": 1})
    asf = (folder / "05" / "05.asf").read_bytes()
    amc = (folder / "05" / "05_02.amc").read_bytes()
    skeleton = parse_skeleton("x", asf)
    turned = parse_skeleton("x", asf.replace(b"XYZ", b"ZYX").replace(b"TX TY TZ RX RY RZ", b"RZ RY RX TZ TY TX"))
    head = asf.decode().split("name head")[1].split("axis")[1].split()[:3]
    x, y, z = (rotation(axis, np.radians(float(angle))) for axis, angle in zip("xyz", head, strict=True))
    np.testing.assert_allclose(skeleton.bones["head"].axes, z @ y @ x)
    np.testing.assert_allclose(turned.bones["head"].axes, x @ y @ z)
    motion = parse_motion("x", amc, skeleton)
    place, (rx, ry, rz) = motion["root"][0, :3], np.radians(motion["root"][0, 3:])
    motion["root"] = motion["root"][:, [5, 4, 3, 2, 1, 0]]
    root, hip = turned.positions(motion)[0, :2]
    np.testing.assert_allclose(root, place * METRES)
    order = rotation("x", rx) @ rotation("y", ry) @ rotation("z", rz)
    np.testing.assert_allclose(hip - root, order @ turned.bones["lhipjoint"].offset)


def test_radians(tmp_path):
    folder = write_cmu(tmp_path / "cmu", {"05_02": 1})
    asf, amc = folder / "05" / "05.asf", folder / "05" / "05_02.amc"
    amc.write_bytes(amc.read_bytes().replace(b":DEGREES", b":RADIANS"))
    with pytest.raises(DataError, match="its angles are in radians, its skeleton's are not"):
        read_clips("cmu", folder)
    asf.write_bytes(asf.read_bytes().replace(b"angle deg", b"angle rad"))
    read_clips("cmu", folder)


def test_labels_and_folds(tmp_path):
    trials = {f"{subject:02d}_{trial:02d}": 1 for subject in (1, 2) for trial in range(1, 11)}
    source = write_cmu(tmp_path / "cmu", trials)
    rows = [f"{name}.amc,{'run' if name.endswith(('1', '2')) else 'walk'}" for name in trials if name != "02_10"]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["file,label", *reversed(rows)]))
    skipped = []
    recording, clips = read_clips("cmu", source, labels=labels, skip=lambda *args: skipped.append(args))
    assert recording.class_names == ["run", "walk"]
    assert skipped == [("02_10", f"not listed in {labels}")]
    assert [clip.label for clip in clips[:3]] == [0, 0, 1]
    assert list(recording.splits) == ["fold0", "fold1", "fold2", "fold3"]
    assert recording.splits["fold2"] == Split("fold", (0, 1, 3))
    for label in (0, 1):
        counts = np.bincount([clip.fold for clip in clips if clip.label == label], minlength=4)
        assert np.ptp(counts) <= 1
    again, _ = catalog.open_recording("cmu", zip_folder(source), labels=labels)
    store = Store.from_recording(again, dataset="cmu")
    assert store.fold.tolist() == [clip.fold for clip in clips]
    test_parts = [set(store.split(name)[1].tolist()) for name in recording.splits]
    assert sorted(i for part in test_parts for i in part) == list(range(19))


INDEX = """Carnegie-Mellon Graphics Lab Motion Capture Database
  v1.00 last update July 20, 2008

Subject #2 (various expressions and human behaviors)

02_01\twalk
02_03\trun/jog
02_04\tjump, balance
02_05\tpunch/strike

Subject #3 (walk on uneven terrain)

03_01\twalk on uneven terrain
"""


def test_real_trials_with_the_index_text(tmp_path, real_data):
    index = tmp_path / "cmu-mocap-index-text.txt"
    index.write_text(INDEX)
    recording, _ = catalog.open_recording("cmu", real_data("cmu"), labels=index)
    clips = list(recording.clips)
    assert recording.class_names == ["jump, balance", "run/jog", "walk", "walk on uneven terrain"]
    assert [recording.class_names[clip.label] for clip in clips] == [
        "walk", "run/jog", "jump, balance", "walk on uneven terrain",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("05.asf", b":bonedata", b":bones", "no section ':bonedata'"),
        ("05.asf", b"length 0.45", b"length 0", "line 6: unit of length 0.0"),
        ("05.asf", b"length 0.45", b"length x", "line 6: 'length x', expected 'length' and 1 numbers"),
        ("05.asf", b"TX TY TZ", b"TX TY", "root order tx ty rx ry rz"),
        ("05.asf", b"order TX", b"ordre TX", "the root has no `order`"),
        ("05.asf", b"position 0 0 0", b"position 0 1 0", "line 13: a root that is moved or turned at rest"),
        ("05.asf", b"name head", b"name thorax", "bone name 'thorax' is empty or stands twice"),
        ("05.asf", b"     name head", b"", "the bone that ends here has no `name`"),
        ("05.asf", b"dof rx ry rz", b"dof rx ry l", "dof rx ry l, expected rx, ry and rz"),
        ("05.asf", b" XYZ\r\n  end", b" XYY\r\n  end", "axis order 'xyy'"),
        ("05.asf", b"upperneck head", b"upperneck", "bone 'head' does not hang on the root"),
        ("05.asf", b"upperneck head", b"upperneck head thorax", "bone 'thorax' has two parents"),
        ("05.asf", b"lhand lfingers", b"lwrist lfingers", "bone 'lfingers' hangs on 'lwrist', in CMU's .* 'lhand'"),
        ("05.asf", b"name lthumb", b"name pinky", "bone 'pinky' does not hang on the root"),
        ("05_02.amc", b"\r\nhead ", b"\r\nhat ", "line 4: its first frame has no head"),
        ("05_02.amc", b"\r\n2\r\n", b"\r\n", "expected a frame's number"),
        ("05_02.amc", b"\r\n2\r\nroot", b"\r\n2\r\nrot", "expected 'root' and angles"),
        ("05_02.amc", b"\r\n2\r\nroot ", b"\r\n2\r\nroot 1 ", r"line 3\d: 7 numbers, expected 6"),
        ("05_02.amc", b"\r\n2\r\nroot ", b"\r\n2\r\nroot x", r"line 3\d: 'x.* is not a number"),
        ("05_02.amc", b":DEGREES\r\n1", b":DEGREES\r\n", "line 4: "),
    ],
)
def test_malformed_files_name_file_and_fault(tmp_path, file, old, new, message):
    source = write_cmu(tmp_path / "cmu", {"05_02": 3})
    path = source / "05" / file
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        read_clips("cmu", source)
    assert file in str(caught.value)


def test_motions_cut_short_misnamed_or_without_a_skeleton(tmp_path):
    source = write_cmu(tmp_path / "cmu", {"05_02": 3, "06_01": 1})
    path = source / "05" / "05_02.amc"
    whole = path.read_bytes()
    for content, message in [
        (whole[: whole.rindex(b"rthumb")], r"line \d+: the file ends within a frame"),
        (b"", "its first frame has no"),
        (b":DEGREES\r\n", "its first frame has no"),
        (re.sub(rb"root \S+", b"root nan", whole), "frame 1: a number that is not finite, .* joint 'root' nowhere"),
        (re.sub(rb"root \S+", b"root 1e99", whole), "frame 1: a number that is not finite"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_clips("cmu", source)
    path.write_bytes(whole)
    path.rename(source / "05" / "walk.amc")
    problems = []
    _, clips = read_clips("cmu", source, report=lambda problem: problems.append(str(problem)))
    assert [clip.name for clip in clips] == ["06_01"]
    assert "the name is not SUBJECT_TRIAL.amc" in problems[0]
    (source / "06" / "06.asf").unlink()
    read_clips("cmu", source, report=lambda problem: problems.append(str(problem)))
    assert "06_01.amc: its skeleton 06.asf is not in the source" in problems[-1]
