"""Names that say what the classes of a folder are for."""

import pytest

from fastadapt.data.images.split_names import read_name


@pytest.mark.parametrize(
    ("side", "names"),
    [
        ("train", "train TRAIN Training trainset train_set TrainSet train2017 01_train train-images images_train "
                  "background images_background base meta-train metatrain trainval train_val Trn seen train.data"),
        ("val", "val VAL valid validation Validation_Set dev devel development meta_val metaVal val2017 validImages"),
        ("test", "test Testing TESTSET test1 test_images novel held-out heldout hold_out unseen meta-test tst"),
        ("judged", "eval evaluation images_evaluation EVAL_SET"),
        ("any", "support query gallery Query_Images"),
    ],
)  # fmt: skip
def test_the_usual_names_say_their_part_however_they_are_written(side: str, names: str) -> None:
    for name in names.split():
        assert read_name(name) == (side, ""), name


def test_a_name_that_says_more_keeps_what_else_it_says() -> None:
    assert read_name("omniglot_train") == ("train", "omniglot")
    assert read_name("birds-test-images") == ("test", "birds")


@pytest.mark.parametrize(
    "name", ["cat", "images", "train_vs_test", "testament", "valley", "2017", "", "based", "übung"]
)
def test_other_names_say_nothing(name: str) -> None:
    assert read_name(name) is None
