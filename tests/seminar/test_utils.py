"""The student's toolbox: MNIST from mirrors that misbehave, minibatches, plots and weights."""

import gzip
import html
import io
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import warnings
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pooch
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import norm
from tqdm import tqdm

import utils
from vae import mnist, pictures, progress
from vae.checks.exercise import Interrupted

PROJECT = Path(utils.__file__).resolve().parent
SMALL_FILE = "t10k-labels-idx1-ubyte.gz"
BIG_FILE = "train-images-idx3-ubyte.gz"


@pytest.fixture(scope="session")
def raw(mnist_dir):
    """The arrays of the four files, read without the package."""
    def read(name):
        content = gzip.open(mnist_dir / name).read()
        n_dims = content[3]
        shape = struct.unpack_from(f">{n_dims}I", content, 4)
        return np.array(memoryview(content)[4 + 4 * n_dims:]).reshape(shape)

    return {name: read(name) for name in mnist.SHA256}


@pytest.fixture(scope="session")
def fallback():
    return mnist._load_offline_images()


@pytest.fixture
def cache(fallback, tmp_path, monkeypatch):
    """The cache folder, which does not exist yet, of a user without MNIST and without a network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if tmp_path not in pooch.os_cache("vae-seminar").parents:
        pytest.skip("the cache folder of this system does not follow XDG_CACHE_HOME")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", (refused_url(),))
    monkeypatch.setattr(mnist, "_load_offline_images", lambda: fallback)
    return tmp_path / "cache" / "vae-seminar" / "mnist"


def refused_url():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.fixture
def serve(mnist_dir, monkeypatch):
    """A function that starts a mirror with a given behaviour; several may run at once."""
    monkeypatch.setattr(mnist, "TIMEOUT", 1)
    servers = []

    def start(behaviour="good"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
        server.daemon_threads = True
        server.folder, server.behaviour, server.requested = mnist_dir, behaviour, []
        server.half_sent, server.closing = threading.Event(), threading.Event()
        server.both_here = threading.Barrier(2)
        server.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def certificate(tmp_path):
    """The files of a certificate that no program trusts, and of its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs the program openssl")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", "key.pem", "-out", "certificate.pem"],
                   cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    return tmp_path / "certificate.pem", tmp_path / "key.pem"


