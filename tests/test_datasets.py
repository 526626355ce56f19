"""Data sets are had from where they are published: downloads that break off, lie or move; what is made of them; the command."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_server import Site, serve
from terminal import fedsim, fine

from fedsim import fetch as fetching
from fedsim.cli.datasets import scenarios_by_file
from fedsim.dataset import Dataset, Source, all_datasets, digest_content, read_content, write_content
from fedsim.download import DownloadError, download
from fedsim.errors import DataError, OutputError
from fedsim.parties import datasets
from fedsim.parties.data._files import find_file

DATA = Path(os.environ.get("FEDSIM_DATA", "."))
BODY = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(files={"/a": BODY}) as site:
        yield site


def get(target: Path, *urls: str, sha256: str = SHA256, at_most: int = 10**8) -> list[int]:
    """Download, and what was told on the way."""
    told: list[int] = []
    download(urls, target, sha256, at_most, lambda have, whole: told.append(have))
    return told


def test_a_file_comes_whole_and_its_progress_is_told(site: Site, tmp_path: Path) -> None:
    told = get(tmp_path / "a", f"{site.url}/a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert told == sorted(told)
    assert told[-1] == len(BODY)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("lengths", [True, False])
def test_what_broke_off_is_gone_on_with(lengths: bool, site: Site, tmp_path: Path) -> None:
    site.cut["/a"] = 300_000
    with pytest.raises(DownloadError, match="broke off after 300,000 of 1,048,576 bytes; the same command goes on"):
        get(tmp_path / "a", f"{site.url}/a")
    assert not (tmp_path / "a").exists()
    site.lengths = lengths
    assert get(tmp_path / "a", f"{site.url}/a")[0] > 300_000
    assert site.asked[-1] == ("/a", "bytes=300000-")
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_server_that_cannot_go_on_begins_anew(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"old" * 1000)
    site.ranges = False
    get(tmp_path / "a", f"{site.url}/a")
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_part_that_is_longer_than_the_file_is_begun_anew(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(BODY + b"more")
    get(tmp_path / "a", f"{site.url}/a")
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_part_of_another_file_is_noticed_and_thrown_away(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match=r"another file than expected: its sha256 is [0-9a-f]{64}, not"):
        get(tmp_path / "a", f"{site.url}/a")
    assert list(tmp_path.iterdir()) == []
    get(tmp_path / "a", f"{site.url}/a")


def test_the_next_place_is_tried_and_all_reasons_are_told(site: Site, tmp_path: Path) -> None:
    get(tmp_path / "a", f"{site.url}/gone", f"{site.url}/a")
    with pytest.raises(DownloadError) as found:
        get(tmp_path / "b", f"{site.url}/gone", "http://127.0.0.1:1/a")
    assert str(found.value).startswith("http://127.0.0.1:1/a: cannot be reached (")
    assert f"{site.url}/gone: answers 404 (Not Found)" in str(found.value)
    assert "\n" not in str(found.value)


def test_redirects_are_followed_to_http_only(site: Site, tmp_path: Path) -> None:
    site.moved |= {"/old": "/a", "/local": f"file://{tmp_path}/secret", "/ring": "/ring"}
    get(tmp_path / "a", f"{site.url}/old")
    for path in ("/local", "/ring"):
        with pytest.raises(DownloadError):
            get(tmp_path / "b", site.url + path)
    assert not (tmp_path / "b").exists()


def test_a_file_that_is_too_large_is_not_taken(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="has 1,048,576 bytes; at most 1,000 were expected"):
        get(tmp_path / "a", f"{site.url}/a", at_most=1000)
    site.lengths = False
    with pytest.raises(DownloadError, match="sends more than the 300,000 bytes"):
        get(tmp_path / "b", f"{site.url}/a", at_most=300_000)


def test_the_proxy_of_the_environment_is_asked(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["http://data.example/a"] = BODY  # a proxy is asked for the whole address
    monkeypatch.setenv("http_proxy", site.url)
    get(tmp_path / "a", "http://data.example/a")
    assert site.asked == [("http://data.example/a", "")]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match="cannot be reached"):
        get(tmp_path / "b", "http://data.example/a")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    get(tmp_path / "b", f"{site.url}/a")


# --- the data sets -------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), compresslevel=1)


def made_up(name: str) -> dict[str, bytes]:
    """The sources of a data set, of the right form and with other numbers."""
    draw = np.random.default_rng(0)
    if name in ("mnist", "fashion_mnist"):
        images, labels = draw.integers(0, 256, (20, 28, 28), dtype=np.uint8), draw.integers(0, 10, 20, dtype=np.uint8)
        parts = {"train-images-idx3": images, "train-labels-idx1": labels}
        parts |= {"t10k-images-idx3": images[:5], "t10k-labels-idx1": labels[:5]}
        return {f"{part}-ubyte.gz": idx(array) for part, array in parts.items()}
    if name == "adult":
        row = "39, State-gov, 77516, Bachelors, 13, Never-married, ?, Not-in-family, White, Male, 2174, 0, 40, Peru, <=50K"
        train, test = f"{row}\n" * 32_561 + "\n", "|1x3 Cross validator\n" + f"{row}.\n" * 16_281
        return {"adult.data": train.encode(), "adult.test": test.encode()}
    if name == "mfeat":
        widths = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}
        return {f"mfeat-{view}": ((" 1" * width + "\n") * 2000).encode() for view, width in widths.items()}
    if name == "usps":
        row = "6.0000 " + "-1.0000 0.5410 " * 128 + "\n"
        return {f"zip.{part}.gz": gzip.compress((row * n).encode()) for part, n in (("train", 7291), ("test", 2007))}
    if name == "mnist_m":
        return {"mnist_m-dae4e08.zip": mnist_m(draw)}
    return {"cifar-10-binary.tar.gz": cifar(draw)}


def cifar(draw: np.random.Generator) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            records = np.zeros((10_000, 3073), np.uint8)
            records[:, 0], records[:, 1] = np.arange(10_000) % 10, draw.integers(0, 256, 10_000)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = records.nbytes
            archive.addfile(member, io.BytesIO(records.tobytes()))
    return file.getvalue()


def mnist_m(draw: np.random.Generator) -> bytes:
    from PIL import Image

    file, picture = io.BytesIO(), io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(picture, "PNG")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for part, count in (("train", 59_001), ("test", 9_001)):
            lines = [f"{i:08}.png {i % 10}" for i in range(count)]
            archive.writestr(f"repository-dae4e08/mnist_m/mnist_m_{part}_labels.txt", "\n".join(lines) + "\n")
            from fedsim.parties.datasets.mnist_m import chosen_rows

            for i in chosen_rows()[part]:
                archive.writestr(f"repository-dae4e08/mnist_m/mnist_m_{part}/{i:08}.png", picture.getvalue())
    return file.getvalue()


def put(folder: Path, sources: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in sources.items():
        (folder / name).write_bytes(content)
    return folder


NAMES = ["adult", "cifar10", "cifar10_4k", "fashion_mnist", "mfeat", "mnist", "mnist_m", "usps"]


def test_these_data_sets_are_known() -> None:
    assert list(all_datasets()) == NAMES
    for dataset in all_datasets().values():
        for source in dataset.sources:
            assert all(url.startswith(("https://", "http://fashion-mnist.")) for url in source.urls)


@pytest.mark.parametrize("name", NAMES)
def test_sources_of_the_right_form_are_converted_and_other_content_is_kept_only_on_demand(
    name: str, tmp_path: Path
) -> None:
    given, out = put(tmp_path / "given", made_up(name)), tmp_path / "out"
    dataset = all_datasets()[name]
    with pytest.raises(DataError, match=f"{name}: not the edition that results were recorded with: .*digest"):
        fetching.fetch(dataset, out, given, lambda source: lambda have, whole: None)
    assert list(out.iterdir()) == []
    place, there = fetching.fetch(dataset, out, given, lambda source: lambda have, whole: None, accept_changes=True)
    assert (place, there) == (out / dataset.file, False)
    assert [path.name for path in out.iterdir()] == [dataset.file]
    content = read_content(place)
    if name == "adult":
        assert isinstance(content, str)
        assert content.splitlines()[1].endswith("Never-married,,Not-in-family,White,Male,2174,0,40,Peru,<=50K,train")
        assert content.splitlines()[-1].endswith("<=50K,test")
        assert len(content.splitlines()) == 48_843
    else:
        assert not isinstance(content, str)
        sizes = {array.shape[0] for key, array in content.items() if key.startswith("x")}
        expected = {"mnist": {20, 5}, "fashion_mnist": {20, 5}, "usps": {7291, 2007}, "mnist_m": {5000, 2000}}
        assert sizes == {**expected, "cifar10": {50_000, 10_000}, "cifar10_4k": {4000}, "mfeat": set()}[name]
    if name == "usps":
        assert set(np.unique(content["x_train"])) == {0, 1541}  # type: ignore[index, call-overload]


@pytest.mark.parametrize("name", NAMES)
def test_damaged_sources_are_one_line(name: str, tmp_path: Path) -> None:
    sources = made_up(name)
    for what, damage in {
        "cut": lambda b: b[: len(b) // 2],
        "empty": lambda b: b"",
        "page": lambda b: b"<html>",
    }.items():
        given = put(tmp_path / what, {key: damage(value) for key, value in sources.items()})
        with pytest.raises(DataError) as found:
            fetching.fetch(all_datasets()[name], tmp_path / "out", given, lambda source: lambda have, whole: None)
        assert "\n" not in str(found.value)
        assert str(found.value).startswith(name)
        assert not (tmp_path / "out" / all_datasets()[name].file).exists()


PUBLISHED = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 of the files of MNIST, unpacked."""


