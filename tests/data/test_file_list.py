"""Lists of images: text, CSV, TSV and Parquet files, and what is skipped in them."""

from pathlib import Path
from typing import Any

import pytest

from cim_lightning.errors import ConfigError
from tests.image_tree import contents, open_folder, save_images

IMAGES = ("cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png", "my pictures/ü, 1.png", "x.png")


def write(root: Path, name: str, content: str | bytes) -> str:
    """Write a list beside the images and return its path."""
    save_images(root, *IMAGES)
    path = root / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def everything(path: str, root: Path, **settings: Any) -> dict[str, str | None]:
    splits = open_folder(path, **settings)
    return contents(splits.train, root) | contents(splits.val, root)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param(
            "files.txt",
            "# a comment\ncat/0.png\n\n  dog/3.png  \r\n",
            {"cat/0.png": "cat", "dog/3.png": "dog"},
            marks=pytest.mark.user_input(
                "source",
                "data.root=files.txt with a path per line",
                "the images in it, labeled by their folders",
            ),
        ),
        pytest.param(
            "files.txt",
            "cat/0.png 1\ndog/2.png 0\nx.png 10\n",
            {"cat/0.png": "1", "dog/2.png": "0", "x.png": "10"},
            marks=pytest.mark.user_input(
                "source", "lines `path label`, as in lists of ImageNet", "integer labels"
            ),
        ),
        ("files.lst", "my pictures/ü, 1.png\tb\nx.png\ta\n", {"my pictures/ü, 1.png": "b", "x.png": "a"}),
        ("files.txt", "./cat/../cat/0.png\ncat//1.png\n", {"cat/0.png": None, "cat/1.png": None}),
        pytest.param(
            "files.csv",
            "path,label\ncat/0.png,b\nx.png,a\n",
            {"cat/0.png": "b", "x.png": "a"},
            marks=pytest.mark.user_input(
                "source", "a CSV file with the columns path and label", "its labels"
            ),
        ),
        pytest.param(
            "files.csv",
            '\ufefffile_name;ID;Class\r\n"my pictures/ü, 1.png";7;Hund\r\nx.png;8;"Kätzchen"\r\n',
            {"my pictures/ü, 1.png": "Hund", "x.png": "Kätzchen"},
            marks=pytest.mark.user_input(
                "source", "a CSV file of Excel: BOM, semicolons, CRLF, quotes, other columns", "its labels"
            ),
        ),
        (
            "files.csv",
            "image,label\ncat/0.png,a\nx.png,b".encode("utf-16"),
            {"cat/0.png": "a", "x.png": "b"},
        ),
        pytest.param(
            "files.csv",
            ",Image Path,target\n0,cat/0.png,3.0\n1,cat/1.png,\n2,x.png,10.0\n3,dog/2.png,-1\n",
            {"cat/0.png": "3", "cat/1.png": None, "x.png": "10", "dog/2.png": None},
            marks=pytest.mark.user_input(
                "source",
                "a CSV file of pandas: index, labels such as 3.0, empty labels",
                "classes 3 and 10; the others unlabeled",
            ),
        ),
        ("files.csv", "cat/0.png,a\nx.png,b\n", {"cat/0.png": "a", "x.png": "b"}),  # no header
        (
            "files.tsv",
            "filename\tcategory\nmy pictures/ü, 1.png\ta\nx.png\tb\n",
            {"my pictures/ü, 1.png": "a", "x.png": "b"},
        ),
        pytest.param(
            "files.csv",
            "path,label\ncat\\0.png,a\nx.png,b\n",
            {"cat/0.png": "a", "x.png": "b"},
            marks=pytest.mark.user_input(
                "source", "a list with the backslashes of Windows", "the files are found"
            ),
        ),
    ],
)
def test_lists(tmp_path, name, content, expected):
    assert everything(write(tmp_path, name, content), tmp_path) == expected


