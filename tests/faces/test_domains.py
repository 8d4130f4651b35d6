"""Splits of domains, sets of faces, and what a network sees of a face."""

import numpy as np
import pytest
import torch
from PIL import Image

from faces.small_faces import DOMAINS, small_faces, write_pack, write_tree
from fastadapt import MLP, CrossEntropy, check_tasks, draw, meta_train
from fastadapt.batches.streams import task_rngs
from fastadapt.data.domains.face_files import read_faces
from fastadapt.data.domains.face_image import read_face
from fastadapt.data.domains.face_pairs import pair_splits
from fastadapt.data.domains.face_recipe import FaceRecipe, moved
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.data.domains.shards import write_shards
from fastadapt.data.domains.splits import DomainSplits, labelled_splits
from fastadapt.data.domains.within import labelled_within, pairs_within
from fastadapt.errors import ConfigError, DataError
from fastadapt.methods.mldg import MLDG
from fastadapt.tasks import draw_batch
from fastadapt.training.settings import Training

RECIPE = FaceRecipe(16, 16, contrast=False)


@pytest.fixture(scope="module")
def faces():
    return small_faces()


def numbers(batch):
    """The domain of each row of labelled samples, whose second number says it."""
    return set(batch[0][:, 1].int().tolist())


def rows(count=8, domains=3):
    domain = np.repeat(np.arange(domains), count)
    x = torch.stack((torch.arange(len(domain)).float(), torch.from_numpy(domain).float()), 1)
    return x, torch.arange(len(domain)) % 2, domain


def test_one_domain_is_left_out_and_the_others_are_the_support():
    x, y, domain = rows()
    source = labelled_splits(x, y, domain, batch=4)
    seen = set()
    for task in draw(source, seed=0, split="train", indices=range(30)):
        (out,) = numbers(task.query)
        assert numbers(task.support) == {0, 1, 2} - {out}
        assert task.support[0].shape == (8, 2) and task.query[0].shape == (4, 2)
        assert len(set(task.support[0][:, 0].tolist())) == 8  # without replacement
        assert torch.equal(task.support[1], task.support[0][:, 0].long() % 2)
        seen.add(out)
    assert seen == {0, 1, 2}


def test_a_task_depends_on_its_number_alone_and_on_it():
    source = labelled_splits(*rows(), batch=4)
    assert check_tasks(source) == []
    alone = draw(source, seed=3, split="train", indices=[7])[0]
    among = draw(source, seed=3, split="train", indices=range(9))[7]
    assert torch.equal(alone.support[0], among.support[0])


def test_all_splits_leave_each_domain_out_once_and_share_a_batch_of_each():
    source = labelled_splits(*rows(), batch=4, how="all")
    [tasks] = draw_batch(source, seed=0, split="train", indices=range(6))
    outs = [numbers(task.query).pop() for task in tasks]
    assert sorted(outs[:3]) == sorted(outs[3:]) == [0, 1, 2]
    batches = {numbers(t.query).pop(): t.query[0] for t in list(tasks)[:3]}
    for task in list(tasks)[:3]:
        for part in task.support[0].split(4):
            assert torch.equal(part, batches[int(part[0, 1])])
    firsts = [int(task.support[0][0, 1]) for task in list(tasks)[:3]]
    assert sorted(firsts) == [0, 1, 2]  # another first domain in each, which CDT measures by
    with pytest.raises(ConfigError, match=r"each of 3 domains once, and 4 tasks .* set training.meta_batch to 3"):
        draw_batch(source, seed=0, split="train", indices=range(4))


def test_pooled_queries_are_all_domains():
    task = labelled_splits(*rows(), batch=4, how="pooled").sample(task_rngs(0, "train", [0])[0])
    assert numbers(task.query) == {0, 1, 2} and task.query[0].shape == (12, 2)