def original(name: str) -> dict[str, bytes]:
    """The sources of a data set as they are published, made from the file that is at hand."""
    content: Any = read_content(DATA / all_datasets()[name].file)
    if name == "adult":
        rows = [line.split(",") for line in content.splitlines()[1:]]
        train, test = (
            [", ".join(c or "?" for c in r[:-1]) for r in rows if r[-1] == part] for part in ("train", "test")
        )
        ends = "\n".join(train) + "\n\n", "|1x3 Cross validator\n" + "\n".join(f"{row}." for row in test) + "\n\n"
        return dict(zip(("adult.data", "adult.test"), (end.encode() for end in ends), strict=True))
    if name == "usps":
        found = {}
        for part in ("train", "test"):
            pixels = content[f"x_{part}"].reshape(-1, 256).astype(int) / 1000 - 1
            lines = (
                f"{y}.0000 " + " ".join(f"{v:.4f}" for v in row)
                for y, row in zip(content[f"y_{part}"], pixels, strict=True)
            )
            found[f"zip.{part}.gz"] = gzip.compress("\n".join(lines).encode(), compresslevel=1)
        return found
    if name == "mfeat":
        return {
            f"mfeat-{view}": "\n".join(" ".join(str(v) for v in row) for row in content[view]).encode()
            for view in ("fou", "fac", "kar", "pix", "zer", "mor")
        }
    parts = {"train-images-idx3": "x_train", "train-labels-idx1": "y_train"}
    parts |= {"t10k-images-idx3": "x_test", "t10k-labels-idx1": "y_test"}
    return {f"{part}-ubyte.gz": idx(content[array]) for part, array in parts.items()}