def test_integer_labels_are_sorted_as_numbers(tmp_path):
    splits = open_folder(write(tmp_path, "a.txt", "cat/0.png 10\ncat/1.png 9\nx.png 1\n"), val="none")
    assert splits.train.classes == ["1", "9", "10"]
    assert splits.train.labels.tolist() == [2, 1, 0]


def test_the_images_have_the_order_of_the_list(tmp_path):
    splits = open_folder(write(tmp_path, "a.txt", "dog/3.png\ndog/2.png\ncat/0.png\n"), val="none")
    assert [*contents(splits.train, tmp_path)] == ["dog/3.png", "dog/2.png", "cat/0.png"]


def test_paths_outside_the_folder_of_the_list(tmp_path):
    save_images(tmp_path, *IMAGES)
    rows = f"../cat/0.png\ta\n{tmp_path}/dog/2.png\tb\nfile://{tmp_path}/x.png\tb\n"
    path = write(tmp_path / "lists", "files.txt", rows)
    assert everything(path, tmp_path) == {"cat/0.png": "a", "dog/2.png": "b", "x.png": "b"}


@pytest.mark.user_input(
    "source", "a table with a column split", "the splits of the table; others are counted"
)
def test_a_column_of_splits(tmp_path):
    rows = "cat/0.png,Train,c\ndog/2.png,Train,d\ncat/1.png,dev,c\ndog/3.png,test,d\nx.png,,d\n"
    splits = open_folder(write(tmp_path, "files.csv", f"path,split,label\n{rows}"))
    assert contents(splits.train, tmp_path) == {"cat/0.png": "c", "dog/2.png": "d"}
    assert contents(splits.val, tmp_path) == {"cat/1.png": "c"}
    assert splits.summary.endswith(
        "(2 for training from Train, 1 for validation from dev); skipped: 1 of test, 1 of without a split"
    )


@pytest.mark.user_input(
    "source", "data.root=train.csv data.val=val.csv", "a list per split; classes match by name"
)
def test_a_list_per_split(tmp_path):
    write(tmp_path, "val.csv", "path,label\ndog/2.png,dog\nx.png,cow\ncat/1.png,\n")
    root = write(tmp_path, "train.csv", "path,label\ncat/0.png,cat\ndog/2.png,dog\ndog/3.png,dog\n")
    splits = open_folder(root, val="val.csv")
    assert contents(splits.train, tmp_path) == {"cat/0.png": "cat", "dog/3.png": "dog"}  # not that of val
    assert contents(splits.val, tmp_path) == {"dog/2.png": "dog", "x.png": None, "cat/1.png": None}
    assert splits.val.unknown_classes == ["cow"]
    assert "1 for validation have no label, as there are no training images of cow" in splits.summary


@pytest.mark.user_input(
    "source",
    "a list of absolute paths in another folder, as from `find /my/images`",
    "the common folder of the images has the classes or splits",
)
@pytest.mark.parametrize("prefix", ["{root}/", "../images/"])
def test_a_list_in_another_folder(tmp_path, prefix):
    names = ["images/x/train/cat/0.png", "images/x/train/dog/1.png", "images/x/val/dog/2.png"]
    save_images(tmp_path, *names)
    (tmp_path / "lists").mkdir()
    listed = [name.replace("images/", prefix.format(root=tmp_path / "images")) for name in names]
    splits = open_folder(write(tmp_path / "lists", "files.txt", "\n".join(listed)))
    assert contents(splits.train, tmp_path) == {names[0]: "cat", names[1]: "dog"}
    assert contents(splits.val, tmp_path) == {names[2]: "dog"}


def test_splits_are_found_in_the_paths_of_a_list(tmp_path):
    save_images(tmp_path, "train/a/0.png", "train/b/1.png", "val/b/2.png")
    root = write(tmp_path, "files.csv", "path,label\ntrain/a/0.png,A\ntrain/b/1.png,B\nval/b/2.png,B\n")
    splits = open_folder(root)
    assert contents(splits.train, tmp_path) == {"train/a/0.png": "A", "train/b/1.png": "B"}
    assert contents(splits.val, tmp_path) == {"val/b/2.png": "B"}