def test_mldg_trains_on_rows_of_a_table_with_several_domains():
    rng = np.random.default_rng(0)
    domain = np.repeat(["north", "east", "south"], 40)
    x = torch.from_numpy(rng.normal(size=(120, 5)).astype(np.float32))
    y = (x[:, 0] + 0.3 * x[:, 1] > 0).long()
    x[:, 2] += torch.from_numpy(np.repeat([-2, 0, 2], 40).astype(np.float32))
    learner = MLDG(MLP(5, (8,), 2), CrossEntropy())
    source = labelled_splits(x, y, domain, batch=20)
    assert source.names == ("east", "north", "south")
    trained = meta_train(learner, source, Training(steps=30, meta_batch=2, lr=0.02, log_every=5), quiet=True)
    losses = [record["loss"] for record in trained.records if "loss" in record]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: labelled_splits(*rows(domains=1), batch=2), DataError, "there are 1"),
        (
            lambda: labelled_splits(*rows()[:2], ["a", None] * 12, batch=2),
            DataError,
            "sample 2 has no domain, but None",
        ),
        (
            lambda: labelled_splits(*rows()[:2], [np.nan, 1.0] * 12, batch=2),
            DataError,
            "sample 1 has no domain, but nan",
        ),
        (lambda: labelled_splits(*rows(count=3), batch=4), DataError, "domain '0' has 3 samples and a batch takes 4"),
        (lambda: labelled_splits(*rows(), batch=0), ConfigError, "got 0"),
        (lambda: labelled_splits(*rows(), batch=2, how="each"), ConfigError, "got 'each'"),
        (lambda: labelled_splits(rows()[0], rows()[1][:3], rows()[2], batch=2), DataError, "24 samples have 3 labels"),
        (lambda: DomainSplits((lambda r: (), lambda r: ()), ("a",)), DataError, "2 domains have 1 names"),
        (lambda: labelled_within(*rows(), support=6, query=6), DataError, r"has 8 samples, and a task takes 6 \+ 6"),
        (lambda: labelled_within(*rows(), support=0, query=6), ConfigError, "got 0 and 6"),
    ],
)
def test_domains_that_can_not_be_split_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


# ---- pairs -----------------------------------------------------------------------------------------


def whose(faces, x):
    """The image that each row of an input is."""
    known = {RECIPE.prepare(image[None]).numpy().tobytes(): i for i, image in enumerate(faces.images)}
    return np.array([known[row.unsqueeze(0).numpy().tobytes()] for row in x])


def test_pairs_are_two_images_of_each_training_identity_of_known_domains(faces):
    known = ["lab", "yard", "attic"]
    source = pair_splits(faces, known, "train", recipe=RECIPE, batch=4)
    everyone = list(faces.people(known, ["train"]))
    for task in draw(source, seed=0, split="train", indices=range(5)):
        for (x, y, count), domains in ((task.support, 2), (task.query, 1)):
            assert (x.shape, count) == ((domains * 8, 1, 16, 16), 4)
            images = whose(faces, x).reshape(domains, 2, 4)
            people = faces.identity[images]
            assert (images[:, 0] != images[:, 1]).all() and (people[:, 0] == people[:, 1]).all()
            assert [everyone[i] for i in y] == people.flatten().tolist()
            assert (faces.identity_part[people] == 0).all()
            assert all(len(set(faces.identity_domain[each.flatten()])) == 1 for each in people)
            assert not np.isin(faces.identity_domain[people], DOMAINS.index("cellar")).any()
            assert len(set(people[:, 0].flatten())) == domains * 4


def test_what_is_not_trained_on_is_never_touched(faces):
    """Poisoned pixels of the target, of validation and of test change no training task."""
    known = ["lab", "yard", "attic"]
    poisoned = small_faces()
    others = np.setdiff1d(np.arange(len(faces.images)), faces.images_of(faces.people(known, ["train"])))
    poisoned.images[others] = 255
    for how in ("random", "all", "pooled"):
        a, b = (
            draw_batch(
                pair_splits(each, known, "train", recipe=RECIPE, batch=4, how=how, flip=True, shift=2),
                seed=0,
                split="train",
                indices=range(6),
            )[0]
            for each in (faces, poisoned)
        )
        assert torch.equal(a.support[0], b.support[0]) and torch.equal(a.query[0], b.query[0])


def test_tasks_within_a_domain_have_other_identities_to_be_judged_on(faces):
    source = pairs_within(faces, ["lab", "attic"], "train", recipe=RECIPE, support=5, query=3)
    for task in draw(source, seed=0, split="train", indices=range(6)):
        ours, theirs = (faces.identity[whose(faces, side[0])] for side in (task.support, task.query))
        assert not set(ours) & set(theirs)
        assert len(set(faces.identity_domain[[*ours, *theirs]])) == 1
    with pytest.raises(DataError, match=r"has 8 train identities with two images or more, and a task takes 7 \+ 3"):
        pairs_within(faces, ["lab"], "train", recipe=RECIPE, support=7, query=3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: pair_splits(f, ["lab", "moon"], "train", recipe=RECIPE), "no domain 'moon'; there are lab, yard"),
        (lambda f: pair_splits(f, ["lab", "yard"], "val", recipe=RECIPE, batch=3), "'lab' has 2 val identities"),
        (lambda f: pair_splits(f, ["lab", "yard"], "train", recipe=RECIPE, batch=1), "to tell apart, got 1"),
    ],
)
def test_pairs_that_are_not_there_are_refused(faces, make, words):
    with pytest.raises((ConfigError, DataError), match=words):
        make(faces)


