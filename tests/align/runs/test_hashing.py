import os
import time

import pytest

from align.runs import hashing
from align.runs.hashing import HashCache, file_hash, folder_files, path_hash, value_hash

LONG_AGO = time.time() - 60


def old(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def test_a_value_hashes_the_same_whatever_the_order_of_its_keys():
    assert value_hash({"a": 1, "b": [1, 2]}) == value_hash({"b": [1, 2], "a": 1})
    assert value_hash({"a": [1, 2]}) != value_hash({"a": [2, 1]})
    assert value_hash({"a": 1}) != value_hash({"a": "1"})


def test_a_folder_hashes_by_names_and_contents_not_by_its_place(tmp_path):
    for name in ("one", "two"):
        old(tmp_path / name / "model" / "w", "weights")
        old(tmp_path / name / ".cache", name)
    assert path_hash(tmp_path / "one", HashCache()) == path_hash(tmp_path / "two", HashCache())
    (tmp_path / "two" / "model" / "w").rename(tmp_path / "two" / "model" / "v")
    assert path_hash(tmp_path / "one", HashCache()) != path_hash(tmp_path / "two", HashCache())
    assert [p.name for p in folder_files(tmp_path / "one")] == ["w"]


@pytest.fixture
def settled(monkeypatch):
    """Files are remembered at once: a time of change cannot be set back."""
    monkeypatch.setattr(hashing, "SETTLED_SECONDS", -1.0)


def test_the_cache_answers_until_a_file_changes(tmp_path, settled):
    path = old(tmp_path / "a", "one")
    cache = HashCache(tmp_path / "cache.json")
    assert cache.fact("sha256", path, lambda _: "computed") == "computed"
    cache.save()
    again = HashCache(tmp_path / "cache.json")
    assert again.file(path) == "computed"  # not read again
    path.write_text("two")
    assert again.file(path) == file_hash(path)


def test_a_file_of_the_same_size_and_date_with_other_bytes_is_read_again(tmp_path, settled):
    path = old(tmp_path / "a", "one")
    cache = HashCache()
    before = cache.file(path)
    time.sleep(0.02)  # more than a tick of the file system's clock
    old(path, "two")
    assert cache.file(path) == file_hash(path) != before


def test_what_is_asked_again_is_read_and_then_known(tmp_path, settled):
    path = old(tmp_path / "a", "one")
    cache = HashCache(tmp_path / "cache.json")
    cache.fact("sha256", path, lambda _: "wrong")
    assert cache.file(path) == "wrong"
    assert cache.file(path, again=True) == file_hash(path)
    assert cache.file(path) == file_hash(path)


def test_a_wrong_digit_in_the_cache_makes_it_forget_everything(tmp_path, settled):
    path, place = old(tmp_path / "a", "one"), tmp_path / "cache.json"
    cache = HashCache(place)
    cache.file(path)
    cache.save()
    right = file_hash(path)
    wrong = right.replace(right[0], "0" if right[0] != "0" else "1")
    assert right in place.read_text()
    place.write_text(place.read_text().replace(right, wrong))
    assert HashCache(place).file(path) == right


def test_a_file_changed_just_now_is_not_remembered(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    cache = HashCache(tmp_path / "cache.json")
    cache.file(path)
    cache.save()
    assert not (tmp_path / "cache.json").exists()
    old(tmp_path / "b", "copied with its date, just now")
    cache.file(tmp_path / "b")
    cache.save()
    assert not (tmp_path / "cache.json").exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "\x00", '{"sha256 x": 3}', "[" * 9999, '{"facts": []}']
)
def test_a_damaged_cache_only_costs_time(tmp_path, content):
    (tmp_path / "cache.json").write_text(content)
    path = old(tmp_path / "a", "one")
    assert HashCache(tmp_path / "cache.json").file(path) == file_hash(path)
