"""Decoding with threads, and the decoded copy: complete or not used."""

import json
import logging
import os
import resource
import threading
import time

import numpy as np
import pytest
import torch

from fastadapt.data.images import decoded
from fastadapt.data.images.decode import decode_blocks
from fastadapt.data.images.decoded import read_decoded, room_for, write_decoded
from fastadapt.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (150, 5, 4, 3), dtype=np.uint8)


def blocks(images=IMAGES):
    return [images[first : first + 8] for first in range(0, len(images), 8)]


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "cache" / "copy.raw"
    write_decoded(path, blocks(), IMAGES.shape, {"names": ["a"]})
    return path


# ---- decoding


def test_blocks_come_in_the_order_of_the_keys_whatever_thread_is_slow():
    def read(row):
        time.sleep(0.02 if row % 64 == 0 and row < 128 else 0)  # the first blocks are ready last
        return IMAGES[row]

    order = np.random.default_rng(1).permutation(150).tolist()
    found = list(decode_blocks(order, read, "these"))
    assert [len(block) for block in found] == [64, 64, 22]
    assert np.array_equal(np.concatenate(found), IMAGES[order])


def test_everything_that_is_wrong_is_said_in_the_order_of_the_keys():
    def read(row):
        if row in (149, 70, 3):
            raise DataError(f"row {row} is bad")
        return IMAGES[row]

    with pytest.raises(DataError, match="these has 3 problems:\n  row 3 is bad\n  row 70 is bad\n  row 149 is bad"):
        list(decode_blocks(range(150), read, "these"))


def test_leaving_early_leaves_no_thread_behind_and_little_work_done():
    done = []

    def read(row):
        done.append(row)
        return IMAGES[0]

    running = decode_blocks(range(64_000), read, "these")
    next(running)
    running.close()
    assert len(done) < 64_000 / 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


# ---- the copy


def test_a_copy_is_what_was_written(copy):
    images, index = read_decoded(copy)
    assert torch.equal(images, torch.from_numpy(IMAGES)) and index["names"] == ["a"]
    assert copy.stat().st_size == IMAGES.nbytes
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy.json", "copy.raw"]


def test_writing_to_the_images_never_reaches_the_file(copy):
    images, _ = read_decoded(copy)
    images.zero_()
    again, _ = read_decoded(copy)
    assert torch.equal(again, torch.from_numpy(IMAGES))


def test_where_there_is_none_nothing_is_said(tmp_path, copy, caplog):
    assert read_decoded(tmp_path / "other.raw") is None
    copy.unlink()
    assert read_decoded(copy) is None
    assert not caplog.text


@pytest.mark.parametrize("place", [0, IMAGES.nbytes // 2, IMAGES.nbytes - 1])
def test_a_flipped_byte_in_a_block_that_is_looked_at_is_found(copy, place, caplog, monkeypatch):
    monkeypatch.setattr(decoded, "_CHECKED", 1000)  # all of the 19 blocks
    content = bytearray(copy.read_bytes())
    content[place] ^= 1
    copy.write_bytes(content)
    assert read_decoded(copy) is None
    assert "checksum of block" in caplog.text and "decoding again" in caplog.text


def test_large_damage_is_found_by_the_sample(copy, caplog):
    copy.write_bytes(copy.read_bytes()[: IMAGES.nbytes // 2].ljust(IMAGES.nbytes, b"\0"))  # as a crash leaves it
    assert read_decoded(copy) is None
    assert "checksum of block" in caplog.text


def test_a_copy_that_is_too_short_or_too_long_is_not_used(copy, caplog):
    content = copy.read_bytes()
    for damaged in (content[:-1], content + b"\0", b""):
        copy.write_bytes(damaged)
        assert read_decoded(copy) is None
        assert f"it has {len(damaged)} bytes, its index speaks of {len(content)}" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.pop("crc32"),
        lambda index: index.update(shape=[-150, -5, 4, 3]),
        lambda index: index.update(shape=None),
        lambda index: index.update(block=0),
        lambda index: index.update(crc32=index["crc32"][1:]),
        lambda index: index.update(crc32=3),
    ],
)
def test_an_index_that_does_not_fit_is_not_used(copy, change, caplog):
    index = json.loads(copy.with_suffix(".json").read_text())
    change(index)
    copy.with_suffix(".json").write_text(json.dumps(index))
    assert read_decoded(copy) is None
    assert "can't be used" in caplog.text


def test_an_index_that_is_cut_off_is_not_used(copy, caplog):
    for content in (copy.with_suffix(".json").read_bytes()[:-9], b"[]", b"\xff"):
        copy.with_suffix(".json").write_bytes(content)
        assert read_decoded(copy) is None
        assert caplog.text.count("can't be used") == 1
        caplog.clear()


def test_a_disk_that_is_full_leaves_what_was_there(copy):
    """A limit on the size of files stands for the disk: the write fails in the middle in the same way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (IMAGES.nbytes // 2, hard))
    try:
        with pytest.raises(OSError):
            write_decoded(copy, blocks(255 - IMAGES), IMAGES.shape, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy.json", "copy.raw"]
    images, _ = read_decoded(copy)
    assert torch.equal(images, torch.from_numpy(IMAGES))


def test_blocks_that_do_not_fill_the_shape_are_not_kept(tmp_path):
    with pytest.raises(ValueError, match="were decoded where"):
        write_decoded(tmp_path / "copy.raw", blocks(IMAGES[:-1]), IMAGES.shape, {})
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path, copy):
    old, new = copy.parent / ".copy.raw.1.tmp", copy.parent / ".copy.raw.2.tmp"
    for path in (old, new):
        path.write_bytes(b"draft")
    os.utime(old, (0, 0))
    write_decoded(copy, blocks(), IMAGES.shape, {})
    assert not old.exists() and new.exists()


def test_room_is_looked_for_on_the_disk_that_the_folder_will_be_on(tmp_path):
    assert room_for(tmp_path / "not" / "there", 1) is None
    assert "MB are free" in (room_for(tmp_path / "not" / "there", 10**18) or "")


def test_opening_says_nothing(copy, caplog):
    caplog.set_level(logging.DEBUG)
    read_decoded(copy)
    assert not caplog.text