# ---- pixels ----------------------------------------------------------------------------------------


def test_pixels_are_averaged_centred_and_scaled():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    got = FaceRecipe(4, 2, contrast=False).prepare(image)
    want = (torch.tensor([[2.5, 4.5], [10.5, 12.5]]) - 127.5) / 128
    torch.testing.assert_close(got, want.reshape(1, 1, 2, 2))


def test_contrast_is_that_of_the_window_by_hand():
    image = np.random.default_rng(0).integers(0, 256, (1, 12, 12)).astype(np.uint8)
    got = FaceRecipe(12, 12).prepare(image)[0, 0]
    values = (image[0].astype(np.float64) - 127.5) / 128
    for row, column in ((5, 6), (0, 0), (11, 3)):
        near = values[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        want = (values[row, column] - near.mean()) / (near.std() + 0.1)
        if (row, column) == (5, 6):  # at a border the window of windows is cut off
            assert float(got[row, column]) == pytest.approx(want, abs=1e-4)
        assert np.isfinite(float(got[row, column]))
    torch.testing.assert_close(FaceRecipe(12, 12).prepare(np.full((1, 12, 12), 9, np.uint8)), torch.zeros(1, 1, 12, 12))


def test_moving_an_image_takes_pixels_from_where_they_were():
    x = torch.arange(25.0).reshape(1, 1, 5, 5).repeat(40, 1, 1, 1)
    rng = np.random.default_rng(0)
    assert torch.equal(moved(x, rng, False, 0), x)
    mirrored = moved(x, rng, True, 0)
    assert {tuple(each[0, 0].tolist()) for each in mirrored} == {(0, 1, 2, 3, 4), (4, 3, 2, 1, 0)}
    centres = moved(x, rng, False, 1)[:, 0, 2, 2]
    assert set(centres.tolist()) <= {6, 7, 8, 11, 12, 13, 16, 17, 18} and len(set(centres.tolist())) > 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FaceRecipe(64, 30), "from 64 to 30"),
        (lambda: FaceRecipe(4, 4), "faces of 4 are smaller"),
        (lambda: FacesData(domains=("orl", "gt")), "'orl' trains and is a target"),
        (lambda: FacesData(batch=1), "data.batch=1"),
        (lambda: FacesData(shift=-1), "got -1"),
    ],
)
def test_settings_outside_their_range_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


# ---- files -----------------------------------------------------------------------------------------


def test_a_pack_and_a_tree_hold_the_same_faces(faces, tmp_path):
    write_pack(tmp_path / "faces" / "faces64.npz", faces)
    pack = read_faces(tmp_path)
    assert pack.digest == faces.digest and pack.identity_names == faces.identity_names
    few = small_faces(people=5, images=2)
    tree = read_faces(write_tree(tmp_path / "tree", few), pixels=16)
    assert tree.domain_names == tuple(sorted(DOMAINS))
    for number, name in enumerate(tree.identity_names):
        there = few.identity_names.index(name)
        assert np.array_equal(tree.images[tree.rows[number]], few.images[few.rows[there]])
        assert tree.gallery[tree.rows[number]].tolist() == [True, False]
    assert [int(n) for n in np.bincount(tree.identity_part)] == [12, 4, 4]