@pytest.mark.parametrize("name", ["adult", "mfeat", "mnist", "usps"])
def test_what_is_made_of_the_originals_is_what_scenarios_were_recorded_with(name: str, tmp_path: Path) -> None:
    dataset = all_datasets()[name]
    if not (DATA / dataset.file).is_file():
        pytest.skip(f"{dataset.file} is not in the folder that FEDSIM_DATA names")
    sources = original(name)
    if name == "mnist":
        for file, md5 in PUBLISHED.items():
            assert hashlib.md5(gzip.decompress(sources[file])).hexdigest() == md5
    for source in dataset.sources:  # the checksums of what UCI serves
        assert source.sha256 in ("", hashlib.sha256(sources[source.name]).hexdigest())
    given = put(tmp_path / "given", sources)
    place, _ = fetching.fetch(dataset, tmp_path, given, lambda source: lambda have, whole: None)
    assert digest_content(read_content(place)) == dataset.content
    assert digest_content(read_content(DATA / dataset.file)) == dataset.content
    assert fetching.fetch(dataset, tmp_path, given, lambda source: lambda have, whole: None) == (place, True)


def test_digests_do_not_depend_on_compression_or_order(tmp_path: Path) -> None:
    content = {"b": np.arange(6, dtype="<i4").reshape(2, 3), "a": np.array(["x", "yy"])}
    write_content(tmp_path / "one.npz", content)
    np.savez(tmp_path / "two.npz", a=content["a"], b=content["b"])
    assert digest_content(read_content(tmp_path / "one.npz")) == digest_content(read_content(tmp_path / "two.npz"))
    assert digest_content(content) == digest_content(read_content(tmp_path / "one.npz"))
    assert digest_content({**content, "b": content["b"] + 1}) != digest_content(content)
    assert digest_content({**content, "b": content["b"].T}) != digest_content(content)
    write_content(tmp_path / "t.csv.gz", "a,b\n1,2\n")
    assert read_content(tmp_path / "t.csv.gz") == "a,b\n1,2\n"
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad\.npz cannot be read"):
        read_content(tmp_path / "bad.npz")


