"""Points from a CSV: what is read, and the sentence for each bad line."""

import logging
import re

import pytest
import torch

from fastadapt.data.tables.points import MOST_BYTES, read_inputs, read_named_points, read_points
from fastadapt.errors import DataError


def table(tmp_path, content):
    path = tmp_path / "points.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "x", "y"),
    [
        ("x,y\n1,2\n-3.5,4e-1\n", [[1.0], [-3.5]], [[2.0], [0.4]]),
        ("x1,x2,y\n1,2,3\n", [[1.0, 2.0]], [[3.0]]),
        ("y,x\n1,2\n", [[2.0]], [[1.0]]),
        ("hours,marks\n1,2\n", [[1.0]], [[2.0]]),
        ("\ufeffx,y\r\n1,2\r\n\r\n3,4\r\n", [[1.0], [3.0]], [[2.0], [4.0]]),
        (' x , "y"\n 1 , "2"\n', [[1.0]], [[2.0]]),
    ],
)
def test_columns(tmp_path, content, x, y):
    found_x, found_y = read_points(table(tmp_path, content), inputs=len(x[0]))
    assert torch.equal(found_x, torch.tensor(x)) and torch.equal(found_y, torch.tensor(y))
    assert found_x.dtype == found_y.dtype == torch.float32


@pytest.mark.parametrize(
    ("content", "x"), [("x\n1\n2\n", [[1.0], [2.0]]), ("x,y\n1,9\n", [[1.0]]), ("a,b\n1,9\n", [[1.0, 9.0]])]
)
def test_inputs_alone(tmp_path, content, x):
    assert read_inputs(table(tmp_path, content), inputs=len(x[0])).tolist() == x


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "^can't read FILE as a table: the file is empty; remove or replace it$"),
        ("\n\n", "^FILE has no values below its header; add at least one line$"),
        ("x,y\n", "^FILE has no values below its header"),
        ("y\n1\n", "^FILE has one column, 'y'; give inputs and a target, as in x,y$"),
        ("1,2\n3,4\n", "^FILE, line 1 holds numbers where the header should be; add a first line such as x,y$"),
        (
            "x;y\n1;2\n",
            "^FILE, line 1: the columns are not separated by commas; save the table as comma-separated CSV$",
        ),
        ("x\ty\n1\t2\n", "not separated by commas"),
        ("x,x,y\n1,2,3\n", "^FILE, line 1: the column 'x' is named twice; name every column differently$"),
        ("x,,y\n1,2,3\n", "^FILE, line 1: column 2 has no name; name every column$"),
        ("x,y\n1,2\n3\n", "^FILE, line 3 has 1 values, the header has 2; correct the line$"),
        ("x,y\n1,2,3\n", "^FILE, line 2 has 3 values, the header has 2; correct the line$"),
        ("x,y\n1,\n", "^FILE, line 2: the value of 'y' is missing; fill it in or remove the line$"),
        ("x,y\n1,2\n,\n", "^FILE, line 3: the value of 'x' is missing"),
        ("x,y\n1,two\n", "^FILE, line 2: 'two' in column 'y' is not a number; write it as 12.5$"),
        ("x,y\n1_0,2\n", "^FILE, line 2: '1_0' in column 'x' is not a number"),
        ("x,y\n1,2\n\nnan,1\n", "^FILE, line 4: 'nan' in column 'x' is not finite; correct it or remove the line$"),
        ("x,y\n1,-inf\n", "^FILE, line 2: '-inf' in column 'y' is not finite"),
        ("x,y\n1e39,2\n", "^FILE, line 2: '1e39' in column 'x' is beyond 32-bit numbers; rescale the column$"),
        ("x,y\n1e999,2\n", "^FILE, line 2: '1e999' in column 'x' is not finite"),
        ('x,y\n"1,2\n', "^FILE, line 2 is not valid CSV"),
        (b"x,y\n1,\xff\n", r"^FILE is not UTF-8 text \(byte 6\); save the table as CSV in UTF-8$"),
        (b"PK\x03\x04\x14\0\0\0", "^FILE"),
        ("x1,x2,y\n1,2,3\n", r"^FILE has 2 input columns \(x1, x2\), the model takes 1; change the columns$"),
        (
            b"x,y\n" + b"1,2\n" * (MOST_BYTES // 4),
            "^FILE is larger than 10 MB, the limit for a table; make it smaller$",
        ),
    ],
)
def test_every_problem_has_a_sentence(tmp_path, content, sentence):
    path = table(tmp_path, content)
    with pytest.raises(DataError, match=sentence.replace("FILE", re.escape(str(path)))) as caught:
        read_points(path, inputs=1)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"^can't read \S+/none.csv: there is no such file; check the path$"):
        read_points(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"^can't read \S+ as a table: it is a folder; give the files in it$"):
        read_inputs(tmp_path, inputs=1)