def test_shards_hold_the_faces_of_the_pack_and_are_read_where_they_are_asked_for(faces, tmp_path):
    arrays = write_pack(tmp_path / "faces64.npz", faces)
    files = write_shards(tmp_path / "shards", arrays, size=50)
    assert [file.name for file in files] == ["pixels-00000.npy", "pixels-00001.npy", "pixels-00002.npy", "people.npz"]
    sharded = read_faces(tmp_path / "shards")
    assert sharded.digest == faces.digest
    assert all(isinstance(part, np.memmap) for part in sharded.images.parts)
    rows = np.array([120, 3, 49, 50, 3])
    assert np.array_equal(sharded.images[rows], faces.images[rows]) and np.array_equal(
        sharded.images[7], faces.images[7]
    )
    known = ["lab", "yard"]
    a, b = (pair_splits(each, known, "train", recipe=RECIPE, batch=4) for each in (faces, sharded))
    assert torch.equal(*(draw(s, seed=0, split="train", indices=[0])[0].support[0] for s in (a, b)))
    with pytest.raises(IndexError):
        sharded.images[np.array([500])]
    files[1].write_bytes(b"cut off")
    with pytest.raises(DataError, match="as a shard of faces"):
        read_faces(tmp_path / "shards")
    for file in files[:3]:
        file.unlink()
    with pytest.raises(DataError, match="no pixels-"):
        read_faces(tmp_path / "shards")


def test_files_that_are_no_faces_are_refused_in_a_sentence(faces, tmp_path):
    path = tmp_path / "faces64.npz"
    path.write_bytes(b"no pack at all")
    with pytest.raises(DataError, match="as a pack of faces"):
        read_faces(path)
    arrays = write_pack(path, faces)
    np.savez(path, **{name: value for name, value in arrays.items() if name != "gallery"})
    with pytest.raises(DataError, match="has no array gallery"):
        read_faces(path)
    for name, value, words in (
        ("images", arrays["images"].astype(np.float32), "of uint8, got .* of float32"),
        ("gallery", np.zeros_like(arrays["gallery"]), "has 0 gallery images"),
        ("identity", arrays["identity"] + 500, "identity has numbers in"),
        ("domain", arrays["domain"][::-1], "whose domain is not that of its identity"),
        ("identity_split", arrays["identity_split"] + 2, "only 0..2 mean one"),
    ):
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(DataError, match=words):
            read_faces(path)
    flat = write_tree(tmp_path / "flat", small_faces(people=5)) / "lab"
    with pytest.raises(DataError, match="in domain/identity/image"):
        read_faces(flat)


def test_a_face_is_cropped_padded_enlarged_or_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (20, 1))).convert("RGB").save(path)
    cropped = read_face(path, 64)
    assert cropped.shape == (64, 64) and 8 <= cropped.min() <= 11 and 28 <= cropped.max() <= 31  # columns 10..29
    assert read_face(path, 64, "pad").min() <= 2
    with pytest.raises(DataError, match="40x20 pixels and faces are square"):
        read_face(path, 64, "refuse")
    Image.new("L", (12, 30)).save(path)
    with pytest.raises(DataError, match="12x30 pixels, and a face needs 16"):
        read_face(path, 64)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"a\.png"):
        read_face(path, 64)


@pytest.mark.parametrize("absent", [None, float("nan"), "nan", "", " NA "])
def test_a_sample_without_a_domain_is_refused(absent):
    x, y, _ = rows()
    words = np.array(["a", "b"] * len(x), dtype=object)[: len(x)]
    words[[2, 5]] = [absent, absent]
    with pytest.raises(DataError, match=r"sample 3 has no domain, but .* others.*; name it, or leave the sample out"):
        labelled_splits(x, y, words, batch=1)


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        (lambda count: np.array([1, "b"] * count, dtype=object)[:count], r"values of several types \(int, str\)"),
        (lambda count: np.where(np.arange(count) % 3, 1.0, np.nan), "sample 1 has no domain, but nan"),
        (lambda count: np.zeros((count, 2)), "have shape .*, 2.; give one for each sample"),
    ],
)
def test_domains_that_can_not_be_told_apart_are_refused(domain, words):
    x, y, _ = rows()
    with pytest.raises(DataError, match=words):
        labelled_splits(x, y, domain(len(x)), batch=1)


def test_domains_that_may_be_one_are_told(caplog):
    x, y, _ = rows()
    source = labelled_splits(x, y, np.array(["day", "Day", "day ", "none"] * len(x))[: len(x)], batch=1)
    assert source.names == ("Day", "day", "day ", "none") and "'Day' and 'day' differ in case" in caplog.text


def test_samples_that_are_no_tensors_are_refused():
    x, y, domain = rows()
    with pytest.raises(DataError, match=r"samples must be a tensor of torch, got numpy.ndarray"):
        labelled_splits(x.numpy(), y, domain, batch=1)
    with pytest.raises(DataError, match=r"labels must be a tensor of torch, got builtins.list"):
        labelled_splits(x, y.tolist(), domain, batch=1)
