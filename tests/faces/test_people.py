"""Who is one person in several domains: kept in one part, or asked; copies of a picture; names that look alike."""

import logging
import unicodedata

import numpy as np
import pytest
from PIL import Image

from fastadapt.cli import main
from fastadapt.data.domains.face_files import read_faces
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.data.domains.people import divided, find_people
from fastadapt.errors import DataError

DOMAINS = ("studio", "street", "phone")


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16)).astype(np.uint8))


def tree(folder, names_of, images=2):
    """A tree of folders; `names_of(domain)` gives the people of each domain. Every picture is another."""
    seed = 0
    for domain in DOMAINS:
        for name in names_of(domain):
            (folder / domain / name).mkdir(parents=True)
            for k in range(images):
                picture(seed := seed + 1).save(folder / domain / name / f"{k}.png")
    return folder


def read(folder, **more):
    return read_faces(folder, pixels=16, **more)


def parts_of(faces, key=lambda name: name.split("/")[1]):
    parts = {}
    for name, part in zip(faces.identity_names, faces.identity_part, strict=True):
        parts.setdefault(key(name), set()).add(int(part))
    return parts


def alone(domain):
    return [f"{domain}{i}" for i in range(8)]


def test_a_name_in_several_domains_is_asked_about(tmp_path):
    place = tree(tmp_path, lambda domain: ["ann", "bob", *alone(domain)])
    with pytest.raises(
        DataError, match=r"2 names \('ann', 'bob'\) stand in several domains, .*--data.same-names person"
    ):
        read(place)


@pytest.mark.parametrize("seed", range(5))
def test_one_person_is_in_one_part_of_all_domains(tmp_path, seed):
    names = [f"p{i:02d}" for i in range(20)]
    faces = read(tree(tmp_path, lambda domain: [*names, *alone(domain)]), same_names="person", seed=seed)
    parts = parts_of(faces)
    assert all(len(found) == 1 for found in parts.values())
    assert np.bincount([next(iter(parts[name])) for name in names]).tolist() == [12, 3, 5]


def test_names_apart_are_divided_as_they_ever_were(tmp_path):
    place = tree(tmp_path, lambda domain: [f"p{i}" for i in range(20)])
    apart, before = read(place, same_names="apart"), read(place, before=True)
    assert apart.person is None and apart.digest == before.digest
    assert any(len(found) > 1 for found in parts_of(apart).values())
    domain = np.repeat([0, 1, 2], 20)
    rng, old = np.random.default_rng(2020), np.full(60, 2)
    for each in range(3):  # what it was, by hand
        people = rng.permutation(np.flatnonzero(domain == each))
        old[people[:12]], old[people[12:15]] = 0, 1
    assert apart.identity_part.tolist() == old.tolist() == divided(domain, 2020).tolist()


def test_names_of_one_text_are_one_and_those_that_look_alike_are_told(tmp_path, caplog):
    forms = dict(zip(DOMAINS, ("NFC", "NFD", "NFC"), strict=True))
    names = {"studio": ["Anna"], "street": ["anna"], "phone": ["an\u200bna"]}
    place = tree(tmp_path, lambda d: [unicodedata.normalize(forms[d], "rené"), *names[d], *alone(d)])
    with caplog.at_level(logging.WARNING):
        faces = read(place, same_names="person")
    assert parts_of(faces, lambda name: unicodedata.normalize("NFC", name.split("/")[1]))["rené"] in ({0}, {1}, {2})
    assert "the people 'Anna' and 'anna' differ in case alone" in caplog.text
    assert "'Anna' and 'an\\u200bna' differ in characters that are not seen and case (U+200B" in caplog.text


def test_domains_that_look_alike_are_told(tmp_path, caplog):
    place = tree(tmp_path, alone)
    (place / "studio").rename(place / "Street")
    with caplog.at_level(logging.WARNING):
        read(place)
    assert "the domains 'Street' and 'street' differ in case alone" in caplog.text