def test_inputs_must_fit_the_model(tmp_path):
    with pytest.raises(DataError, match=r"has 1 input columns \(x\), the model takes 3"):
        read_inputs(table(tmp_path, "x,y\n1,2\n"), inputs=3)
    with pytest.raises(DataError, match=r"has 0 input columns \(none\), the model takes 1"):
        read_inputs(table(tmp_path, "y\n1\n"), inputs=1)


@pytest.mark.parametrize(
    ("content", "columns", "target"),
    [
        ("Y,x\n1,2\n", ["x"], "Y"),
        ("Target,width\n1,2\n", ["width"], "Target"),
        ("width,OUTPUT,height\n2,1,3\n", ["width", "height"], "OUTPUT"),
        ("x,z,y\n2,3,1\n", ["x", "z"], "y"),
        ("hours,pupils,marks\n2,3,1\n", ["hours", "pupils"], "marks"),
        ("index,x,y\n7,2,1\n", ["x"], "y"),
        (",x,y\n7,2,1\n", ["x"], "y"),
        ("Unnamed: 0,y,x1,x2\n7,1,2,3\n", ["x1", "x2"], "y"),
        ("y,x,sample_id\n1,2,7\n", ["x"], "y"),
        ("id,y\n2,1\n", ["id"], "y"),
    ],
)
def test_the_target_goes_by_its_name_and_what_says_which_row_is_no_input(content, columns, target, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        points = read_named_points(table(tmp_path, content))
    assert (list(points.columns), points.target) == (columns, target)
    assert points.x.tolist() == [[2.0, 3.0][: len(columns)]] and points.y.tolist() == [[1.0]]
    left = len(content.split("\n")[0].split(",")) - len(columns) - 1
    assert ("is left out, as it" in caplog.text) == bool(left)
    plain = len(columns) == 1 and target.lower() == "y"
    assert (f"the target '{target}'" in caplog.text) == (not plain)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("target,x\n1,2\n1,3\n", None),
        ("marks,x\n1,2\n", "no column is called y, and the last one, 'x', is called as an input is; call the target y"),
        ("a,X_2\n1,2\n", "the last one, 'X_2', is called as an input"),
        ("y,Y,x\n1,2,3\n", "has the columns 'y' and 'Y', and each may be the target"),
        ("x,y,target\n1,2,3\n", "has the columns 'y' and 'target', and each may be"),
        (",y\n0,1\n", "column 1 has no name"),
    ],
)
def test_a_target_that_is_left_open_is_refused(content, sentence, tmp_path):
    path = table(tmp_path, content)
    if sentence is None:
        assert read_points(path)[1].tolist() == [[1.0], [1.0]]
        return
    with pytest.raises(DataError, match=sentence):
        read_points(path)


@pytest.mark.parametrize(
    "content", ["b,a\n2,1\n", "a,b\n1,2\n", "b,y,a\n2,9,1\n", "id,a,b\n7,1,2\n", "a,c,b\n1,9,2\n", "t,b,a\n9,2,1\n"]
)
def test_inputs_are_found_by_name(content, tmp_path):
    found = read_inputs(table(tmp_path, content), inputs=2, columns=("a", "b"), target="t")
    assert found.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("content", ["c,d\n1,2\n", "a,c\n1,2\n", "A,B\n1,2\n", "a\n1\n"])
def test_inputs_of_other_names_are_refused(content, tmp_path):
    with pytest.raises(DataError, match=r"has no column .*: the model was adapted to points with the inputs 'a', 'b'"):
        read_inputs(table(tmp_path, content), inputs=2, columns=("a", "b"), target="y")


def test_one_input_may_be_called_otherwise_which_is_told(tmp_path, caplog):
    assert read_inputs(table(tmp_path, "t,Y\n1,2\n"), inputs=1, columns=("x",), target="y").tolist() == [[1.0]]
    assert "'t' is taken for the input 'x'" in caplog.text
    with pytest.raises(DataError, match="has no column 'x'"):
        read_inputs(table(tmp_path, "t,s\n1,2\n"), inputs=1, columns=("x",), target="y")


def test_without_names_inputs_go_by_their_order_which_is_told(tmp_path, caplog):
    assert read_inputs(table(tmp_path, "b,Y,a\n1,9,2\n"), inputs=2).tolist() == [[1.0, 2.0]]
    assert "the inputs are taken in their order, 'b', 'a'" in caplog.text
