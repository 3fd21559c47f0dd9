"""MNIST loading, minibatches, plots and weights for the seminar on variational autoencoders."""

import base64
import gzip
import hashlib
import io
import numbers
import os
import sys
import tempfile
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import requests
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.ticker import MaxNLocator
from scipy.special import ndtr, ndtri
from tqdm import TqdmWarning, tqdm

with warnings.catch_warnings():  # pooch's own bars, which are not used, want ipywidgets
    warnings.simplefilter("ignore", TqdmWarning)
    import pooch



def N_(text):
    """Mark a text that is translated later, where it is shown."""
    return text


def _(text):
    """Return a text in the reader's language, once `vae` is imported: alone this file is Russian."""
    language = sys.modules.get("vae.language")
    return language._(text) if language else text


__all__ = [
    "load_dataset",
    "iterate_minibatches",
    "TrainingPicture",
    "plot_model",
    "plot_learning_curve",
    "plot_reconstructions",
    "plot_hidden_space",
    "plot_manifold",
    "explore_manifold",
    "save_weights",
    "load_weights",
]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT = 15  # seconds without a byte from a mirror before it is given up
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
  с которыми она больше не понадобится: pip install ./vae/offline_images""")
REMEDY = N_("""\
подключитесь к сети и вызовите load_dataset() ещё раз. Или
  скачайте четыре файла MNIST (*-ubyte.gz) и укажите папку с ними: аргументом,
  load_dataset(data_dir="..."), или переменной окружения MNIST_DIR.""")


def load_dataset(data_dir=None):
    """Load MNIST: from a folder, from the user's cache, or from the network into the cache.

    If there is no way to get it, a warning says so and the 5,000 images of vae/offline_images are
    used instead (4,000 / 500 / 500, an equal share of each digit in each part).

    Parameters
    ----------
    data_dir : str or Path, optional
        Folder with the four original ``.gz`` files; never written to. By default, the value
        of the environment variable ``MNIST_DIR``, if any.

    Returns
    -------
    X_train, y_train, X_val, y_val, X_test, y_test : numpy.ndarray
        50,000 / 10,000 / 10,000 images, ``(n, 1, 28, 28)`` float32 in [0, 1], and their digits,
        ``(n,)`` int64. The validation images are the last 10,000 of the 60,000.

    Raises
    ------
    FileNotFoundError
        If there is no way to get it, and vae/offline_images is not installed.
    """
    folder = data_dir or os.environ.get("MNIST_DIR")
    if folder:
        folder = Path(folder).expanduser()
        missing = [name for name in SHA256 if not os.path.isfile(folder / name)]
        if missing:
            warnings.warn(
                _("В папке {folder} нет файлов: {names}. Ищем их дальше: в кэше, затем "
                  "в сети.").format(folder=folder, names=", ".join(missing)),
                stacklevel=2,
            )

    arrays = []
    for name in SHA256:
        try:
            arrays.append(_parse_idx(_find_file(name, folder)))
        except OSError as error:
            said = dict(name=name, reasons=error, remedy=_(REMEDY))
            if find_spec("vae_seminar_images") is None:
                raise FileNotFoundError(_(NO_MNIST).format(**said)) from None
            warnings.warn(_(NOT_FULL_MNIST).format(**said), stacklevel=2)
            return _load_offline_images()
    X_train, y_train, X_test, y_test = arrays
    X_train, X_test = _to_unit_interval(X_train), _to_unit_interval(X_test)
    y_train, y_test = y_train.astype(np.int64), y_test.astype(np.int64)
    return X_train[:-10000], y_train[:-10000], X_train[-10000:], y_train[-10000:], X_test, y_test


def _find_file(name, folder):
    """Return the content of an MNIST file, its SHA-256 checked; OSError if it is nowhere."""
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
            _("Файл {path} повреждён или не читается ({problem}), ищем исправную копию.").format(
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
                  "каждый раз заново.").format(cache=cache, error=error, name=name),
                stacklevel=3,
            )
            cache = scratch
        return _download(name, cache)


def _download(name, folder):
    """Download an MNIST file into a folder and return its content; OSError if no mirror helps."""
    pooch.get_logger().setLevel("WARNING")
    failures = []
    for mirror in MIRRORS:
        # pooch asks for the bar's truth, which for tqdm is its total: it must not be None or 0.
        with _progress_bar(f"MNIST: {name}", total=1, unit="B", unit_scale=True) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)
            try:
                path = pooch.retrieve(
                    mirror + name, SHA256[name], name, folder, downloader=downloader
                )
                return Path(path).read_bytes()
            except requests.HTTPError as error:
                reason = _("сервер ответил кодом {status_code}").format(
                             status_code=error.response.status_code)
            except requests.exceptions.SSLError:
                reason = _("сертификат сервера проверить не удалось. Если TLS проверяет ваша сеть "
                           "(вуза, компании), укажите файл с её сертификатами в переменной "
                           "REQUESTS_CA_BUNDLE")
            except requests.RequestException as error:
                reason = _("нет связи, или она оборвалась ({name})").format(
                             name=type(error).__name__)
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
    # Rows of `order` hold one image of each digit, so that equal parts of it are balanced.
    order = np.argsort(labels, kind="stable").reshape(10, 500).T
    order = order[np.random.RandomState(0).permutation(500)].ravel()
    X = _to_unit_interval(images[order].reshape(-1, 28, 28))
    y = labels[order].astype(np.int64)
    return X[:4000], y[:4000], X[4000:4500], y[4000:4500], X[4500:], y[4500:]


def _to_unit_interval(images):
    return images[:, np.newaxis] / np.float32(255)


def iterate_minibatches(inputs, targets=None, batchsize=20, shuffle=True, rng=None, progress=None):
    """Iterate over the data once, in minibatches of equal size.

    Samples left over for an incomplete last minibatch are left out.

    Parameters
    ----------
    inputs : numpy.ndarray
        ``(n, ...)``.
    targets : numpy.ndarray, optional
        ``(n, ...)``.
    batchsize : int
        From 1 to n.
    shuffle : bool
        Whether to take the samples in random order.
    rng : numpy.random.RandomState or numpy.random.Generator, optional
        By default, numpy's global generator, the one that ``np.random.seed`` sets.
    progress : str, optional
        Label of a progress bar; no bar by default.

    Returns
    -------
    iterator
        Over ``inputs[batch]``, or over ``(inputs[batch], targets[batch])`` if there are targets.

    Raises
    ------
    ValueError
        At the call, if the lengths differ or `batchsize` is out of range.
    """
    if targets is not None and len(targets) != len(inputs):
        raise ValueError(f"Got {len(targets)} targets, expected {len(inputs)}, one for each input")
    _check_count("batchsize", batchsize, len(inputs))
    n_batches = len(inputs) // batchsize
    rng = np.random if rng is None else rng
    order = rng.permutation(len(inputs)) if shuffle else np.arange(len(inputs))
    batches = order[:n_batches * batchsize].reshape(n_batches, batchsize)
    return _iterate(inputs, targets, batches, progress)


def _iterate(inputs, targets, batches, progress):
    with _progress_bar(progress, batches) as bar:
        for batch in bar:
            yield inputs[batch] if targets is None else (inputs[batch], targets[batch])


def _progress_bar(label, iterable=None, **options):
    """A bar that vanishes when done; its format has no words, which tqdm has in English only."""
    bar_format = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
    return tqdm(
        iterable, label, disable=label is None, file=sys.stdout, leave=False,
        bar_format=bar_format, **options
    )


def plot_reconstructions(X, reconstruct, n_images=10):
    """Plot the first images above their reconstructions.

    Parameters
    ----------
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1].
    reconstruct : callable
        Maps images to the probabilities of their pixels, of the same shape.
    n_images : int
        How many images to plot, at most.

    Returns
    -------
    matplotlib.figure.Figure
    """
    _check_images("X", X, len(X))
    _check_count("n_images", n_images)
    images = X[:n_images]
    reconstructions = reconstruct(images)
    _check_images("reconstruct(X)", reconstructions, len(images))

    figure, ax = _figure(_("Сверху {n} исходных изображений, под каждым — его реконструкция").format(
                             n=len(images)),
                         figsize=(len(images) + 1.5, 2.5))
    _show_images(ax, np.concatenate([images, reconstructions]), n_rows=2)
    ax.set(xticks=[], yticks=[13.5, 41.5], yticklabels=[_("Оригиналы"), _("Реконструкции")])
    return figure


def plot_hidden_space(X, encode, y=None):
    """Plot images at their codes.

    The colour of an image tells its digit if `y` is given. Otherwise, it tells which image it is,
    if images repeat (to see the cloud of codes of each one).

    Parameters
    ----------
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1]; about a thousand is a good number.
    encode : callable
        Maps images to their codes, ``(n, 2)``.
    y : numpy.ndarray, optional
        Digits, ``(n,)`` integers from 0 to 9.

    Returns
    -------
    matplotlib.figure.Figure
    """
    _check_images("X", X, len(X))
    if y is not None:
        _check_array("y", y, (len(X),))
        if not np.isin(y, np.arange(10)).all():
            raise ValueError(f"Got y with values {np.unique(y)}, expected digits from 0 to 9")
    codes = encode(X)
    _check_array("encode(X)", codes, (len(X), 2))

    distinct, identity = np.unique(X.reshape(len(X), -1), axis=0, return_inverse=True)
    clouds = y is None and 2 * len(distinct) <= len(X)
    if clouds:
        title = _("Облака кодов: у каждого из {n} изображений свой цвет").format(n=len(distinct))
    elif y is not None:
        title = _("Изображения в пространстве представлений: цвет — цифра")
    else:
        title = _("Изображения в пространстве представлений")
    figure, ax = _figure(_("{title}. Изображения стоят там, где находятся их коды").format(
                             title=title),
                         figsize=(6.6, 6))
    if y is not None:
        palette = plt.get_cmap("tab10").colors
        colors = [palette[int(digit)] for digit in y]
        ax.legend(handles=[Patch(color=color, label=digit) for digit, color in enumerate(palette)],
                  title=_("Цифра"), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    elif clouds:
        hues = np.arange(len(distinct)) / len(distinct)
        colors = [hsv_to_rgb((hues[i], 1, 0.85 - 0.35 * (i % 2))) for i in identity.ravel()]
    else:
        colors = [(0.1, 0.15, 0.4)] * len(X)

    low, high = np.min(codes, axis=0), np.max(codes, axis=0)
    half = 0.017 * (np.max(high - low) or 1)
    for image, (z_1, z_2), color in zip(X[:, 0], codes, colors):
        thumbnail = np.dstack([np.broadcast_to(color, (28, 28, 3)), 0.8 * image])
        ax.imshow(thumbnail, extent=(z_1 - half, z_1 + half, z_2 - half, z_2 + half), zorder=2)
    center, reach = (low + high) / 2, np.max(high - low) / 2 + 1.5 * half
    ax.set(title=title, xlabel="$z_1$", ylabel="$z_2$",
           xlim=(center[0] - reach, center[0] + reach),
           ylim=(center[1] - reach, center[1] + reach))
    ax.grid(alpha=0.3)
    return figure


def plot_manifold(decode, n=20):
    """Plot what a decoder makes of codes on a grid.

    Along each axis, the codes are n quantiles of the standard normal prior, at equal steps of
    probability, so that the grid covers the prior evenly.

    Parameters
    ----------
    decode : callable
        Maps codes, ``(n * n, 2)`` float32, to the probabilities of pixels,
        ``(n * n, 1, 28, 28)``.
    n : int
        Number of images along each axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    _check_count("n", n)
    z, images = _grid_of_codes(decode, n)
    figure, ax = _figure(_("Изображения, в которые декодируются {n} × {n} кодов с квантилями "
                           "p(z) по обеим осям").format(n=n), figsize=(6, 6))
    _show_images(ax, images, n_rows=n)
    step = -(-n // 20)  # more labels than 20 would run into each other
    ticks = 28 * np.arange(n)[::step] + 13.5
    labels = [f"{value:.2f}".replace("-", "\N{MINUS SIGN}") for value in z[::step]]
    ax.set_xticks(ticks, labels, rotation=90)
    ax.set_yticks(28 * n - 1 - ticks, labels)
    ax.set(title=_("Что декодировщик рисует по коду"), xlabel="$z_1$", ylabel="$z_2$")
    return figure


def _grid_of_codes(decode, n):
    """The quantiles and what is decoded at each pair of them, the picture's first row first."""
    z = ndtri((np.arange(n) + 0.5) / n)
    z_1, z_2 = np.meshgrid(z, z[::-1])  # the first row of a picture is its top
    images = decode(np.column_stack([z_1.ravel(), z_2.ravel()]).astype(np.float32))
    _check_images("decode(z)", images, n * n)
    return z, images


def explore_manifold(decode, n=15):
    """Show what a decoder makes of the code that two sliders choose.

    Beside it the codes on `plot_manifold`'s grid, with a mark where the chosen one is. Where no
    kernel runs, as in a notebook that was saved, a picture of the code (0, 0) stays; so it does
    without ipywidgets.

    Parameters
    ----------
    decode : callable
        As `plot_manifold` takes it.
    n : int
        Number of images along each axis of the grid.
    """
    from IPython.display import display

    _check_count("n", n)
    images = _grid_of_codes(decode, n)[1]
    figure = _still_figure(figsize=(8, 4.6))
    plane, digit = figure.subplots(1, 2, width_ratios=[3, 2])
    _show_images(plane, images, n_rows=n)
    mark, = plane.plot([], [], "o", color="crimson", markersize=9, markeredgecolor="white")
    shown = digit.imshow(np.zeros((28, 28)), cmap="gray_r", vmin=0, vmax=1)
    plane.set(xticks=[], yticks=[], xlabel="$z_1$ →", ylabel="$z_2$ →")
    digit.set(xticks=[], yticks=[])

    def draw(z_1, z_2):
        image = decode(np.array([[z_1, z_2]], np.float32))
        _check_images("decode(z)", image, 1)
        shown.set_data(image[0, 0])
        digit.set_title(f"z = ({z_1:.2f}, {z_2:.2f})".replace("-", "\N{MINUS SIGN}"))
        mark.set_data([28 * n * ndtr(z_1) - 0.5], [28 * n * (1 - ndtr(z_2)) - 0.5])
        return _png(figure)

    alt = _("Плоскость кодов с отмеченной точкой (0, 0) и изображение, в которое она декодируется")
    still = {"image/png": base64.b64encode(draw(0., 0.)).decode(), "text/plain": alt}
    try:
        widget = _plane_with_sliders(draw)._repr_mimebundle_()
    except ModuleNotFoundError:
        print(_("Чтобы выбирать код ползунками, выполните %pip install ipywidgets и эту ячейку."))
        widget = {}
    display({**widget, **still}, metadata={"image/png": {"alt": alt}}, raw=True)


def _plane_with_sliders(draw):
    """The picture that `draw` makes of the two coordinates of a code, as PNG, and their sliders."""
    from ipywidgets import FloatSlider, HBox, Image, VBox

    picture = Image(value=draw(0., 0.), format="png", layout={"width": "640px"})
    sliders = [FloatSlider(description=f"z_{axis}", min=-3, max=3, step=0.05, readout_format=".2f",
                           layout={"width": "24em"}) for axis in (1, 2)]

    def redraw(change):
        picture.value = draw(*(slider.value for slider in sliders))

    for slider in sliders:
        slider.observe(redraw, "value")
    return VBox([HBox(sliders), picture])


class TrainingPicture:
    """The learning curve and reconstructions of a few images, redrawn in place after each epoch.

    A notebook shows it where it is made, and keeps what was drawn last.

    Parameters
    ----------
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1]; eight are a good number.
    reconstruct : callable
        Maps images to the probabilities of their pixels, of the same shape.
    """

    def __init__(self, X, reconstruct):
        _check_images("X", X, len(X))
        self._X, self._reconstruct, self._handle = X, reconstruct, None
        self._figure = _still_figure(figsize=(10, 2.6))
        self._curve, ax = self._figure.subplots(1, 2, width_ratios=[2, 5])
        self._lines = [self._curve.plot([], [], ".-", label=label)[0]
                       for label in [_("обучающая"), _("тестовая")]]
        self._curve.set(title=_("ELBO, нат"), xlabel=_("эпоха"))
        self._curve.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        self._curve.grid(alpha=0.3)
        self._curve.legend(loc="lower right", frameon=False)
        self._shown = _show_images(ax, np.concatenate([X, X]), n_rows=2)
        ax.set(title=_("Оригиналы и реконструкции"), xticks=[], yticks=[])
        self.update([], [])

    def update(self, train_elbo, test_elbo):
        """Redraw it.

        Parameters
        ----------
        train_elbo, test_elbo : sequence of float
            Mean over the images after each epoch, in nats, of equal lengths.
        """
        if len(train_elbo) != len(test_elbo):
            raise ValueError(f"Got {len(train_elbo)} train and {len(test_elbo)} test epochs, "
                             "expected equal numbers")
        reconstructions = self._reconstruct(self._X)
        _check_images("reconstruct(X)", reconstructions, len(self._X))
        self._shown.set_data(_rows(np.concatenate([self._X, reconstructions]), n_rows=2))
        for line, values in zip(self._lines, (train_elbo, test_elbo)):
            line.set_data(np.arange(1, len(values) + 1), values)
        self._curve.set_xlim(0.5, max(len(train_elbo), 2) + 0.5)
        self._curve.relim()
        self._curve.autoscale_view(scalex=False)
        self._display(_("ELBO после эпохи {n}: {test_elbo:.1f} нат на тестовой выборке; "
                        "оригиналы и реконструкции").format(
                          n=len(train_elbo), test_elbo=test_elbo[-1])
                      if len(test_elbo) else _("Оригиналы и реконструкции до обучения"))

    def _display(self, alt):
        if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
            return
        from IPython.display import display

        bundle = {"image/png": base64.b64encode(_png(self._figure)).decode(), "text/plain": alt}
        options = dict(metadata={"image/png": {"alt": alt}}, raw=True)
        if self._handle is None:
            self._handle = display(bundle, display_id=True, **options)
        else:
            self._handle.update(bundle, **options)


def plot_model():
    """Draw what is computed from what in the seminar's model.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, ax = _figure(_("Схема модели: изображение x — кодировщик — μ и σ — код z = μ + σ ⊙ ε, "
                           "шум ε берётся извне — декодировщик — логиты l — распределение p(x | z)"),
                         figsize=(10, 2.4))
    ax.set(xlim=(0, 20), ylim=(0, 4.8))
    ax.axis("off")
    boxes = [(0.9, 2.4, "$x$", _("изображение")), (4.0, 2.4, _("кодировщик"), _(r"веса $\phi$")),
             (7.6, 3.4, r"$\mu(x)$", ""), (7.6, 1.4, r"$\sigma(x)$", ""),
             (11.0, 2.4, r"$z=\mu+\sigma\odot\varepsilon$", _("код")),
             (14.9, 2.4, _("декодировщик"), _(r"веса $\theta$")),
             (18.8, 2.4, "$l(z)$", _("логиты пикселей"))]
    for x, y, text, note in boxes:
        network = text in (_("кодировщик"), _("декодировщик"))
        half = {1: 1.4, 2: 1.25}.get(network + (text.startswith("$z")) * 2, 0.65) + 0.1
        ax.add_patch(FancyBboxPatch((x - half, y - 0.5), 2 * half, 1, boxstyle="round,pad=0.05",
                                    facecolor="#dbe7f6" if network else "white", edgecolor="0.35"))
        ax.text(x, y, text, ha="center", va="center", fontsize=12)
        ax.text(x, y - 0.72, note, ha="center", va="top", fontsize=9, color="0.35")
    ax.text(11.0, 4.5, r"$\varepsilon\sim\mathcal{N}(0, I)$", ha="center", va="center", fontsize=12)
    for start, end in [((1.7, 2.4), (2.4, 2.4)), ((5.6, 2.6), (6.8, 3.3)), ((5.6, 2.2), (6.8, 1.5)),
                       ((8.4, 3.3), (9.6, 2.7)), ((8.4, 1.5), (9.6, 2.1)),
                       ((11.0, 4.1), (11.0, 3.0)), ((12.5, 2.4), (13.3, 2.4)),
                       ((16.5, 2.4), (17.9, 2.4))]:
        ax.annotate("", end, start, arrowprops=dict(arrowstyle="->", color="0.35"))
    return figure


def plot_learning_curve(train_elbo, test_elbo):
    """Plot the evidence lower bound against the number of the epoch.

    Parameters
    ----------
    train_elbo, test_elbo : sequence of float
        Mean over the images after each epoch, in nats, of equal lengths.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not 0 < len(train_elbo) == len(test_elbo):
        raise ValueError(f"Got {len(train_elbo)} train and {len(test_elbo)} test epochs, expected "
                         "equal numbers, at least one")

    figure, ax = _figure(_("ELBO по эпохам: в последней, {n}-й, {train_elbo:.1f} нат на "
                           "обучающей выборке и {test_elbo:.1f} на тестовой").format(
                             n=len(test_elbo), train_elbo=train_elbo[-1],
                             test_elbo=test_elbo[-1]), figsize=(7, 4))
    epochs = np.arange(1, len(train_elbo) + 1)
    ax.plot(epochs, train_elbo, ".-", label=_("обучающая выборка"))
    ax.plot(epochs, test_elbo, ".-", label=_("тестовая выборка"))
    ax.set(title=_("Кривая обучения"), xlabel=_("эпоха"), ylabel=_("ELBO, нат"),
           xlim=(0.5, len(epochs) + 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


class _Figure(Figure):
    """A figure that a notebook draws once, as the value of a cell or at the end of the cell.

    An ordinary one that is the value of the cell that made it is drawn at both places; one
    that is closed, only if it is the value of a cell, not after ``;`` or in a loop.
    """

    def _repr_mimebundle_(self, **kwargs):
        """Called before IPython draws the figure as it draws any other."""
        if "inline" in matplotlib.get_backend():
            from IPython.display import display

            waiting = [plt.figure(number) for number in plt.get_fignums() if number < self.number]
            plt.close(self)
            for figure in waiting:
                if isinstance(figure, _Figure):
                    display(figure)  # made earlier in the cell, so it goes first
        return {}, {"image/png": {"alt": self.alt}}


def _figure(alt, **options):
    """A figure with an alternative text, for who does not see it."""
    figure, ax = plt.subplots(FigureClass=_Figure, layout="constrained", **options)
    figure.alt = alt
    return figure, ax


def _still_figure(**options):
    """A figure that pyplot does not know, and no notebook draws by itself."""
    figure = Figure(dpi=80, layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure


def _png(figure):
    file = io.BytesIO()
    figure.canvas.print_png(file)
    figure.set_layout_engine("none")  # once is enough, and it takes as long as all the rest
    return file.getvalue()


def _rows(images, n_rows):
    rows = np.reshape(images, (n_rows, -1, 28, 28)).swapaxes(1, 2)
    return rows.reshape(n_rows * 28, -1)


def _show_images(ax, images, n_rows):
    """Show images ``(n, 1, 28, 28)``, ink on paper, as rows of one picture."""
    return ax.imshow(_rows(images, n_rows), cmap="gray_r", vmin=0, vmax=1)


TRAINED_WEIGHTS = Path(__file__).with_name("vae") / "trained_weights.npz"


def save_weights(path, networks):
    """Save all weights of some networks into a file.

    Parameters
    ----------
    path : str or path
        The file, ``.npz``; replaced if it is there.
    networks : lasagne.layers.Layer or list of them
        Output layers.
    """
    values = [parameter.get_value(borrow=True) for parameter in _parameters(networks)]
    unfinished = f"{path}.{os.getpid()}.part"
    try:
        with open(unfinished, "wb") as file:
            np.savez_compressed(file, *values)
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def load_weights(path, networks):
    """Set the weights of some networks to those that `save_weights` has saved.

    Parameters
    ----------
    path : str or path
        `TRAINED_WEIGHTS` are those of the solved notebook, for ``[encoder_mean, encoder_scale,
        decoder_logits]`` of its architecture.
    networks : lasagne.layers.Layer or list of them
        Output layers, as they were saved.

    Raises
    ------
    ValueError
        If the shapes differ, or the file is none of `save_weights`; no weight is changed then.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            values = [file[f"arr_{number}"] for number in range(len(file.files))]
    except (KeyError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(_("Файл {path} — не веса, сохранённые save_weights: {error}").format(
                             path=path, error=error)) from None
    parameters = _parameters(networks)
    got, expected = ([one.shape for one in values],
                     [one.get_value(borrow=True).shape for one in parameters])
    if got != expected:
        raise ValueError(_("В файле {path} веса другой сети. Формы в файле: {got}, а у сети: "
                           "{expected}.").format(path=path, got=got, expected=expected))
    for parameter, value in zip(parameters, values):
        parameter.set_value(value.astype(parameter.dtype))


def _parameters(networks):
    from lasagne.layers import get_all_params

    return get_all_params(networks)


def _check_count(name, value, maximum=np.inf):
    if not isinstance(value, numbers.Integral) or not 1 <= value <= maximum:
        raise ValueError(f"Got {name}={value!r}, expected an integer from 1 to {maximum}")


def _check_images(name, images, n_images):
    _check_count(f"number of images in {name}", n_images)
    _check_array(name, images, (n_images, 1, 28, 28))


def _check_array(name, values, shape):
    if np.shape(values) != shape:
        raise ValueError(f"Got {name} of shape {np.shape(values)}, expected {shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"Got {name} with NaN or infinite values, expected finite ones")