# --- the command ---------------------------------------------------------------------------------------------------------


PLUGIN = '''
"""Two numbers."""
from fedsim.dataset import Dataset, Source
class Toy(Dataset):
    """A toy."""
    title, file, origin, licence, size = "a toy", "toy.csv.gz", "http://toy.example", "CC0", 10
    content = "{content}"
    sources = (Source("toy.txt", ("{url}/toy.txt",), 10**8, "{sha256}"), Source("more.txt", ("{url}/more.txt",), 10**8))
    @classmethod
    def convert(cls, sources):
        return "x\\n" + sources["toy.txt"].read_text() + sources["more.txt"].read_text()
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> Path:
    """A data set of a plug-in that a local site has; the current folder is the one that is returned."""
    site.files |= {"/toy.txt": b"1\n", "/more.txt": b"2\n"}
    (tmp_path / "plugins").mkdir()
    digests = {"content": digest_content("x\n1\n2\n"), "sha256": hashlib.sha256(b"1\n").hexdigest()}
    (tmp_path / "plugins/toy.py").write_text(PLUGIN.format(url=site.url, **digests))
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path / "plugins")])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("FEDSIM_DATA", raising=False)
    yield tmp_path / "here"  # type: ignore[misc]
    sys.modules.pop("fedsim.parties.datasets.toy", None)


def test_a_data_set_is_fetched_once_and_then_it_is_there(toy: Path, site: Site) -> None:
    assert fine("data", "fetch", "toy") == "toy: toy.csv.gz\n"
    assert read_content(toy / "toy.csv.gz") == "x\n1\n2\n"
    assert [path.name for path in toy.iterdir()] == ["toy.csv.gz"]
    asked = len(site.asked)
    assert fine("data", "fetch", "toy") == "toy: toy.csv.gz (there already)\n"
    assert len(site.asked) == asked
    assert "toy.csv.gz (10 bytes): here, " in fine("data")
    write_content(toy / "toy.csv.gz", "something else")
    said = fedsim("data", "fetch", "toy")
    assert said.code == 2
    assert "toy.csv.gz: is there, and is another file: its content has the digest" in said.err


def test_it_goes_where_scenarios_look_or_where_one_says(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_DATA", str(toy / "data"))
    assert fine("data", "fetch", "toy") == f"toy: {toy}/data/toy.csv.gz\n"
    assert fine("data", "fetch", "toy", "--to", "other") == "toy: other/toy.csv.gz\n"


def test_another_edition_is_not_kept_unless_one_says_so(toy: Path, site: Site) -> None:
    site.files["/more.txt"] = b"3\n"
    said = fedsim("data", "fetch", "toy")
    assert said.code == 2
    assert "toy: not the edition that results were recorded with: its content has the digest" in said.err
    assert list(toy.iterdir()) == []
    assert fine("data", "fetch", "toy", "--accept-changes") == "toy: toy.csv.gz\n"


def test_a_source_of_another_checksum_is_refused(toy: Path, site: Site) -> None:
    site.files["/toy.txt"] = b"9\n"
    said = fedsim("data", "fetch", "toy", "--accept-changes")
    assert said.code == 2
    assert "another file than expected: its sha256 is" in said.err
    assert list(toy.iterdir()) == []


def test_without_a_network_the_line_names_every_file_and_place(toy: Path, site: Site) -> None:
    site.files.pop("/more.txt")
    said = fedsim("data", "fetch", "toy", "--to", "data")
    (line,) = [line for line in said.err.splitlines() if line.startswith("fedsim: ")]
    assert said.code == 2
    assert f"toy: {site.url}/more.txt: answers 404 (Not Found); without a network: " in line
    for word in (
        f"toy.txt from {site.url}/toy.txt",
        f"more.txt from {site.url}/more.txt",
        f"{toy}/data",
        "--from FOLDER",
    ):
        assert word in line
    put(toy / "mine", {"toy.txt": b"1\n"})
    missing = fedsim("data", "fetch", "toy", "--from", "mine")
    assert missing.err == f"fedsim: mine: no more.txt; get it from {site.url}/more.txt\n"
    (toy / "mine/more.txt").write_bytes(b"2\n")
    assert fine("data", "fetch", "toy", "--from", "mine") == "toy: toy.csv.gz\n"
    assert sorted(path.name for path in (toy / "mine").iterdir()) == ["more.txt", "toy.txt"]


def test_a_folder_that_cannot_be_written_is_one_line(toy: Path) -> None:
    (toy / "file").write_text("")
    said = fedsim("data", "fetch", "toy", "--to", "file")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("fedsim: file: cannot be written: ")


def test_two_at_once_are_told_apart(toy: Path) -> None:
    with fetching._alone(toy / ".fedsim-fetch/toy"):
        said = fedsim("data", "fetch", "toy")
        assert "another `fedsim data fetch` is at work there" in said.err
        with pytest.raises(OutputError), fetching._alone(toy / ".fedsim-fetch/toy"):
            pass


class Endless(Dataset):
    """A file that never ends; see below."""

    title, file, origin, licence, size, content = "", "endless.csv.gz", "", "", 0, ""

    @classmethod
    def convert(cls, sources: Any) -> str:
        return ""


INTERRUPTED = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from test_datasets import Endless
from fedsim.dataset import Source
from fedsim.fetch import fetch
Endless.sources = (Source("big.bin", ({url!r},), 10**8),)
def told(have, whole):
    print("at work", flush=True)
    import time
    time.sleep(60)
fetch(Endless, Path({to!r}), None, lambda source: told)
"""


def test_after_ctrl_c_nothing_is_half_written_and_the_next_goes_on(site: Site, tmp_path: Path) -> None:
    words = {"tests": str(Path(__file__).parent), "url": f"{site.url}/a", "to": str(tmp_path / "data")}
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(**words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        process.send_signal(signal.SIGINT)
        process.wait()
    assert not (tmp_path / "data/endless.csv.gz").exists()
    (part,) = (tmp_path / "data/.fedsim-fetch" / Endless.kind()).glob("*.part")
    size = part.stat().st_size
    assert 0 < size < len(BODY)
    download([f"{site.url}/a"], part.with_suffix(""), SHA256, 10**8, lambda have, whole: None)
    assert site.asked[-1] == ("/a", f"bytes={size}-")


def test_a_missing_file_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDSIM_DATA", raising=False)
    with pytest.raises(DataError, match=r"no data file 'adult\.csv\.gz'.*; `fedsim data fetch adult` gets it$"):
        find_file("adult.csv.gz")
    with pytest.raises(DataError, match=r"\(\$FEDSIM_DATA is not set\)$"):
        find_file("mine.csv")


def test_every_file_that_shipped_scenarios_ask_for_is_a_data_set() -> None:
    users = scenarios_by_file()
    assert {dataset.file for dataset in all_datasets().values()} == set(users)
    assert {"adult", "adult_card", "best_arm --profile adult", "leakage_paper --profile adult"} == set(
        users["adult.csv.gz"]
    )
    assert "uda_poisoning --profile paper" in users["usps.npz"]


def test_the_list_says_what_there_is_to_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDSIM_DATA", raising=False)
    said = fine("data")
    for dataset in all_datasets().values():
        for word in (dataset.title, dataset.file, dataset.origin, dataset.licence, dataset.content):
            assert word in said
    assert "adult.csv.gz (600.0 kB): not here" in said
    assert fedsim("data", "fetch", "adlt").err.startswith(
        "fedsim: unknown kind 'adlt' in datasets; did you mean 'adult'?"
    )


def test_sources_have_a_name_of_a_file() -> None:
    for dataset in all_datasets().values():
        assert all(isinstance(source, Source) and Path(source.name).name == source.name for source in dataset.sources)