def test_ordinary_people_are_read_without_a_word(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        faces = read(tree(tmp_path, alone))
    assert faces.person is None and not caplog.records


def copy(place, a, b):
    (place / b).write_bytes((place / a).read_bytes())


def test_a_picture_of_two_people_is_refused_and_one_of_two_domains_makes_one(tmp_path, caplog):
    place = tree(tmp_path, alone)
    copy(place, "studio/studio0/0.png", "street/street3/9.png")
    with caplog.at_level(logging.WARNING):
        faces = read(place, same_names="apart")
    both = [faces.identity_names.index(name) for name in ("studio/studio0", "street/street3")]
    assert len(set(faces.identity_part[both])) == 1 == len(set(faces.person[both]))
    assert "such as street/street3/9.png and studio/studio0/0.png; these are taken for one person" in caplog.text
    Image.open(place / "studio/studio0/0.png").save(place / "studio/studio1/copy.webp", lossless=True)
    with pytest.raises(DataError, match="are one picture of two people; keep it with one of them"):
        read(place)


def test_a_picture_that_a_person_has_twice_is_used_once(tmp_path, caplog):
    place = tree(tmp_path, alone)
    copy(place, "studio/studio0/0.png", "studio/studio0/7.png")
    with caplog.at_level(logging.WARNING):
        faces = read(place)
    assert len(faces.images) == 48 and "studio/studio0/7.png; each is used once" in caplog.text
    assert len(read(place, before=True).images) == 49


def test_blank_pictures_are_no_copies():
    images = np.zeros((3, 4, 4), np.uint8)
    found = find_people(images, np.arange(3), "abc", ["x/a", "x/b", "y/c"], np.array([0, 0, 1]))
    assert not (found.problems or found.linked)
    assert found.notes == [
        "3 images are blank, such as a: all pixels are equal, and there is nobody to be seen; remove what is blank"
    ]


def test_a_target_is_measured_on_people_who_did_not_train(tmp_path):
    names = [f"p{i:02d}" for i in range(20)]
    faces = read(tree(tmp_path, lambda domain: names), same_names="person")
    met = {faces.identity_names[i] for i in faces.met("phone", ["studio", "street"])}
    parts = parts_of(faces)
    assert met == {f"phone/{name}" for name in names if parts[name] <= {0, 1}} and len(met) == 15
    data = FacesData(
        domains=("studio", "street"), targets=("phone",), same_names="person", pixels=16, size=16, batch=12
    )
    made = data.of(faces)
    assert made.people_linked and made.people == 12  # each a class, in two domains
    drawn = data.source("train", faces).sample(np.random.default_rng(0))
    assert int(drawn.support[1].max()) < 12 and int(drawn.query[1].max()) < 12
    few = read(tree(tmp_path / "few", lambda domain: names[:4]), same_names="person")
    with pytest.raises(DataError, match="3 of the 4 people of target 'phone' train or validate in other domains"):
        data.of(few)


def test_a_run_of_earlier_is_read_as_it_was_with_a_warning(tmp_path, caplog):
    place = tree(tmp_path, lambda domain: [f"p{i}" for i in range(20)])
    before = read(place, before=True)
    data = FacesData(domains=("studio",), targets=("phone",), pixels=16, size=16, digest=before.digest)
    with caplog.at_level(logging.WARNING):
        faces = data.load(place)
    assert faces.digest == before.digest and "this run was made before that was looked for" in caplog.text


def test_check_tells_who_is_where(tmp_path, capsys):
    place = tree(tmp_path, lambda domain: [*(f"p{i}" for i in range(6)), domain])
    assert main(["check", str(place), "--faces"]) == 1
    assert "6 names ('p0', 'p1', 'p2', ...) stand in several domains" in capsys.readouterr().out
    assert main(["check", str(place), "--faces", "--data.same-names", "person"]) == 0
    told = capsys.readouterr().out
    assert "42 images of 9 people in 3 domains" in told and "phone: 7 people (" in told
    assert told.count("6 of them in other domains too") == 3
