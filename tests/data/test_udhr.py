"""The declaration in many languages: parts that share nothing, one alphabet, and what is missing is said.

The tests of the real texts run where `FASTADAPT_DATA` holds them; all others need no file.
"""

import hashlib
import math
import os
import zipfile
from pathlib import Path

import pytest
import torch

from fastadapt.data import udhr
from fastadapt.data.udhr import ARCHIVE, Languages, encoded, load_udhr, udhr_archive
from fastadapt.errors import ConfigError, DataError

HELD = Path(os.environ.get("FASTADAPT_DATA", "."), "showcases", ARCHIVE)
real = pytest.mark.skipif(not HELD.is_file(), reason="FASTADAPT_DATA holds no udhr2.zip")
PARTS = {"train": 205, "val": 20, "test": 40}


def write_texts(folder, text="Allar  menniskjur\n eru føddar fræls. " * 300, count=3):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
        for part in PARTS:
            for name in udhr._splits()[part][:count]:
                archive.writestr(f"udhr2/{name}.txt", text)
    return folder


def test_parts_are_of_different_languages_and_one_alphabet():
    split = udhr._splits()
    assert {part: len(split[part]) for part in PARTS} == PARTS
    names = [name for part in PARTS for name in split[part]]
    assert len(set(names)) == 265
    groups = [{name[:3] for name in split[part]} for part in PARTS]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert set(split["nearest"]) == {*split["val"], *split["test"]}
    assert len(split["alphabet"]) == 111 and math.log2(112) == pytest.approx(6.807, abs=1e-3)
    assert hashlib.sha256(split["alphabet"].encode()).hexdigest().startswith("10b97697553d28fd")


def test_texts_are_lower_case_with_single_blanks_and_come_back_as_written(tmp_path):
    languages = load_udhr("val", write_texts(tmp_path), most=2)
    assert languages.names == ("tzc", "lin") and languages.symbols == 112
    assert languages.written(languages.texts[0][:36]) == "allar menniskjur eru føddar fræls. a"
    assert encoded("aжb", languages.alphabet)[1] == 111 and languages.written(torch.tensor([111])) == "□"
    assert all(0 < near < 1 for near in languages.nearest)


def test_what_is_missing_or_not_whole_is_said(tmp_path):
    with pytest.raises(ConfigError, match="part must be one of train, val, test, got 'dev'"):
        load_udhr("dev", tmp_path)
    with pytest.raises(DataError, match=r"udhr2\.zip, are not in .*nltk_data"):
        udhr_archive(tmp_path)
    with pytest.raises(DataError, match=r"fij\.txt in .* has 6 characters, and a whole text has 7,000"):
        load_udhr("test", write_texts(tmp_path / "short", "Short."), most=1)
    with pytest.raises(DataError, match="get it again"):
        load_udhr("test", write_texts(tmp_path / "few", count=1), most=2)
    (tmp_path / ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(DataError, match="get it again"):
        load_udhr("test", tmp_path)


def test_where_nothing_was_named_it_is_fetched_into_the_cache(tmp_path, monkeypatch):
    asked = []
    monkeypatch.delenv("FASTADAPT_DATA", raising=False)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path))
    monkeypatch.setattr(udhr, "download", lambda url, path, checksum: asked.append((url, path, checksum)) or path)
    assert udhr_archive() == tmp_path / "showcases" / ARCHIVE
    assert asked[0][0].startswith("https://") and asked[0][2] == udhr.MD5


@real
def test_the_real_texts_are_those_that_the_numbers_are_of():
    assert hashlib.md5(HELD.read_bytes()).hexdigest() == udhr.MD5
    parts = {part: load_udhr(part) for part in PARTS}
    assert {part: len(found.texts) for part, found in parts.items()} == PARTS
    assert sum(map(len, parts["train"].texts)) == 2_375_684
    assert min(len(text) for text in parts["test"].texts) >= 28 * 256 + 1  # a whole stream
    seen = torch.cat(parts["train"].texts)
    assert int(seen.max()) == 111 and float((seen == 111).float().mean()) < 0.01


@real
@pytest.mark.long
def test_held_out_languages_are_as_far_from_the_training_ones_as_is_said():
    train, test = load_udhr("train"), load_udhr("test")

    def trigrams(text):
        keys = text[:-2] * 112**2 + text[1:-1] * 112 + text[2:]
        counts = torch.zeros(112**3).index_add_(0, keys, torch.ones(len(keys)))
        return counts / counts.norm()

    known = torch.stack([trigrams(text).to_sparse() for text in train.texts])
    for number in (0, 1, 16):  # Fijian, Faroese, Navajo
        nearest = float(torch.mv(known, trigrams(test.texts[number])).max())
        assert nearest == pytest.approx(test.nearest[number], abs=0.03) and nearest < 0.8


def test_a_part_holds_its_texts():
    assert Languages(("x",), (torch.tensor([0]),), "ab").symbols == 3
