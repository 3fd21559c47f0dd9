"""Find, download and check MNIST."""

import gzip
import hashlib
import os
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import requests
from tqdm import TqdmWarning

from vae.language import N_, _
from vae.progress import progress_bar

with warnings.catch_warnings():  # pooch's own progress bars need ipywidgets; they are not used
    warnings.simplefilter("ignore", TqdmWarning)
    import pooch

__all__ = ["load_dataset", "MIRRORS", "SHA256"]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT = 15  # after this many seconds without a byte, the next mirror is tried
SHA256 = {
    "train-images-idx3-ubyte.gz":
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz":
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz":
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz":
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
NOT_FULL_MNIST = N_("""
==============================================================================
  ВНИМАНИЕ: загружен не весь MNIST!

  Не удалось получить файл {name}:
{reasons}

  Взяты 5 000 настоящих изображений MNIST, установленных вместе с семинаром:
  4 000 обучающих, 500 валидационных и 500 тестовых. Результаты будут хуже
  приведённых в тексте.

  Что делать: {remedy}
==============================================================================""")
NO_MNIST = N_("""MNIST не загружен.

  Не удалось получить файл {name}:
{reasons}

  Что делать: {remedy}
  Или, когда появится сеть, установите в папке семинара 5 000 изображений,
  с которыми она больше не понадобится: pip install ./wheels/offline_images""")
REMEDY = N_("""\
подключитесь к сети и вызовите load_dataset() ещё раз. Или
  скачайте четыре файла MNIST (*-ubyte.gz) и укажите папку с ними: аргументом,
  load_dataset(data_dir="..."), или переменной окружения MNIST_DIR.""")


def load_dataset(data_dir=None):
    """Load MNIST from a folder, from the user's cache, or from the network into the cache.

    If it cannot be found, a warning is shown and the 5,000 images of wheels/offline_images are used
    instead: 4,000 / 500 / 500, with equal numbers of all digits in each part.

    Parameters
    ----------
    data_dir : str or Path, optional
        Folder with the four original ``.gz`` files. Nothing is written to it. By default, the
        value of the environment variable ``MNIST_DIR``, if it is set.

    Returns
    -------
    X_train, y_train, X_val, y_val, X_test, y_test : numpy.ndarray
        50,000 / 10,000 / 10,000 images, ``(n, 1, 28, 28)`` float32 in [0, 1], and their digits,
        ``(n,)`` int64. The validation images are the last 10,000 of the 60,000.

    Raises
    ------
    FileNotFoundError
        If MNIST cannot be found, and wheels/offline_images is not installed.
    """
    folder = data_dir or os.environ.get("MNIST_DIR")
    if folder:
        folder = Path(folder).expanduser()
        missing = [name for name in SHA256 if not os.path.isfile(folder / name)]
        if missing:
            warnings.warn(
                _("В папке {folder} нет файлов: {names}. Ищем их дальше: в кэше, затем в сети.",
                  folder=folder, names=", ".join(missing)),
                stacklevel=2,
            )

    arrays = []
    for name in SHA256:
        try:
            arrays.append(_parse_idx(_find_file(name, folder)))
        except OSError as error:
            problem = dict(name=name, reasons=error, remedy=_(REMEDY))
            if find_spec("vae_seminar_images") is None:
                raise FileNotFoundError(_(NO_MNIST, **problem)) from None
            warnings.warn(_(NOT_FULL_MNIST, **problem), stacklevel=2)
            return _load_offline_images()
    X_train, y_train, X_test, y_test = arrays
    X_train, X_test = _to_unit_interval(X_train), _to_unit_interval(X_test)
    y_train, y_test = y_train.astype(np.int64), y_test.astype(np.int64)
    return X_train[:-10000], y_train[:-10000], X_train[-10000:], y_train[-10000:], X_test, y_test


def _find_file(name, folder):
    """Return the content of an MNIST file, checked by SHA-256; raise OSError if there is none."""
    cache = pooch.os_cache("vae-seminar") / "mnist"
    for path in (Path(place) / name for place in (folder, cache) if place):
        if not os.path.isfile(path):
            continue
        problem = _("контрольная сумма SHA-256 не сходится")
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == SHA256[name]:
                return content
        except OSError as error:
            problem = error
        warnings.warn(
            _("Файл {path} повреждён или не читается ({problem}), ищем исправную копию.",
              path=path, problem=problem),
            stacklevel=3,
        )

    with tempfile.TemporaryDirectory() as scratch:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cache).close()
        except OSError as error:
            warnings.warn(
                _("В папку {cache} нельзя записать ({error}): файл {name} придётся загружать "
                  "каждый раз заново.", cache=cache, error=error, name=name),
                stacklevel=3,
            )
            cache = scratch
        return _download(name, cache)


def _download(name, folder):
    """Download an MNIST file into a folder; return its content, or raise OSError."""
    pooch.get_logger().setLevel("WARNING")
    failures = []
    for mirror in MIRRORS:
        # pooch tests the truth value of the bar, which is false if its total is None or 0.
        with progress_bar(f"MNIST: {name}", total=1, unit="B", unit_scale=True) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)
            try:
                path = pooch.retrieve(
                    mirror + name, SHA256[name], name, folder, downloader=downloader
                )
                return Path(path).read_bytes()
            except requests.HTTPError as error:
                reason = _("сервер ответил кодом {status_code}",
                           status_code=error.response.status_code)
            except requests.exceptions.SSLError:
                reason = _("сертификат сервера проверить не удалось. Если TLS проверяет ваша сеть "
                           "(вуза, компании), укажите файл с её сертификатами в переменной "
                           "REQUESTS_CA_BUNDLE")
            except requests.RequestException as error:
                reason = _("нет связи, или она оборвалась ({name})", name=type(error).__name__)
            except ValueError:
                reason = _("прислан не тот файл (контрольная сумма SHA-256 не сходится)")
            except OSError as error:
                reason = str(error)
        failures.append(f"    {mirror}\n      {reason}")
    raise OSError("\n".join(failures))


def _parse_idx(content):
    """Decode a gzipped IDX file of labels ``(n,)`` or images ``(n, rows, columns)``, uint8."""
    content = gzip.decompress(content)
    n_dims = {b"\0\0\x08\x01": 1, b"\0\0\x08\x03": 3}.get(content[:4])
    if n_dims is None or len(content) < 4 + 4 * n_dims:
        raise ValueError(
            f"Got IDX header {content[:16].hex()}, expected magic number 00000801 (labels) or "
            "00000803 (images) and the sizes"
        )
    shape = np.frombuffer(content, ">u4", count=n_dims, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * n_dims)
    if values.size != np.prod(shape):
        raise ValueError(f"Got {values.size} bytes of IDX data, expected sizes {shape}")
    return values.reshape(shape)


def _load_offline_images():
    from vae_seminar_images import PATH

    images, labels = np.split(np.loadtxt(PATH, np.uint8, delimiter=","), [-1], axis=1)
    labels = labels.ravel()
    # Each row of `order` has one image of each digit, so every block of rows is balanced.
    order = np.argsort(labels, kind="stable").reshape(10, 500).T
    order = order[np.random.RandomState(0).permutation(500)].ravel()
    X = _to_unit_interval(images[order].reshape(-1, 28, 28))
    y = labels[order].astype(np.int64)
    return X[:4000], y[:4000], X[4000:4500], y[4000:4500], X[4500:], y[4500:]


def _to_unit_interval(images):
    return images[:, np.newaxis] / np.float32(255)
