import pytest

from crrl_fast.data import catalog
from crrl_fast.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CRRL_DATA", str(tmp_path))
    return tmp_path


def test_demo_is_generated_once_and_kept(folder):
    store, path = catalog.open_data("demo")
    assert path == folder / "demo.safetensors"
    written = path.stat().st_mtime_ns
    again, _ = catalog.open_data("demo")
    assert path.stat().st_mtime_ns == written
    assert store.info == again.info
    train, test = store.split()
    assert len(train) > len(test) > 0


def test_demo_is_made_anew_where_its_store_cannot_be_read(folder):
    (folder / "demo.safetensors").write_bytes(b"of another version")
    store, _ = catalog.open_data("demo")
    assert len(store) == 960


def test_stores_are_found_by_name_and_by_path(folder, tiny_store):
    tiny_store.save(folder / "ntu60.safetensors")
    by_name, _ = catalog.open_data("ntu60")
    by_path, _ = catalog.open_data(str(folder / "ntu60.safetensors"))
    assert by_name.info == by_path.info == tiny_store.info


def test_missing_data_says_how_to_get_it(folder):
    with pytest.raises(DataError, match="crrl-fast prepare ucla SOURCE"):
        catalog.open_data("ucla")
    with pytest.raises(DataError, match="'nope'.*demo, ucla"):
        catalog.open_data("nope")
    with pytest.raises(DataError, match="no such file"):
        catalog.open_data(str(folder / "absent.safetensors"))


def test_prepare_refuses_what_it_cannot_read(folder):
    with pytest.raises(DataError, match=r"no reader recognises it; name its layout with --layout"):
        catalog.prepare("kinetics", folder)
    with pytest.raises(ConfigError, match="unknown layout 'kinetics'"):
        catalog.open_recording("mine", folder, layout="kinetics")
    with pytest.raises(ConfigError, match="needs a SOURCE"):
        catalog.prepare("ucla", None)
    with pytest.raises(ConfigError, match="takes no SOURCE"):
        catalog.prepare("demo", folder)