class Mirror(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server, name = self.server, self.path[1:]
        server.requested.append(name)
        self.close_connection = True
        content = (server.folder / name).read_bytes()
        try:
            getattr(self, server.behaviour)(content)
        except ConnectionError:
            pass

    def answer(self, body, status=200, **headers):
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def good(self, content):
        self.answer(content, Content_Length=len(content))

    def good_for_two_at_once(self, content):
        if self.path.endswith(BIG_FILE):
            self.server.both_here.wait(600)
        self.good(content)

    def hangs(self, content):
        self.server.closing.wait(8)
        self.good(content)

    def hangs_halfway(self, content):
        self.answer(content[:len(content) // 2], Content_Length=len(content))
        self.server.half_sent.set()
        self.server.closing.wait(8)
        self.wfile.write(content[len(content) // 2:])

    def forbidden(self, content):
        self.answer(b"no", status=403, Content_Length=2)

    def html(self, content):
        page = b"<html>Please log in to the Wi-Fi</html>"
        self.answer(page, Content_Type="text/html", Content_Length=len(page))

    def half(self, content):
        self.answer(content[:len(content) // 2], Content_Length=len(content))

    def half_without_length(self, content):
        self.answer(content[:len(content) // 2], Connection="close")

    def half_in_chunks(self, content):
        piece = content[:len(content) // 2]
        self.answer(b"%x\r\n%s\r\n" % (len(piece), piece), Transfer_Encoding="chunked")

    def half_in_finished_chunks(self, content):
        piece = content[:len(content) // 2]
        self.answer(b"%x\r\n%s\r\n0\r\n\r\n" % (len(piece), piece), Transfer_Encoding="chunked")

    def wrong_bytes(self, content):
        self.answer(content[::-1], Content_Length=len(content))


BAD_BEHAVIOURS = [
    "hangs", "hangs_halfway", "forbidden", "html", "half", "half_without_length",
    "half_in_chunks", "half_in_finished_chunks", "wrong_bytes",
]


def fill(folder, mnist_dir, leave_out=()):
    folder.mkdir(parents=True)
    for name in mnist.SHA256:
        if name not in leave_out:
            shutil.copy(mnist_dir / name, folder / name)
            (folder / name).chmod(0o644)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def load_quietly(*args):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return utils.load_dataset(*args)


def assert_full_mnist(dataset, raw, every=97):
    X_train, y_train, X_val, y_val, X_test, y_test = dataset
    for X, y, n in (X_train, y_train, 50000), (X_val, y_val, 10000), (X_test, y_test, 10000):
        assert X.shape == (n, 1, 28, 28) and X.dtype == np.float32
        assert y.shape == (n,) and y.dtype == np.int64
        assert X.min() == 0 and X.max() == 1
    images, labels, test_images, test_labels = raw.values()
    for X, expected in (X_train, images[:50000]), (X_val, images[50000:]), (X_test, test_images):
        np.testing.assert_allclose(X[::every, 0], expected[::every] / 255, rtol=1e-6)
    np.testing.assert_array_equal(y_train, labels[:50000])
    np.testing.assert_array_equal(y_val, labels[50000:])
    np.testing.assert_array_equal(y_test, test_labels)


def assert_fallback(dataset):
    assert [len(array) for array in dataset] == [4000, 4000, 500, 500, 500, 500]


def assert_same_files(folder, mnist_dir):
    """The folder holds the four good files, and nothing half-written beside them."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(mnist.SHA256)
    for name in mnist.SHA256:
        assert (folder / name).read_bytes() == (mnist_dir / name).read_bytes()


def test_load_from_named_folder(mnist_dir, raw, cache):
    assert_full_mnist(load_quietly(str(mnist_dir)), raw, every=3)
    assert_full_mnist(load_quietly(mnist_dir), raw)
    assert not cache.exists()


def test_load_from_folder_in_environment(mnist_dir, raw, cache, monkeypatch):
    monkeypatch.setenv("MNIST_DIR", str(mnist_dir))
    assert_full_mnist(load_quietly(), raw)


def test_argument_beats_environment(mnist_dir, raw, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_DIR", str(tmp_path / "nowhere"))
    assert_full_mnist(load_quietly(mnist_dir), raw)

    monkeypatch.setenv("MNIST_DIR", str(mnist_dir))
    with pytest.warns(UserWarning) as caught:
        assert_fallback(utils.load_dataset(tmp_path / "nowhere"))
    assert "nowhere" in str(caught[0].message)


def test_load_from_cache(mnist_dir, raw, cache):
    fill(cache, mnist_dir)
    assert_full_mnist(load_quietly(), raw)


def test_download_once(mnist_dir, raw, cache, serve, monkeypatch, capfd, caplog):
    server, logger = serve(), pooch.get_logger()
    for attribute, value in ("level", 0), ("handlers", [caplog.handler]), ("_cache", {}):
        monkeypatch.setattr(logger, attribute, value)  # as after the import of pooch
    monkeypatch.setattr(mnist, "MIRRORS", (server.url,))
    assert_full_mnist(load_quietly(), raw)
    assert_same_files(cache, mnist_dir)
    assert caplog.records == []
    shown = capfd.readouterr()
    assert f"MNIST: {BIG_FILE}" in shown.out and shown.err == ""
    assert shown.out.endswith("\r") and shown.out.split("\r")[-2].strip() == ""

    assert_full_mnist(load_quietly(), raw)
    assert server.requested == list(mnist.SHA256)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("behaviour", BAD_BEHAVIOURS + ["refused"])
def test_second_mirror_helps(behaviour, mnist_dir, raw, cache, serve, monkeypatch):
    first = refused_url() if behaviour == "refused" else serve(behaviour).url
    fill(cache, mnist_dir, leave_out=[SMALL_FILE])
    second = serve()
    monkeypatch.setattr(mnist, "MIRRORS", (first, second.url))
    assert_full_mnist(load_quietly(), raw)
    assert second.requested == [SMALL_FILE]
    assert_same_files(cache, mnist_dir)


@pytest.mark.parametrize("missing", [BIG_FILE, SMALL_FILE])
def test_all_mirrors_bad(missing, mnist_dir, cache, serve, monkeypatch, capfd):
    fill(cache, mnist_dir, leave_out=[missing])
    mirrors = [refused_url()] + [serve(behaviour).url for behaviour in BAD_BEHAVIOURS]
    monkeypatch.setattr(mnist, "MIRRORS", mirrors)
    with pytest.warns(UserWarning) as caught:
        assert_fallback(utils.load_dataset())
    assert len(caught) == 1 and caught[0].filename == __file__
    message = str(caught[0].message)
    for part in mirrors + [missing, "403", "SHA-256", "4 000", "data_dir", "MNIST_DIR"]:
        assert part in message
    assert missing not in os.listdir(cache) and len(os.listdir(cache)) == 3
    assert capfd.readouterr().err == ""


def test_damaged_file_in_cache(mnist_dir, raw, cache, serve, monkeypatch):
    fill(cache, mnist_dir)
    damage(cache / SMALL_FILE)
    assert_full_mnist(load_quietly(mnist_dir), raw)  # a named folder comes first
    with pytest.warns(UserWarning) as caught:  # no mirror answers: never load the damaged file
        assert_fallback(utils.load_dataset())
    assert len(caught) == 2

    server = serve()
    monkeypatch.setattr(mnist, "MIRRORS", (server.url,))
    with pytest.warns(UserWarning) as caught:
        assert_full_mnist(utils.load_dataset(), raw)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert str(cache / SMALL_FILE) in str(caught[0].message)
    assert server.requested == [SMALL_FILE]
    assert_same_files(cache, mnist_dir)


def test_damaged_and_missing_files_in_named_folder(
    mnist_dir, raw, cache, serve, tmp_path, monkeypatch
):
    folder, damaged, missing = tmp_path / "mine", SMALL_FILE, "train-labels-idx1-ubyte.gz"
    fill(folder, mnist_dir, leave_out=[missing])
    damage(folder / damaged)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(mnist, "MIRRORS", (serve().url,))
    with pytest.warns(UserWarning) as caught:
        assert_full_mnist(utils.load_dataset(folder), raw)
    about_missing, about_damaged = caught
    assert missing in str(about_missing.message) and damaged not in str(about_missing.message)
    assert str(folder / damaged) in str(about_damaged.message)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(os.listdir(cache)) == sorted([damaged, missing])

    monkeypatch.setattr(mnist, "MIRRORS", (refused_url(),))
    with pytest.warns(UserWarning):
        assert_full_mnist(utils.load_dataset(folder), raw)


@pytest.mark.parametrize("in_place_of", ["cache", "vae-seminar", "mnist"])
def test_unwritable_cache(in_place_of, mnist_dir, raw, cache, serve, tmp_path, monkeypatch):
    folder, obstacle = tmp_path / "mine", cache
    fill(folder, mnist_dir, leave_out=[SMALL_FILE])
    while obstacle.name != in_place_of:
        obstacle = obstacle.parent
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("not a folder")
    monkeypatch.setattr(mnist, "MIRRORS", (serve().url,))
    with pytest.warns(UserWarning) as caught:
        assert_full_mnist(utils.load_dataset(folder), raw)
    assert str(cache) in str(caught[1].message) and caught[1].filename == __file__
    assert obstacle.read_text() == "not a folder"


def start_loading(mirror, cache):
    code = ("import sys, utils, warnings\n"
            "from vae import mnist\n"
            "warnings.simplefilter('error')\n"
            "mnist.MIRRORS = (sys.argv[1],)\n"
            "print('sum', sum(array.sum(dtype=float) for array in utils.load_dataset()))")
    environment = dict(os.environ, PYTHONPATH=str(PROJECT), XDG_CACHE_HOME=str(cache.parents[1]))
    return subprocess.Popen([sys.executable, "-c", code, mirror], text=True, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.process
def test_killed_download(mnist_dir, raw, cache, serve, monkeypatch):
    server = serve("hangs_halfway")
    process = start_loading(server.url, cache)
    while not server.half_sent.wait(0.1):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert not (cache / BIG_FILE).exists()
    monkeypatch.setattr(mnist, "MIRRORS", (serve().url,))
    assert_full_mnist(load_quietly(), raw)


def test_interrupted_download(mnist_dir, cache, serve, monkeypatch):
    class StopButton(tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(progress, "_Bar", StopButton)
    monkeypatch.setattr(mnist, "MIRRORS", (serve().url,))
    with pytest.raises(KeyboardInterrupt):
        utils.load_dataset()
    assert list(cache.iterdir()) == []


@pytest.mark.process
def test_two_processes_download_at_once(mnist_dir, raw, cache, serve):
    server = serve("good_for_two_at_once")
    processes = [start_loading(server.url, cache) for _ in range(2)]
    images, labels, test_images, test_labels = (a.sum(dtype=float) for a in raw.values())
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        total = float(out.split("sum")[-1])
        assert total == pytest.approx((images + test_images) / 255 + labels + test_labels)
    assert server.requested.count(BIG_FILE) == 2
    assert_same_files(cache, mnist_dir)


def test_idx_errors():
    labels = b"\0\0\x08\x01" + struct.pack(">I", 3)
    np.testing.assert_array_equal(mnist._parse_idx(gzip.compress(labels + b"abc")), list(b"abc"))
    with pytest.raises(ValueError, match="Got 2 bytes.* expected sizes .3"):
        mnist._parse_idx(gzip.compress(labels + b"ab"))
    with pytest.raises(ValueError, match="Got IDX header 00000802.*, expected magic"):
        mnist._parse_idx(gzip.compress(b"\0\0\x08\x02" + labels[4:] + b"abc"))
    with pytest.raises(ValueError, match="Got IDX header"):
        mnist._parse_idx(gzip.compress(labels[:6]))


def test_fallback(raw, cache):
    with pytest.warns(UserWarning, match="(?s)=====.*ВНИМАНИЕ.*====="):
        dataset = utils.load_dataset()
    parts = list(zip(dataset[::2], dataset[1::2]))
    for (X, y), n in zip(parts, (4000, 500, 500)):
        assert X.shape == (n, 1, 28, 28) and X.dtype == np.float32
        assert y.shape == (n,) and y.dtype == np.int64
        assert X.min() == 0 and X.max() == 1
        np.testing.assert_array_equal(np.bincount(y), [n // 10] * 10)

    def pairs(X, y):
        return Counter((image.tobytes(), int(digit)) for image, digit in zip(X, y))

    X, y = np.concatenate(dataset[::2]), np.concatenate(dataset[1::2])
    found = pairs(np.rint(X * 255).astype(np.uint8), y)
    images, labels, test_images, test_labels = raw.values()
    real = pairs(np.concatenate([images, test_images]), np.concatenate([labels, test_labels]))
    assert not found - real

    assert y[:20].tolist() == list(range(10)) * 2
    assert X[:3].sum() == pytest.approx(304.9529, abs=1e-3)  # the same split with every NumPy


def test_a_network_that_inspects_tls(mnist_dir, cache, serve, certificate, monkeypatch):
    """Its certificate is not trusted until the user names its file."""
    server, tls = serve(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    monkeypatch.setattr(mnist, "MIRRORS", (server.url.replace("http:", "https:"),))
    for name in "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE":
        monkeypatch.delenv(name, raising=False)
    with pytest.warns(UserWarning) as warned:
        utils.load_dataset()
    text = "".join(str(warning.message) for warning in warned)
    assert "сертификат сервера проверить не удалось" in text and "REQUESTS_CA_BUNDLE" in text
    assert "нет связи" not in text and not server.requested
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    utils.load_dataset()
    assert_same_files(cache, mnist_dir)


def test_without_the_offline_images(mnist_dir, cache, monkeypatch):
    """``pip install`` of the package alone does not install them."""
    monkeypatch.setitem(sys.modules, "vae_seminar_images", None)
    fill(cache, mnist_dir, leave_out=[SMALL_FILE])
    with pytest.raises(FileNotFoundError, match="MNIST не загружен") as caught:
        utils.load_dataset()
    for part in [*mnist.MIRRORS, SMALL_FILE, "нет связи", "Что делать", "data_dir", "MNIST_DIR",
                 "pip install ./wheels/offline_images"]:
        assert part in str(caught.value)
    assert (PROJECT / "wheels" / "offline_images" / "pyproject.toml").is_file()


def numbered(n):
    inputs = np.arange(n)
    return inputs, inputs * 10


def test_minibatches_are_a_permutation():
    inputs, targets = numbered(60)
    batches = list(utils.iterate_minibatches(inputs, targets, batchsize=15))
    assert [len(batch) for batch, _ in batches] == [15] * 4
    order = np.concatenate([batch for batch, _ in batches])
    assert sorted(order) == list(inputs) and list(order) != list(inputs)
    for batch, batch_targets in batches:
        np.testing.assert_array_equal(batch_targets, batch * 10)


def test_minibatches_without_targets_and_shuffle():
    images = np.random.rand(47, 1, 28, 28).astype(np.float32)
    batches = list(utils.iterate_minibatches(images, shuffle=False))
    assert len(batches) == 2  # of 20, the last 7 are left out
    np.testing.assert_array_equal(np.concatenate(batches), images[:40])
    assert batches[0].dtype == np.float32


def test_minibatches_leave_out_samples_at_random():
    inputs, _ = numbered(5)
    left_out = {10 - sum(batch) for _ in range(200)
                for batch in utils.iterate_minibatches(inputs, batchsize=4)}
    assert left_out == set(range(5))


def test_minibatches_are_repeatable():
    inputs, _ = numbered(100)

    def order(rng=None):
        return np.concatenate(list(utils.iterate_minibatches(inputs, rng=rng))).tolist()

    np.random.seed(1)
    first, next_epoch = order(), order()
    np.random.seed(1)
    assert order() == first != next_epoch
    assert order(np.random.RandomState(1)) == first
    state = np.random.get_state()[1].tolist()
    assert order(np.random.default_rng(1)) == order(np.random.default_rng(1))
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.parametrize("batchsize", [0, -1, 2.5, "20", None, 11])
def test_minibatches_bad_batchsize(batchsize):
    with pytest.raises(ValueError, match="Got batchsize=.*, expected an integer from 1 to 10"):
        utils.iterate_minibatches(np.arange(10), batchsize=batchsize)


def test_minibatches_bad_lengths():
    with pytest.raises(ValueError, match="Got 9 targets, expected 10"):
        utils.iterate_minibatches(np.arange(10), np.arange(9), batchsize=2)


def test_minibatches_accept_numpy_batchsize():
    assert len(list(utils.iterate_minibatches(np.arange(10), batchsize=np.int64(10)))) == 1


def test_minibatches_progress(capsys):
    for _ in utils.iterate_minibatches(np.arange(40)):
        pass
    assert capsys.readouterr() == ("", "")

    for _ in utils.iterate_minibatches(np.arange(60), progress="Эпоха 1"):
        pass
    shown = capsys.readouterr()
    assert "Эпоха 1" in shown.out and "/3" in shown.out and shown.err == ""
    assert shown.out.endswith("\r") and shown.out.split("\r")[-2].strip() == ""


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_minibatches_progress_interrupted(error, capsys):
    def loop():
        for _ in utils.iterate_minibatches(np.arange(60), progress="Эпоха 1"):
            if error is None:
                break
            raise error

    if error is None:
        loop()
    else:
        with pytest.raises(error):
            loop()
    out = capsys.readouterr().out
    assert "Эпоха 1" in out and out.endswith("\r") and out.split("\r")[-2].strip() == ""
    assert not tqdm._instances


@pytest.fixture
def images():
    yield np.random.RandomState(0).rand(30, 1, 28, 28).astype(np.float32)
    plt.close("all")


def only_axes(figure):
    assert isinstance(figure, Figure) and figure.number in plt.get_fignums()
    figure.savefig(io.BytesIO())
    ax, = figure.axes
    return ax


def tiles(picture):
    """Split a picture, as it is seen, into images ``(rows, columns, 28, 28)``."""
    assert picture.origin == "upper"
    rows = np.asarray(picture.get_array())
    return rows.reshape(rows.shape[0] // 28, 28, -1, 28).swapaxes(1, 2)


@pytest.mark.parametrize("n_images", [1, 10, 50])
def test_plot_reconstructions(images, n_images):
    figure = utils.plot_reconstructions(images, lambda batch: 1 - batch, n_images=n_images)
    ax = only_axes(figure)
    picture, = ax.images
    originals, reconstructions = tiles(picture)
    np.testing.assert_array_equal(originals, images[:n_images, 0])
    np.testing.assert_array_equal(reconstructions, 1 - images[:n_images, 0])
    assert picture.get_clim() == (0, 1)
    labels = {tick.get_text(): y for tick, y in zip(ax.get_yticklabels(), ax.get_yticks())}
    assert labels == {"Оригиналы": 13.5, "Реконструкции": 41.5}


def test_plot_reconstructions_shows_ten_by_default(images):
    seen = []
    utils.plot_reconstructions(images, lambda batch: seen.append(batch) or batch)
    np.testing.assert_array_equal(seen[0], images[:10])


def codes_for(images, scale=1):
    return (np.random.RandomState(1).randn(len(images), 2) * [3, 1] * scale + 5).astype(np.float32)


def thumbnails(figure, X, codes):
    """Check which images are drawn and where; return their colours."""
    ax = only_axes(figure)
    assert len(ax.images) == len(X)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    colors = []
    for picture, image, (z_1, z_2) in zip(ax.images, X[:, 0], codes):
        rgba = np.asarray(picture.get_array())
        alpha = rgba[..., 3]
        np.testing.assert_allclose(alpha / alpha.max(), image / image.max(), rtol=1e-5)
        assert picture.origin == "upper" and 0.5 < alpha.max() <= 1
        x_0, x_1, y_0, y_1 = picture.get_extent()
        np.testing.assert_allclose([(x_0 + x_1) / 2, (y_0 + y_1) / 2], [z_1, z_2], rtol=1e-5)
        assert left < x_0 < x_1 < right and bottom < y_0 < y_1 < top
        color, = {tuple(pixel) for pixel in rgba[..., :3].reshape(-1, 3)}
        colors.append(color)
    assert ax.get_aspect() == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$") and ax.get_title()
    return colors


@pytest.mark.parametrize("scale", [1, 1e-3])
def test_plot_hidden_space(images, scale):
    codes = codes_for(images, scale)
    figure = utils.plot_hidden_space(images, lambda X: codes)
    colors = thumbnails(figure, images, codes)
    assert len(set(colors)) == 1 and sum(colors[0]) < 1
    assert figure.axes[0].get_legend() is None


def test_plot_hidden_space_with_labels(images):
    codes, y = codes_for(images), np.arange(30) % 7
    figure = utils.plot_hidden_space(images, lambda X: codes, y)
    colors = thumbnails(figure, images, codes)
    legend = figure.axes[0].get_legend()
    by_digit = {int(text.get_text()): to_rgb(patch.get_facecolor())
                for text, patch in zip(legend.get_texts(), legend.get_patches())}
    assert sorted(by_digit) == list(range(10)) and len(set(by_digit.values())) == 10
    np.testing.assert_allclose(colors, [by_digit[digit] for digit in y])


#: What dichromats see, on linear RGB. G. M. Machado, M. M. Oliveira, L. A. F. Fernandes. A
#: physiologically-based model for simulation of color vision deficiency. IEEE TVCG 15(6), 2009.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
    "grey": [[0.2126, 0.7152, 0.0722]] * 3}


def cielab(linear_rgb):
    """Return L*, a*, b* (D65) of colours ``(n, 3)`` in linear sRGB."""
    xyz = linear_rgb @ np.transpose([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                                     [0.0193, 0.1192, 0.9505]]) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > (6 / 29)**3, np.cbrt(xyz), xyz / (3 * (6 / 29)**2) + 4 / 29).T
    return np.column_stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision, least, least_of_neighbours", [
    ("normal", 37, 42), ("protanopia", 27, 41), ("deuteranopia", 21, 40), ("tritanopia", 24, 30),
    ("grey", 7, 22)])
def test_the_colours_of_digits_with_each_vision(vision, least, least_of_neighbours):
    """The distances are in CIELAB; one of about 2 can just be seen. Neighbours often mix."""
    rgb = np.array([to_rgb(color) for color in pictures.DIGIT_COLORS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055)**2.4)
    lab = cielab((linear @ np.transpose(VISION[vision])).clip(0, 1))
    distances = np.linalg.norm(lab[:, None] - lab, axis=2) + 1000 * np.eye(10)
    assert distances.min() > least
    neighbours = [(4, 9), (4, 7), (7, 9), (3, 5), (3, 8), (5, 8)]
    assert min(distances[pair] for pair in neighbours) > least_of_neighbours
    assert cielab(linear)[:, 0].max() < 80  # thin strokes on white paper


def test_each_digit_is_written_among_its_images(images):
    """Also if it is nowhere in the majority; no two are in one place."""
    rng = np.random.RandomState(0)
    y = np.repeat(np.arange(10), 30)
    centers = np.column_stack([np.arange(10) % 5, np.arange(10) // 5]) * 10.
    centers[9] = centers[8]
    codes = centers[y] + rng.randn(300, 2)
    figure = utils.plot_hidden_space(np.repeat(images, 10, axis=0), lambda X: codes, y)
    texts = {int(text.get_text()): text for text in only_axes(figure).texts}
    assert sorted(texts) == list(range(10))
    for digit, text in texts.items():
        assert np.linalg.norm(np.subtract(text.get_position(), centers[digit])) < 6
        assert text.get_color() == pictures.DIGIT_COLORS[digit] and text.get_path_effects()
    assert len({text.get_position() for text in texts.values()}) == 10


def test_plot_hidden_space_of_repeated_images(images):
    repeated = np.repeat(images[:25], repeats=25, axis=0)
    codes = codes_for(repeated)
    figure = utils.plot_hidden_space(repeated, lambda X: codes)
    colors = thumbnails(figure, repeated, codes)
    assert len(set(colors)) == 25
    for start in range(0, 625, 25):
        assert len(set(colors[start:start + 25])) == 1


def test_plot_hidden_space_of_equal_codes(images):
    thumbnails(utils.plot_hidden_space(images, lambda X: np.zeros((30, 2))), images,
               np.zeros((30, 2)))


@pytest.mark.parametrize("n", [1, 4, 20, 30])
def test_plot_manifold(images, n):
    seen = []

    def decode(z):
        """Write z_1 into the upper half of an image, z_2 into the lower one."""
        seen.append(z)
        return np.repeat(norm.cdf(z), 14 * 28, axis=1).reshape(-1, 1, 28, 28)

    figure = utils.plot_manifold(decode, n=n)
    z, = seen
    assert z.shape == (n * n, 2) and z.dtype == np.float32
    ax = only_axes(figure)
    picture, = ax.images
    assert picture.get_clim() == (0, 1)
    shown = tiles(picture)
    assert shown.shape == (n, n, 28, 28)
    quantiles = (np.arange(n) + 0.5) / n
    for row in range(n):
        np.testing.assert_allclose(shown[row, :, 3, 3], quantiles, atol=1e-6)
        np.testing.assert_allclose(shown[row, :, 20, 3], quantiles[n - 1 - row], atol=1e-6)

    for axis, ticks in (0, ax.get_xticks()), (1, ax.get_yticks()):
        labels = [ax.get_xticklabels, ax.get_yticklabels][axis]()
        assert 1 <= len(ticks) <= 20 and len(labels) == len(ticks)
        for tick, label in zip(ticks, labels):
            column, row = (int(tick) // 28, 0) if axis == 0 else (0, int(tick) // 28)
            value = norm.ppf(shown[row, column, (3, 20)[axis], 3])
            assert float(label.get_text().replace("\u2212", "-")) == pytest.approx(value, abs=6e-3)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")


@pytest.mark.parametrize("n_epochs", [1, 2, 10, 300])
def test_plot_learning_curve(images, n_epochs):
    train = [np.array(-200.0 + epoch) for epoch in range(n_epochs)]
    test = np.linspace(-210, -150, n_epochs)
    ax = only_axes(utils.plot_learning_curve(train, test))
    lines = {line.get_label(): line for line in ax.lines}
    assert sorted(lines) == ["обучающая выборка", "тестовая выборка"]
    for label, values in ("обучающая выборка", train), ("тестовая выборка", test):
        np.testing.assert_array_equal(lines[label].get_xdata(), np.arange(1, n_epochs + 1))
        np.testing.assert_array_equal(lines[label].get_ydata(), values)
        assert lines[label].get_marker() not in ("", "None")  # one epoch makes no line
    assert len({line.get_color() for line in ax.lines}) == 2
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks and all(tick == int(tick) for tick in ticks)
    assert low < 1 and n_epochs < high
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("эпоха", "ELBO, нат")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(lines)


def test_plot_model():
    """Each arrow ends at a box."""
    ax = only_axes(utils.plot_model())
    texts = [text.get_text() for text in ax.texts]
    assert {"кодировщик", "декодировщик", "$x$", r"$z=\mu+\sigma\odot\varepsilon$"} <= set(texts)
    boxes = [patch.get_bbox() for patch in ax.patches if hasattr(patch, "get_bbox")]
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert len(boxes) == 7 and len(arrows) == 8
    for arrow in arrows:
        (x, y), gap = arrow.xy, 0.5
        assert any(box.x0 - gap < x < box.x1 + gap and box.y0 - gap < y < box.y1 + gap
                   for box in boxes)
    plt.close("all")


def test_training_picture(images):
    train_curve, test_curve = [], []
    picture = utils.TrainingPicture(images[:8], lambda batch: 1 - batch, train_curve, test_curve)
    curve, ax = picture._figure.axes
    picture._figure.canvas.draw()
    assert {label.get_color() for label in curve.get_xticklabels()} == {"none"}  # no epoch yet
    shown, = ax.images
    np.testing.assert_array_equal(tiles(shown)[1], 1 - images[:8, 0])
    for n in (1, 2, 10):
        train_curve[:], test_curve[:] = np.arange(n) - 10., np.arange(n) - 9.
        picture.update()
        train, test = curve.lines
        assert "none" not in {label.get_color() for label in curve.get_xticklabels()}
        np.testing.assert_array_equal(train.get_xdata(), np.arange(1, n + 1))
        np.testing.assert_array_equal(test.get_ydata(), np.arange(n) - 9.)
        picture._figure.canvas.draw()
        low, high = curve.get_xlim()
        assert low < 1 and n < high and curve.get_ylim()[0] < -10 < n - 10 < curve.get_ylim()[1]
    del test_curve[-1]
    with pytest.raises(ValueError, match="Got 10 train and 9 test epochs"):
        picture.update()
    assert plt.get_fignums() == []  # so that no notebook draws it a second time


def test_an_interruption_between_the_curves(images, capsys):
    train_curve, test_curve = [-2.], [-3.]
    with utils.TrainingPicture(images[:8], np.copy, train_curve, test_curve):
        train_curve.append(-1.)
        raise KeyboardInterrupt
    assert (train_curve, test_curve) == ([-2.], [-3.])
    assert capsys.readouterr().out == (
        "Обучение прервано, эпох сделано: 1. Чтобы продолжить, выполните ячейку ещё раз.\n")
    with pytest.raises(ZeroDivisionError):
        with utils.TrainingPicture(images[:8], np.copy, train_curve, test_curve):
            1 / 0


def test_an_interruption_of_the_first_picture_takes_one_line(images):
    def interrupted(X):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="Обучение прервано, эпох сделано: 0.") as caught:
        utils.TrainingPicture(images[:8], interrupted, [], [])
    assert len(caught.value._render_traceback_()) == 1


@pytest.mark.parametrize("elbo", [np.nan, np.float32("-inf"), np.array(np.inf)])
def test_divergence_is_named(elbo):
    utils.stop_if_diverged(np.float32(-150.) + 0)
    with pytest.raises(ValueError, match="(?s)Обучение разошлось: среди значений ELBO .*шаг обуч"):
        utils.stop_if_diverged(elbo)


LIVE = """
import numpy as np, utils
train_curve, test_curve = [], []
picture = utils.TrainingPicture(np.zeros((8, 1, 28, 28)), np.copy, train_curve, test_curve)
for epoch in range(3):
    train_curve.append(-3.)
    test_curve.append(-2.)
    picture.update()
""", """
utils.explore_manifold(lambda z: np.broadcast_to(z.mean() / 10 + 0.5, (len(z), 1, 28, 28)))
""", """
import gc, re, ipywidgets
sliders = [one for one in gc.get_objects() if isinstance(one, ipywidgets.FloatSlider)]
picture, = [one for one in gc.get_objects() if isinstance(one, ipywidgets.HTML)]
before = picture.value
sliders[0].value = 1.5
assert "data:image/png" in picture.value != before
alts = [" ".join(re.search('alt="(.*?)"', html)[1].split()[5:7]) for html in (before, picture.value)]
assert alts in (["(0.00, 0.00)", "(1.50, 0.00)"], ["(0.00, 0.00)", "(0.00, 1.50)"]), alts
"""


@pytest.mark.process
def test_live_pictures_in_a_notebook(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, LIVE)))
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    training, manifold, _ = notebook.cells
    output, = training.outputs
    assert alt_of(output).startswith("ELBO после эпохи 3: -2.0 нат")
    output, = manifold.outputs
    assert alt_of(output).startswith("Плоскость кодов с отмеченной точкой (0.00, 0.00)")
    assert "application/vnd.jupyter.widget-view+json" in output.data


def alt_of(output):
    """Return the alternative text of a notebook's picture; check that all its forms agree."""
    found = re.fullmatch('<img alt="(.*?)" style="max-width: 100%; min-width: [0-9]+px" '
                         'src="data:image/png;base64,(.*)">', output.data["text/html"])
    assert found[2] == output.data["image/png"].strip()
    assert html.unescape(found[1]) == output.metadata["image/png"]["alt"] == output.data["text/plain"]
    return html.unescape(found[1])


@pytest.mark.parametrize("z_1, z_2", [(0., 0.), (3., -3.), (-3., 3.), (-0.5, 1.)])
def test_the_plane_of_codes(z_1, z_2, monkeypatch):
    """Its ticks are at the quantiles of the prior; the mark is whole even in a corner."""
    figures, draws = [], []
    monkeypatch.setattr(utils, "png", lambda figure: figures.append(figure) or b"")
    monkeypatch.setattr(utils, "plane_with_sliders", draws.append)
    utils.explore_manifold(lambda z: np.zeros((len(z), 1, 28, 28)), n=4)
    _, alt = draws[0](z_1, z_2)
    assert f"({z_1:.2f}, {z_2:.2f})" in alt
    figure = figures[-1]
    figure.canvas.draw()
    plane, _ = figure.axes
    assert "квантили" in plane.get_title()
    mark, = plane.lines
    width = height = 4 * 28
    for x, label in zip(plane.get_xticks(), plane.get_xticklabels(), strict=True):
        value = float(label.get_text().replace("\u2212", "-"))
        assert (x + 0.5) / width == pytest.approx(norm.cdf(value))
    for y, label in zip(plane.get_yticks(), plane.get_yticklabels(), strict=True):
        value = float(label.get_text().replace("\u2212", "-"))
        assert 1 - (y + 0.5) / height == pytest.approx(norm.cdf(value))
    assert (mark.get_xdata()[0] + 0.5) / width == pytest.approx(norm.cdf(z_1))
    assert 1 - (mark.get_ydata()[0] + 0.5) / height == pytest.approx(norm.cdf(z_2))
    assert plane.get_xlim() == (-0.5, width - 0.5) and plane.get_ylim() == (height - 0.5, -0.5)
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    crimson = np.abs(pixels - [220, 20, 60]).sum(axis=2) < 30
    column, row = np.rint(plane.transData.transform(mark.get_xydata()[0])).astype(int)
    row = len(pixels) - 1 - row
    for half in (crimson[:row, :column], crimson[:row, column + 1:],
                 crimson[row + 1:, :column], crimson[row + 1:, column + 1:]):
        assert half.sum() > crimson.sum() / 12


def test_the_plane_without_ipywidgets(monkeypatch, capsys):
    """There is a still picture, and advice to install ipywidgets."""
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shown = []
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: shown.append(bundle))
    utils.explore_manifold(lambda z: np.zeros((len(z), 1, 28, 28)))
    assert [sorted(bundle) for bundle in shown] == [["image/png", "text/html", "text/plain"]]
    assert "%pip install ipywidgets" in capsys.readouterr().out


# --- weights ---

@pytest.fixture
def network():
    import lasagne

    def make(units=3):
        layer = lasagne.layers.DenseLayer(lasagne.layers.InputLayer((None, 2)), units)
        return lasagne.layers.DenseLayer(layer, 1)
    return make


def parameters_of(network):
    import lasagne
    return lasagne.layers.get_all_params(network)


def weights_of(network):
    return [parameter.get_value() for parameter in parameters_of(network)]


def test_weights_come_back(network, tmp_path, capsys):
    first, second = network(), network()
    trained(first, [-170., -150.25])
    utils.save_weights(tmp_path / "weights.npz", [first])
    curves = utils.learning_curves(second)
    utils.load_weights(tmp_path / "weights.npz", second)
    assert all(map(np.array_equal, weights_of(first), weights_of(second)))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.npz"]
    assert utils.learning_curves(second) is curves and curves == ([-171., -151.25],
                                                                  [-170., -150.25])
    described = f"{tmp_path / 'weights.npz'}: эпох 2, ELBO на тестовой выборке -150.25."
    assert capsys.readouterr().out == (f"Веса сохранены в файл {described}\n"
                                       f"Веса загружены из файла {described}\n")


def trained(network, test_curve):
    """Change a network's weights and curves as training does."""
    for weight in parameters_of(network):
        weight.set_value(weight.get_value() + 1)
    train, test = utils.learning_curves(network)
    train[:], test[:] = [elbo - 1 for elbo in test_curve], test_curve
    return network


def test_weights_without_curves_are_loaded(network, tmp_path, capsys):
    """Those of the package, and files of older versions."""
    layer, other = network(), trained(network(), [-150.])
    np.savez(tmp_path / "weights.npz", *weights_of(layer))
    utils.load_weights(tmp_path / "weights.npz", other)
    assert all(map(np.array_equal, weights_of(layer), weights_of(other)))
    assert utils.learning_curves(other) == ([], [])
    assert capsys.readouterr().out.endswith("weights.npz: записей об обучении нет.\n")


@pytest.mark.parametrize("in_file, here, replaced", [
    ([-160., -150.], [-140.], True),
    ([-160., -150.], [-160., -150., -150.9], True),  # another epoch, the same within noise
    ([-160., -150.], [-160.], False),
    ([-150.], [-160., -152.], False),
    ([-150.], [], False),
    ([-150.], [np.nan], False),
    ([], [-170.], True),
    ([], [], False),
])
def test_better_weights_are_not_replaced(in_file, here, replaced, network, tmp_path):
    path = tmp_path / "weights.npz"
    saved = trained(network(), in_file)
    utils.save_weights(path, saved)
    utils.save_weights(path, saved)  # the same ones
    before, model = path.read_bytes(), trained(network(), here)
    if replaced:
        utils.save_weights(path, model)
        utils.load_weights(path, saved)
        assert all(map(np.array_equal, weights_of(saved), weights_of(model)))
    else:
        with pytest.raises(ValueError, match="(?s)Веса не сохранены, чтобы не потерять .*"
                           f"{path.name}.*В файле: .*У этой модели: .*под другим именем"):
            utils.save_weights(path, model)
        assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_numbers_are_not_saved(value, network, tmp_path):
    layer = trained(network(), [-100.])
    layer.b.set_value(np.full(1, value, layer.b.dtype))
    with pytest.raises(ValueError, match="Веса не сохранены: среди них есть nan или беск"):
        utils.save_weights(tmp_path / "weights.npz", layer)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_kind_is_not_replaced(network, tmp_path):
    (tmp_path / "lab.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="lab.ipynb — не веса"):
        utils.save_weights(tmp_path / "lab.ipynb", trained(network(), [-100.]))
    assert (tmp_path / "lab.ipynb").read_text() == "{}"


def test_learning_curves_belong_to_weights(network):
    encoder, decoder = network(), network()
    curves = utils.learning_curves([encoder, decoder])
    curves[0].append(-1.)
    assert utils.learning_curves([encoder, decoder]) is curves
    assert utils.learning_curves(decoder) is curves
    new = utils.learning_curves([encoder, network()])
    assert new == ([], []) and utils.learning_curves(encoder) is new


def test_weights_of_another_network_change_nothing(network, tmp_path):
    utils.save_weights(tmp_path / "weights.npz", network(4))
    smaller = network(3)
    before = weights_of(smaller)
    with pytest.raises(ValueError, match=r"веса другой сети. Формы в файле: \[\(2, 4\)"):
        utils.load_weights(tmp_path / "weights.npz", smaller)
    assert all(map(np.array_equal, before, weights_of(smaller)))


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x93NUMPY"])
def test_a_file_without_weights(content, network, tmp_path):
    (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(ValueError, match="не веса, сохранённые save_weights"):
        utils.load_weights(tmp_path / "weights.npz", network())


def test_saved_weights_stay_when_the_disk_is_full(network, tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    utils.save_weights(path, network())
    before, better = path.read_bytes(), trained(network(), [-100.])

    def full(file, *values, **curves):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(ValueError, match=r"weights.npz не удалось записать \(No space"):
        utils.save_weights(path, better)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_read_or_written(network, tmp_path):
    with pytest.raises(ValueError, match="weights.npz не удалось прочитать: No such file"):
        utils.load_weights(tmp_path / "weights.npz", network())
    with pytest.raises(ValueError, match="w.npz не удалось записать.*другую папку"):
        utils.save_weights(tmp_path / "missing" / "w.npz", network())
    with pytest.raises(ValueError, match="не удалось прочитать"):
        utils.save_weights(tmp_path, network())  # a folder
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_numbers_are_not_loaded(network, tmp_path):
    layer = network()
    before = weights_of(layer)
    np.savez(tmp_path / "weights.npz", *(np.full_like(value, np.nan) for value in before))
    with pytest.raises(ValueError, match="Веса не загружены: .* есть nan"):
        utils.load_weights(tmp_path / "weights.npz", layer)
    assert all(map(np.array_equal, before, weights_of(layer)))


@pytest.mark.parametrize("call, message", [
    (lambda X: utils.plot_reconstructions(X[:, 0], lambda x: x),
     r"Got X of shape \(30, 28, 28\), expected \(30, 1, 28, 28\)"),
    (lambda X: utils.plot_reconstructions(X[:0], lambda x: x), "Got number of images in X=0"),
    (lambda X: utils.plot_reconstructions(X, lambda x: x, n_images=0), "Got n_images=0, expected"),
    (lambda X: utils.plot_reconstructions(X, lambda x: x[:, 0]),
     r"Got reconstruct\(X\) of shape \(10, 28, 28\), expected \(10, 1, 28, 28\)"),
    (lambda X: utils.plot_reconstructions(X, lambda x: x * np.nan),
     r"Обучение разошлось: среди значений reconstruct\(X\) есть nan"),
    (lambda X: utils.plot_hidden_space(X[0], lambda x: x), "Got X of shape"),
    (lambda X: utils.plot_hidden_space(X, lambda x: np.zeros((29, 2))),
     r"Got encode\(X\) of shape \(29, 2\), expected \(30, 2\)"),
    (lambda X: utils.plot_hidden_space(X, lambda x: [np.zeros((30, 2))]), "Got encode"),
    (lambda X: utils.plot_hidden_space(X, lambda x: np.full((30, 2), np.inf)),
     r"encode\(X\) есть nan или бесконечность"),
    (lambda X: utils.plot_hidden_space(X, lambda x: np.zeros((30, 2)), np.zeros(29)), "Got y of"),
    (lambda X: utils.plot_hidden_space(X, lambda x: np.zeros((30, 2)), np.full(30, 10)),
     "Got y with values .10., expected digits from 0 to 9"),
    (lambda X: utils.plot_manifold(lambda z: np.zeros((4, 784)), n=2),
     r"Got decode\(z\) of shape \(4, 784\), expected \(4, 1, 28, 28\)"),
    (lambda X: utils.plot_manifold(lambda z: np.full((4, 1, 28, 28), np.nan), n=2), "nan"),
    (lambda X: utils.plot_manifold(lambda z: None, n=2), r"Got decode\(z\) of shape \(\)"),
    (lambda X: utils.plot_manifold(lambda z: z, n=0), "Got n=0, expected an integer from 1"),
    (lambda X: utils.plot_learning_curve([-1, -2], [-1]), "Got 2 train and 1 test epochs"),
    (lambda X: utils.plot_manifold(lambda z: int("x")), "invalid literal"),
])
def test_plots_reject_bad_arguments(call, message, images):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call(images)
    assert plt.get_fignums() == []


def decoder_of(dimension):
    """A decoder that fails as a matrix product does for codes of another dimension."""
    return lambda z: np.broadcast_to(z @ np.zeros((dimension, 1)), (len(z), 784)).reshape(
        -1, 1, 28, 28)


@pytest.mark.parametrize("call", [
    lambda X, dimension: utils.plot_hidden_space(X, lambda x: np.zeros((len(x), dimension))),
    lambda X, dimension: utils.plot_manifold(decoder_of(dimension)),
    lambda X, dimension: utils.explore_manifold(decoder_of(dimension)),
], ids=["hidden space", "manifold", "explore"])
@pytest.mark.parametrize("dimension", [1, 3, 10])
def test_pictures_of_the_plane_need_two_dimensions(call, dimension, images, capsys):
    assert call(images, dimension) is None
    assert capsys.readouterr().out == (
        f"Этот рисунок возможен только при HIDDEN_DIM = 2, а здесь HIDDEN_DIM = {dimension}.\n")
    assert plt.get_fignums() == []


def test_no_learning_curve_yet(capsys):
    assert utils.plot_learning_curve([], []) is None
    assert capsys.readouterr().out == (
        "Кривой обучения пока нет: в этом ноутбуке модель ещё не обучали.\n")
    assert plt.get_fignums() == []


@pytest.mark.process
def test_works_without_display():
    code = ("import io, sys, utils\n"
            "utils.plot_learning_curve([-1], [-2]).savefig(io.BytesIO())\n"
            "print({'vae_seminar_images', 'IPython'} & set(sys.modules) or 'nothing')")
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    out = subprocess.check_output([sys.executable, "-c", code], text=True,
                                  env=dict(environment, PYTHONPATH=str(PROJECT)))
    assert out.split() == ["nothing"]


NOTEBOOK = [  # cells and the heights, in inches, of the pictures that each has to draw, in order
    ("import matplotlib.pylab as plt\n%matplotlib inline\n"
     "import numpy as np\nimport utils, vae.pictures\n"
     "def wide(): return utils.plot_learning_curve([-2, -1], [-3, -2])\n"
     "def flat(): return utils.plot_reconstructions(np.eye(28)[None, None], np.copy)", ""),
    ("wide()", "wide"),
    ("wide();", "wide"),
    ("figure = wide()", "wide"),
    ("figure = wide()\nfigure", "wide"),
    ("figure", "wide"),
    ("figure", "wide"),
    ("flat()\nwide()", "flat wide"),
    ("flat()\nwide();", "flat wide"),
    ("figure = flat()\nwide()", "flat wide"),
    ("flat()\nwide()\nflat()", "flat wide flat"),
    ("plt.figure()\nplt.plot([1, 2])\nwide();", "plain wide"),
    ("wide()\nplt.show()", "wide"),
    ("1", ""),
]


@pytest.mark.process
def test_notebook_draws_each_figure_once(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    cells = [nbformat.v4.new_code_cell(source) for source, _ in NOTEBOOK]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    for cell, (source, expected) in zip(cells, NOTEBOOK):
        pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        drawn = ["plain" if output.data["text/plain"].startswith("<Figure") else
                 "flat" if alt_of(output).startswith("Сверху") else "wide" for output in pictures]
        assert drawn == expected.split(), source


def test_a_picture_in_html(images):
    """It cannot shrink until its letters cannot be read, nor is it wider than a printed page."""
    for width, smallest in [(100, 70), (500, 350), (2000, 560)]:
        file = io.BytesIO()
        Image.new("RGB", (width, 10)).save(file, "png")
        shown = pictures.as_html(file.getvalue(), 'a "b" <c>')
        assert f'style="max-width: 100%; min-width: {smallest}px"' in shown
        assert 'alt="a &quot;b&quot; &lt;c&gt;"' in shown


def test_a_picture_with_a_palette_is_the_same_and_smaller(images):
    figure = utils.plot_hidden_space(np.tile(images, (10, 1, 1, 1)),
                                     lambda X: codes_for(X), np.arange(300) % 10)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    small = pictures.with_palette(file.getvalue())
    before, after = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float)
                     for content in (file.getvalue(), small))
    assert np.abs(before - after).mean() < 1 and np.abs(before - after).max() < 64
    assert len(small) < len(file.getvalue()) / 2
