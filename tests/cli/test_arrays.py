"""Files of arrays: what is written is read again, and a bad file is named with its fault."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tesa.cli.arrays import check_names, read_npz, write_npz
from tesa.errors import UsageError


def test_round_trip_with_awkward_names(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "a/b:0": np.float32([[1.5]]), "empty": np.zeros((0, 2), bool)}
    write_npz(tmp_path / "x.npz", arrays)
    for read in (read_npz(tmp_path / "x.npz"), dict(np.load(tmp_path / "x.npz"))):
        assert list(read) == list(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, {"x": np.arange(5)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.arange(1000))
    assert read_npz(tmp_path / "x.npz")["x"].sum() == 499500


def _text(path: Path) -> None:
    path.write_text("hello")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    write_npz(path, {"x": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:500])


def _damaged(path: Path) -> None:
    np.savez_compressed(path, x=np.arange(1000))
    data = bytearray(path.read_bytes())
    data[100:140] = bytes(40)
    path.write_bytes(data)


def _npy(path: Path) -> None:
    with open(path, "wb") as stream:
        np.save(stream, np.arange(3))


def _objects(path: Path) -> None:
    np.savez(path, x=np.array([{"a": 1}], dtype=object))


def _other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_text, "is not an .npz file; write one with numpy.savez"),
        (_empty, "is not an .npz file"),
        (_truncated, "is not an .npz file"),
        (_damaged, "array 'x' is damaged"),
        (_npy, "holds one array without a name"),
        (_objects, "array 'x' cannot be read: .*store plain numbers"),
        (_other_zip, "'readme.txt' is not an array"),
        (Path.mkdir, "Is a directory"),
        (lambda path: None, "there is no such file"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, make: object, text: str) -> None:
    assert callable(make)
    make(tmp_path / "in.npz")
    with pytest.raises(UsageError, match=rf"in\.npz.*{text}"):
        read_npz(tmp_path / "in.npz")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["image"], None),
        ([], "f.npz lacks 'image'; the model's inputs are 'image'"),
        (["image", "extra"], "f.npz has 'extra', which the model does not take"),
        (["imgae"], r"f.npz lacks 'image' and has 'imgae' \(meant 'image'\?\)"),
    ],
)
def test_names_must_be_those_of_the_model(names: list[str], text: str | None) -> None:
    if text is None:
        check_names(names, ["image"], "f.npz")
        return
    with pytest.raises(UsageError, match=text):
        check_names(names, ["image"], "f.npz")