@pytest.mark.user_input(
    "source", "missing files, duplicates and other files in a list", "they are skipped and counted"
)
def test_what_a_list_skips(tmp_path):
    (tmp_path / "notes.doc").write_text("text")
    names = [
        "cat/0.png",
        "gone.png",
        "cat/0.png",
        "cat/../cat/0.png",
        "notes.doc",
        "https://a.b/c.png",
        "x.png",
    ]
    splits = open_folder(write(tmp_path, "files.txt", "\n".join([*names, "cat"])))
    assert len(splits.train) + len(splits.val) == 2
    assert splits.summary.endswith("skipped: 2 missing files, 2 duplicates, 1 .doc, 1 URLs")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "a.txt",
            "nowhere/0.png\nnowhere/1.png",
            "lists no image (found: 2 missing files, such as 'nowhere/0.png'); paths are relative to",
            marks=pytest.mark.user_input(
                "source", "a list whose files do not exist", "one line names the first"
            ),
        ),
        ("a.txt", "", "lists no image (found: nothing); paths are relative"),
        pytest.param(
            "a.txt",
            "https://a.b/c.png",
            "lists no image (found: 1 URLs); download the images first",
            marks=pytest.mark.user_input("source", "a list of URLs", "one line: download the images first"),
        ),
        pytest.param(
            "a.csv",
            "id,label\n3,a\n",
            "has no column path, file or image (its columns: id, label); name the column",
            marks=pytest.mark.user_input(
                "source", "a table without a column of paths", "one line names its columns"
            ),
        ),
        (
            "a.csv",
            "path,split\ncat/0.png,one\nx.png,two\n",
            "has no training images in its column of splits (one, two)",
        ),
        ("a.parquet", "no table", "cannot be read (no Parquet file); check the file"),
    ],
)
def test_lists_that_are_refused(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(ConfigError) as caught:
        open_folder(path)
    assert str(caught.value).startswith(f"root={path}: {message}")


def parquet(root: Path, **columns: Any) -> str:
    import pyarrow
    from pyarrow import parquet

    save_images(root, *IMAGES)
    parquet.write_table(pyarrow.table(columns), root / "files.parquet")
    return str(root / "files.parquet")


@pytest.mark.user_input("source", "a Parquet table of paths and labels", "its labels")
def test_parquet(tmp_path):
    path = parquet(tmp_path, path=["x.png", "cat/0.png", "cat/1.png"], label=[2, None, 0], other=[1, 2, 3])
    assert everything(path, tmp_path) == {"x.png": "2", "cat/0.png": None, "cat/1.png": "0"}


@pytest.mark.user_input("source", "data=folder with a Parquet file of images", "one line names data=hf")
def test_parquet_of_images(tmp_path):
    path = parquet(tmp_path, image=[{"bytes": b"...", "path": "x.png"}])
    with pytest.raises(ConfigError, match=r"has images, not paths, in the column image; try data=hf$"):
        open_folder(path)


def test_without_pyarrow(tmp_path, monkeypatch):
    path = parquet(tmp_path, path=["x.png"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"\.parquet files: .*pip install 'cim-lightning\[parquet\]'$"):
        open_folder(path)


def test_comments_are_not_counted(tmp_path):
    path = write(tmp_path, "files.txt", "# a comment\ncat/0.png\ndog/2.png\n")
    assert "skipped" not in open_folder(path, val="none").summary


def test_the_fingerprint_depends_on_the_labels(tmp_path):
    paths = [
        write(tmp_path, name, f"path,label\ncat/0.png,{first}\nx.png,{second}\n")
        for name, first, second in (("1.csv", "a", "b"), ("2.csv", "b", "a"), ("3.csv", "a", "b"))
    ]
    one, other, same = (open_folder(path, val="none").train.fingerprint for path in paths)
    assert one == same != other
