"""Names that are one, and names that look alike: by one rule, wherever they are from."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from fastadapt.data.embeddings.embeddings import made_of
from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData
from fastadapt.data.files import shown
from fastadapt.data.images.folder import read_class_folders
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.data.images.images import ImageRecipe
from fastadapt.data.images.split_choice import choose_split
from fastadapt.data.images.survey import survey_folder
from fastadapt.data.images.tree import scan_tree
from fastadapt.data.names import alike, bare, composed, difference, invisible, told_alike
from fastadapt.data.tables.fit_columns import fit_preparation
from fastadapt.data.tables.remarks import row_notes
from fastadapt.data.tables.rows import make_rows
from fastadapt.data.tables.spelling import known_as, spellings
from fastadapt.data.tables.table_settings import prepare_table
from fastadapt.data.tables.workbook import text_of

NFC, NFD = (unicodedata.normalize(form, "école") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("Red", "red", "case"),
        ("dog", "dog ", "spaces"),
        ("big dog", "big\u00a0dog", "spaces"),
        ("owl", "owl\u200b", "characters that are not seen (U+200B ZERO WIDTH SPACE)"),
        ("owl", "o\u00adwl", "characters that are not seen (U+00AD SOFT HYPHEN)"),
        ("owl", "owl\ufe0f", "characters that are not seen (U+FE0F VARIATION SELECTOR-16)"),
        ("A1", "\uff21\uff11", "forms of letters such as wide ones (U+FF21 FULLWIDTH LATIN CAPITAL LETTER A)"),
        ("fin", "\ufb01n", "forms of letters such as wide ones (U+FB01 LATIN SMALL LIGATURE FI)"),
        ("C", "\u0421", "letters of other scripts that look the same (U+0421 CYRILLIC CAPITAL LETTER ES)"),
        ("red", "r\u0435d", "letters of other scripts that look the same (U+0435 CYRILLIC SMALL LETTER IE)"),
        ("\u041a\u043e\u0442", "\u043a\u043e\u0442", "case"),  # a Russian cat
        ("001", "1", "zeros"),
        ("7", "7.0", "zeros"),
    ],
)
def test_names_that_look_alike_are_told_with_the_difference(a, b, words):
    assert len(alike([a, b])) == 1 and difference(a, b) == words
    [told] = told_alike("these", [a, b, "another"], "mend it")
    assert words in told and told.endswith("alone; mend it")


@pytest.mark.parametrize(
    "names",
    [
        ["red", "rot"], ["m2", "m²"], ["Maße", "Masse"], ["1.1", "1.10"], ["10", "1"], ["α", "a"], ["0", "O"],
        ["l1", "11"], ["a-b", "ab"], ["v1", "v01"], ["ü", "u"], ["1", "-1"], [NFC, NFD],
    ],
)  # fmt: skip
def test_other_names_are_not_told(names):
    assert not alike(map(composed, names))


def test_a_name_says_what_is_not_seen_of_it():
    assert invisible("dog ") and invisible("\tdog") and invisible("\ufeffdog")
    assert invisible("dog") is None and invisible("می\u200cخواهم") is None  # joined by what Persian needs


def test_an_escape_in_quotes_is_escaped_once():
    name, lines = "s\u200b", "a\nb"
    assert f"{shown(name)!r}" == r"'s\u200b'" and f"{shown(shown(lines))!r}" == r"'a\nb'"
    assert repr(shown("it's")) == '"it\'s"' and len(repr(shown(name * 500))) < 1200


def table(cells, targets=None, tasks=2, name="kind"):
    n = len(cells)
    targets = targets or [f"{i}.5" for i in range(n)]
    rows = [[f"g{i % tasks}", cell, f"{i}.25", y] for i, (cell, y) in enumerate(zip(cells, targets, strict=True))]
    return make_rows("t.csv", ["g", name, "x", "y"], rows, list(range(2, n + 2)), 1, "", [])


def fit(cells, **more):
    rows = table(cells, **more)
    return fit_preparation(rows, range(len(rows)), task="g", target="y")


def test_stored_text_and_headers_are_composed():
    assert text_of(NFD) == NFC
    rows = table(["a", "a", "b", "b"], name=NFD)
    assert rows.header[1] == NFC and rows.column(NFD) == rows.column(NFC)


def test_categories_and_labels_that_look_alike_are_told():
    fitted = fit(["red", "red", "red\u200b", "red\u200b", "blue", "blue"])
    assert any("'red' and 'red\\u200b' differ in characters that are not seen" in note for note in fitted.notes)
    fitted = fit(["u", "v"] * 6, targets=["yes\u00ad", "yes", "no"] * 4)
    assert fitted.preparation.labels == ("no", "yes", "yes\u00ad")
    assert any("column 'y': 'yes' and 'yes\\xad' differ in" in note for note in fitted.notes)
    assert not any("differ" in note for note in fit(["red", "red", "blue", "blue"]).notes)


def test_a_preparation_of_earlier_knows_both_forms():
    assert known_as(NFC, (NFD, "lycée")) == NFD and known_as("e", (NFD,)) is None


def test_an_unknown_category_says_which_known_one_it_looks_like():
    preparation = fit(["red", "red", "blue", "blue"]).preparation
    notes = row_notes(preparation, table(["re\u200bd", "rot"]), {})
    assert "'re\\u200bd'" in str(notes[0]) or "re\\u200bd" in notes[0][0]
    assert "is 'red' meant?" in notes[0][0] and "meant" not in "".join(notes[1])


def test_words_for_yes_and_no_are_merged_where_no_third_stands_beside_them():
    assert spellings(["T", "F", "N"]) == {} == spellings(["on", "off", "no"]) == spellings(["true", "1", "0"])
    assert spellings(["TRUE", "True", "false"]) == {"True": "TRUE"}
    assert spellings(["Y", "yes", "n"]) == {"yes": "Y"}
    assert spellings(["True", "False", "Not given"]) == {}
    assert known_as("n", ("F", "T")) is None and known_as("no", ("0", "1")) == "0"
    fitted = fit(["u", "v"] * 6, targets=["T", "F", "N"] * 4)
    assert fitted.preparation.labels == ("F", "N", "T")
    assert "column 'y': 'F' and 'N' may say the same, and are different categories" in fitted.notes


def test_more_categories_than_places_are_told():
    cells = [f"c{i:02d}" for i in range(60) for _ in range(2)]
    [told] = fit(cells).notes
    assert (
        "of 60 categories 10 (such as 'c50') count as unknown, in 20 training rows: 10 beyond the 50 most frequent"
        in told
    )
    assert not fit(cells[:100]).notes
    [alone] = fit([f"c{i:02d}" for i in range(20)] + ["red"] * 4).notes
    assert alone.endswith("(such as 'c00') count as unknown, in 20 training rows: 20 in one training task alone")
    assert not fit([*cells[:100], "x"]).notes  # a rare one


def write(path, rows):
    path.write_text("\n".join(["g,x,y", *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


def test_tasks_that_look_alike_are_told_and_of_one_text_are_one(tmp_path):
    names = ["001", "1", NFC, NFD, *"abcdefgh"]
    rows = [[name, f"{i % 7}.5", f"{i}.25"] for i in range(30) for name in names]
    made = prepare_table(write(tmp_path / "t.csv", rows), task="g", target="y", shots=(5,))
    assert len(made.loaded.rows) == 11
    assert any("the tasks '001' and '1' differ in zeros alone" in note for note in made.notes)


def test_rows_of_no_task_make_no_label(tmp_path):
    rows = [[name, f"{i % 7}.5", ["low", "high"][i % 2]] for i in range(20) for name in "abcdefhi"]
    rows.insert(80, ["g", "x", "y"])  # the header once more
    rows.append(["Total", "", "160"])
    made = prepare_table(write(tmp_path / "t.csv", rows), task="g", target="y", shots=(5,))
    assert made.data.preparation.labels == ("high", "low")
    again = made.data.load(tmp_path)
    assert again.x.equal(made.loaded.x) and again.y.equal(made.loaded.y)


def test_bare_is_the_same_of_what_is_bare():
    for name in ("Red\u200b ", "\uff32ed", "007", "école"):
        assert bare(bare(name)) == bare(name)


def folder(place, classes):
    rng = np.random.default_rng(0)
    for name in classes:
        (place / name).mkdir(parents=True, exist_ok=True)
        for k in range(2):
            Image.fromarray(rng.integers(0, 256, (28, 28)).astype(np.uint8)).save(
                place / name / f"{name.strip()}{k}.png"
            )
    return place


def test_class_folders_of_one_text_are_one_class(tmp_path):
    found = survey_folder(folder(tmp_path, [NFC, NFD, "b"]))
    assert sorted(found.counts.values()) == [2, 4] and not found.problems
    assert any(finding.kind == "one name" for finding in found.notes)
    (_, y), labels = read_class_folders(tmp_path, ImageRecipe(28))
    assert sorted(labels) == ["b", NFC] and len(y) == 6


def test_class_folders_that_look_alike_are_told(tmp_path, caplog):
    place = folder(tmp_path, ["dog", "dog ", "Cat", "cat", "owl\u200b", "rat"])
    told = " ".join(finding.text for finding in survey_folder(place).notes)
    assert "the classes 'Cat' and 'cat' differ in case alone, 'dog' and 'dog ' differ in spaces alone" in told
    assert "class 'dog ' begins or ends with a blank" in told and "class 'owl\\u200b' holds U+200B" in told
    read_class_folders(place, ImageRecipe(28))
    assert "'dog' and 'dog ' differ in spaces alone" in caplog.text


def test_lists_name_classes_in_either_form(tmp_path):
    place = folder(tmp_path / "data", [NFD, "b"])
    (tmp_path / "split.csv").write_text(f"class,split\n{NFC},train\nb,test\n", encoding="utf-8")
    choice = choose_split(scan_tree(place), str(tmp_path / "split.csv"))
    assert choice.problem is None and set(choice.parts.values()) == {"train", "test"}


def test_a_run_finds_its_classes_in_another_form(tmp_path):
    place = folder(tmp_path / "data", [NFD, "b"])
    data = FolderData(
        size=28, channels=1, train_classes=(NFC,), test_classes=("b",), ways=1, train_queries=1, queries=1
    )
    images = data.load(place)
    assert set(images.class_names) == {NFC, "b"} and data.sealed(images).digest


def test_pixels_that_are_saved_anew_count_once(tmp_path):
    place = folder(tmp_path, ["a", "b"])
    Image.open(place / "a" / "a0.png").save(place / "a" / "again.webp", lossless=True)
    Image.open(place / "a" / "a0.png").convert("RGB").save(place / "a" / "colour.png")
    found = survey_folder(place)
    assert found.counts == {"a": 2, "b": 2} and not found.problems
    assert [finding.path for finding in found.notes if finding.kind == "copy"] == ["a/again.webp", "a/colour.png"]


def test_embedding_classes_are_composed_and_those_that_look_alike_are_told(caplog):
    made = made_of("f.npz", np.eye(5), [NFC, NFD, "1", "01", "b"])
    assert made.counts == {NFC: 2, "01": 1, "1": 1, "b": 1}
    assert "f.npz: the classes '01' and '1' differ in zeros alone" in caplog.text
    old = EmbeddingsData(train_classes=(NFD,))
    assert old.split["train"] == (NFC,)
