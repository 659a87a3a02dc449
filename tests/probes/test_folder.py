"""A folder of images as a probe set: listing, selection, fingerprint."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from unprivileged_reader import open_folder, unprivileged

from modelspace import probes
from modelspace.errors import NotFoundError, ProbeError, UsageError
from modelspace.probes.listing import Choice, choose, list_images


def fill(folder, names, size=6, start=0):
    """One image per name, each of a different colour."""
    for k, name in enumerate(names, start):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (k % 256, k // 256, 77)).save(path, format="PNG")


@pytest.fixture
def ten(tmp_path):
    folder = tmp_path / "ten"
    fill(folder, [f"{k}.png" for k in range(10)])
    return folder


def refused(error, *arguments, **options):
    with pytest.raises(error) as caught:
        probes.folder(*arguments, **options)
    return caught.value


def test_importing_the_package_imports_neither_torch_nor_pillow():
    code = "import modelspace.probes, sys; print([m for m in ('torch', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_check_above_can_fail():
    code = "import modelspace.probes.decoding, sys; print('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_folder_becomes_a_set_and_its_pixels(ten):
    probe_set, images = probes.folder(ten, size=4)
    assert (probe_set.name, probe_set.kind, probe_set.n_images, probe_set.size) == ("ten", "folder", 10, 4)
    assert (images.shape, images.dtype) == ((10, 4, 4, 3), np.uint8)
    assert len(probe_set.probe_id) == 16
    assert probe_set.probe_id == probes.fingerprint(images, 4)
    assert sorted(images[:, 0, 0, 0]) == list(range(10))
    assert [f"{k}.png" for k in images[:, 0, 0, 0]] == probe_set.spec["files"]
    assert json.loads(json.dumps(probe_set.spec)) == probe_set.spec
    assert hash(probe_set) == hash(probes.folder(ten, size=4)[0])


def test_what_is_listed(tmp_path):
    names = ["b.PNG", "a.jpeg", "sub/deep/c.webp", "sub/d.jpg"]
    fill(tmp_path, [*names, ".hidden.png", ".git/e.png", "sub/._d.jpg"])
    (tmp_path / "notes.txt").touch()
    (tmp_path / "png").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    assert list_images(tmp_path) == sorted(names)


def test_links_are_followed_once_and_loops_do_no_harm(tmp_path):
    folder, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    fill(folder, ["a.png", "sub/b.png"])
    fill(elsewhere, ["c.png"])
    (folder / "up").symlink_to(folder)
    (folder / "sub" / "up").symlink_to("..")
    (folder / "link").symlink_to(elsewhere)
    (folder / "again").symlink_to(elsewhere)
    (folder / "file.png").symlink_to(elsewhere / "c.png")
    (folder / "self").symlink_to("self")
    assert list_images(folder) == ["a.png", "again/c.png", "file.png", "sub/b.png"]


def test_a_link_to_nothing_is_told_and_not_passed_over(tmp_path):
    fill(tmp_path, ["a.png"])
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert refused(ProbeError, tmp_path).message == f"the image {tmp_path / 'gone.png'} does not exist"


def test_the_order_of_the_file_system_plays_no_part(tmp_path, ten, monkeypatch):
    expected = probes.folder(ten, n_images=6, seed=3, size=4)[0]
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path):
            self.entries = list(scandir(path))
            random.Random(7).shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error): ...

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert probes.folder(ten, n_images=6, seed=3, size=4)[0] == expected


FILES = [f"{group}/{k}.png" for group in "abc" for k in range(8)] + ["top.png"]


def test_the_choice_is_the_same_for_all_time(tmp_path):
    """Recorded once: another order would give every registered folder another fingerprint."""
    assert choose(FILES, Choice(4, None, 0), tmp_path) == RECORDED_PLAIN
    assert choose(FILES[:-1], Choice(4, 2, 0), tmp_path) == RECORDED_SPREAD


RECORDED_PLAIN = ["b/7.png", "a/5.png", "a/6.png", "c/6.png"]
RECORDED_SPREAD = ["b/7.png", "a/5.png", "c/6.png", "a/6.png"]


@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 2**40))
def test_a_smaller_choice_is_the_beginning_of_a_larger(n, m, seed):
    n, m = sorted((n, m))
    larger = choose(FILES, Choice(m, None, seed), "folder")
    assert choose(FILES, Choice(n, None, seed), "folder") == larger[:n]
    assert choose(list(reversed(FILES)), Choice(m, None, seed), "folder") == larger
    assert len(set(larger)) == m


def test_another_seed_is_another_choice():
    choices = {tuple(choose(FILES, Choice(5, None, seed), "folder")) for seed in range(20)}
    assert len(choices) == 20


@given(st.integers(1, 8), st.integers(0, 2**40))
def test_so_many_of_each_subfolder_which_take_turns(per, seed):
    chosen = choose(FILES[:-1], Choice(None, per, seed), "folder")
    assert len(set(chosen)) == 3 * per
    for turn in range(per):
        assert {file[0] for file in chosen[3 * turn : 3 * turn + 3]} == set("abc")
    assert choose(FILES[:-1], Choice(2 * per, per, seed), "folder") == chosen[: 2 * per]


def test_subfolders_are_the_immediate_ones(tmp_path):
    fill(tmp_path, ["a/rgb/1.png", "a/more/2.png", "b/3.png", "b/4.png", "b/5.png", "top.png"])
    (tmp_path / "empty").mkdir()
    probe_set, _ = probes.folder(tmp_path, per_subfolder=1, size=2)
    assert sorted(file.partition("/")[0] for file in probe_set.spec["files"]) == ["a", "b", "top.png"]
    error = refused(ProbeError, tmp_path, per_subfolder=2)
    assert error.message == f"1 of the 3 subfolders of {tmp_path} have fewer than 2 images: . has 1"
    assert error.hint == "ask for 1 per subfolder"


def test_fewer_than_asked_for(ten):
    error = refused(ProbeError, ten, n_images=20)
    assert (error.message, error.hint) == (f"{ten} has 10 images, fewer than the 20 requested", "ask for 10 or fewer")
    error = refused(ProbeError, ten, n_images=9, per_subfolder=4)
    assert error.message == f"4 from each subfolder of {ten} are 4 images, fewer than the 9 requested"


def test_no_folder_an_empty_one_and_a_file(tmp_path):
    error = refused(ProbeError, tmp_path)
    assert error.message == f"the folder {tmp_path} has no images"
    assert error.hint == "looked for .png, .jpg, .jpeg, .webp"
    assert "there is no folder" in refused(ProbeError, tmp_path / "none").message
    (tmp_path / "a.png").touch()
    assert "is a file, not a folder of images" in refused(ProbeError, tmp_path / "a.png").message


def test_a_broken_image_is_named(ten):
    (ten / "4.png").write_bytes((ten / "4.png").read_bytes()[:50])
    assert f"the image {ten / '4.png'} is broken" in refused(ProbeError, ten).message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_images": 0}, "the number of images of a probe set can't be 0"),
        ({"per_subfolder": -1}, "the number of images per subfolder of a probe set can't be -1"),
        ({"size": 0}, "the image size of a probe set can't be 0"),
        ({"size": 5000}, "the image size of a probe set can't be 5000"),
        ({"seed": -1}, "the seed of a probe set can't be -1"),
        ({"seed": 1.5}, "the seed of a probe set can't be 1.5"),
        ({"name": "a b"}, "'a b' can't be the name of a probe set"),
    ],
)
def test_arguments_out_of_range(ten, options, words):
    assert refused(UsageError, ten, **options).message == words


def test_more_than_memory_holds_is_refused_before_an_image_is_opened(tmp_path):
    tmp_path = tmp_path / "big"
    tmp_path.mkdir()
    for k in range(90):
        (tmp_path / f"{k}.png").touch()
    error = refused(ProbeError, tmp_path, size=4096)
    assert error.message == "90 images of 4096 x 4096 pixels take 4.2 GiB of memory, more than the limit of 4 GiB"
    assert error.hint == "a few hundred suffice; ask for 85 or fewer"


def test_the_fingerprint_is_of_the_pixels_alone(tmp_path, ten):
    probe_set, images = probes.folder(ten, size=4)
    copy = tmp_path / "another name"
    copy.mkdir()
    for file in ten.iterdir():
        Image.open(file).save(copy / file.name, compress_level=0)
    renamed = probes.folder(copy, size=4)[0]
    assert renamed.probe_id == probe_set.probe_id
    assert renamed.name == "another-name"
    assert probes.folder(ten, size=5)[0].probe_id != probe_set.probe_id
    assert probes.folder(ten, size=4, seed=1)[0].probe_id != probe_set.probe_id
    changed = images.copy()
    changed[3, 2, 1, 0] ^= 1
    assert probes.fingerprint(changed, 4) != probe_set.probe_id
    assert (
        probes.fingerprint([probes.decode_png(probes.encode_png(image)) for image in images], 4) == probe_set.probe_id
    )


def test_duplicates_are_counted(ten):
    assert probes.folder(ten, size=4)[0].spec["duplicates"] == 0
    fill(ten, ["copy.png", "copy2.png"], start=3)
    fill(ten, ["copy3.png"], start=3)
    assert probes.folder(ten, size=4)[0].spec["duplicates"] == 3


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs file permissions")
def test_a_folder_that_may_not_be_read():
    with open_folder() as folder:
        fill(folder, ["a.png", "locked/b.png"])
        (folder / "locked").chmod(0)
        with unprivileged():
            error = refused(ProbeError, folder)
    assert error.message == f"the folder {folder / 'locked'} can't be read: Permission denied"


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are text there")
def test_a_file_name_that_is_no_text(tmp_path):
    fill(tmp_path, ["a.png"])
    os.rename(os.fsencode(tmp_path / "a.png"), os.fsencode(tmp_path) + b"/\xff.png")
    probe_set, _ = probes.folder(tmp_path, size=2)
    assert probe_set.spec["files"] == ["\\xff.png"] or probe_set.spec["files"] == ["\\udcff.png"]


def test_batches_are_the_images_in_order(ten):
    probe_set, images = probes.folder(ten, size=4)
    parts = list(probes.batches(probe_set, images, 1, 8, 3))
    assert [len(part) for part in parts] == [3, 3, 2]
    assert np.array_equal(np.concatenate(parts), images[1:9])
    assert list(probes.batches(probe_set, images, 0, 0, 3)) == []


def test_batches_that_cant_be_made(ten):
    probe_set, images = probes.folder(ten, size=4)
    with pytest.raises(ProbeError, match="has 10 images, fewer than the 11 requested"):
        probes.batches(probe_set, images, 4, 7, 3)
    with pytest.raises(ProbeError, match=r"has images of \(10, 4, 4, 3\) uint8, not \(9, 4, 4, 3\) uint8"):
        probes.batches(probe_set, images[1:], 0, 1, 1)
    with pytest.raises(UsageError, match="are not rendered: pass their pixels"):
        probes.batches(probe_set, None, 0, 1, 1)
    with pytest.raises(UsageError, match="can't make batches of 0"):
        probes.batches(probe_set, images, 0, 1, 0)
    other = probes.ProbeSet("x", "folders", {}, 1, 4, "0" * 16)
    with pytest.raises(NotFoundError, match="has the unknown kind 'folders'") as caught:
        probes.batches(other, images, 0, 1, 1)
    assert caught.value.hint == "did you mean folder?"
