"""The student's toolbox for the seminar: MNIST, minibatches, pictures and weights."""

import math
import numbers

import matplotlib
import numpy as np
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.special import ndtr, ndtri

from vae.checks.exercise import Interrupted, Mistake
from vae.diagram import plot_model
from vae.language import _
from vae.mnist import load_dataset
from vae.pictures import (
    DIGIT_COLORS, figure_with_alt, plane_with_sliders, png, show, still_figure)
from vae.progress import progress_bar
from vae.weights import TRAINED_WEIGHTS, learning_curves, load_weights, save_weights

#: The largest dimension of codes that is tried out, where a decoder does not take two.
_MAX_DIMENSION = 256

__all__ = [
    "load_dataset",
    "iterate_minibatches",
    "learning_curves",
    "TrainingPicture",
    "stop_if_diverged",
    "plot_model",
    "plot_learning_curve",
    "plot_reconstructions",
    "plot_hidden_space",
    "plot_manifold",
    "explore_manifold",
    "plot_samples",
    "save_weights",
    "load_weights",
    "TRAINED_WEIGHTS",
]


def iterate_minibatches(inputs, targets=None, batchsize=20, shuffle=True, rng=None, progress=None):
    """Iterate over the data once, in minibatches of equal size.

    Samples that do not fill a last minibatch are left out.

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
        By default, NumPy's global generator, which ``np.random.seed`` sets.
    progress : str, optional
        Label of a progress bar; by default, there is no bar.

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
    with progress_bar(progress, batches) as bar:
        for batch in bar:
            yield inputs[batch] if targets is None else (inputs[batch], targets[batch])


def plot_reconstructions(X, reconstruct, n_images=10):
    """Plot the first images above their reconstructions.

    Parameters
    ----------
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1].
    reconstruct : callable
        Maps images to the probabilities of their pixels, of the same shape.
    n_images : int
        The largest number of images to plot.

    Returns
    -------
    matplotlib.figure.Figure
    """
    _check_images("X", X, len(X))
    _check_count("n_images", n_images)
    images = X[:n_images]
    reconstructions = reconstruct(images)
    _check_images("reconstruct(X)", reconstructions, len(images))

    alt = _("Сверху {n} исходных изображений, под каждым — его реконструкция", n=len(images))
    figure, ax = figure_with_alt(alt, figsize=(0.75 * len(images) + 1.4, 1.9))
    _show_images(ax, np.concatenate([images, reconstructions]), n_rows=2)
    ax.set(xticks=[], yticks=[13.5, 41.5], yticklabels=[_("Оригиналы"), _("Реконструкции")])
    return figure


def plot_hidden_space(X, encode, y=None, name=None):
    """Plot images at their codes.

    With `y`, the colour of an image shows its digit, which also stands in the middle of its images,
    for readers who confuse some colours. Without `y`, if images repeat, all copies of an
    image have the same colour, which shows the cloud of its codes.

    Parameters
    ----------
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1]; about a thousand is a good number.
    encode : callable
        Maps images to their codes, ``(n, 2)``.
    y : numpy.ndarray, optional
        Digits, ``(n,)`` integers from 0 to 9.
    name : str, optional
        Of the model, for the title.

    Returns
    -------
    matplotlib.figure.Figure or None
        None, after a line of text, if codes do not have two dimensions.
    """
    _check_images("X", X, len(X))
    if y is not None:
        _check_array("y", y, (len(X),))
        if not np.isin(y, np.arange(10)).all():
            raise ValueError(f"Got y with values {np.unique(y)}, expected digits from 0 to 9")
    codes = encode(X)
    if np.ndim(codes) == 2 and np.shape(codes)[1] != 2:
        _print_needs_a_plane(np.shape(codes)[1])
        return None
    _check_array("encode(X)", codes, (len(X), 2))

    distinct, identity = np.unique(X.reshape(len(X), -1), axis=0, return_inverse=True)
    if y is not None:
        title = _("Изображения в пространстве представлений: цвет — цифра")
        colors = [to_rgb(DIGIT_COLORS[int(digit)]) for digit in y]
    elif 2 * len(distinct) <= len(X):
        title = _("Облака кодов: у каждого из {n} изображений свой цвет", n=len(distinct))
        hues = np.arange(len(distinct)) / len(distinct)
        colors = [hsv_to_rgb((hues[i], 1, 0.85 - 0.35 * (i % 2))) for i in identity.ravel()]
    else:
        title = _("Изображения в пространстве представлений")
        colors = [(0.1, 0.15, 0.4)] * len(X)
    if name is not None:
        title = f"{name}\n{title}"

    alt = _("{title}. Изображения стоят там, где находятся их коды", title=title)
    figure, ax = figure_with_alt(alt, figsize=(6.6, 6))
    _show_thumbnails(ax, X, codes, colors)
    ax.set(title=title, xlabel="$z_1$", ylabel="$z_2$")
    ax.grid(alpha=0.3)
    if y is not None:
        _write_digits(ax, codes, y)
        patches = [Patch(color=color, label=digit) for digit, color in enumerate(DIGIT_COLORS)]
        ax.legend(handles=patches, title=_("Цифра"), loc="center left", bbox_to_anchor=(1, 0.5),
                  frameon=False)
    return figure


def _write_digits(ax, codes, y):
    """Write each digit, in its colour, into the square where it is most frequent and most alone."""
    edges = [np.linspace(*limits, 16) for limits in (ax.get_xlim(), ax.get_ylim())]
    centers = [(borders[:-1] + borders[1:]) / 2 for borders in edges]
    n_images = np.histogram2d(*codes.T, bins=edges)[0]
    for digit in np.unique(y).astype(int):
        n_own = np.histogram2d(*codes[y == digit].T, bins=edges)[0]
        column, row = np.unravel_index(
            np.argmax(n_own**2 / np.maximum(n_images, 1)), n_own.shape)
        n_images[column, row] = np.inf  # taken
        ax.text(centers[0][column], centers[1][row], digit, color=DIGIT_COLORS[digit], fontsize=20,
                weight="bold", ha="center", va="center_baseline", zorder=4,
                path_effects=[withStroke(linewidth=4, foreground="white")])


def _show_thumbnails(ax, X, codes, colors):
    """Show each image at its code, in its colour, and fit the axes' limits to all of them."""
    low, high = np.min(codes, axis=0), np.max(codes, axis=0)
    half = 0.017 * (np.max(high - low) or 1)
    for image, (z_1, z_2), color in zip(X[:, 0], codes, colors):
        thumbnail = np.dstack([np.broadcast_to(color, (28, 28, 3)), 0.8 * image])
        ax.imshow(thumbnail, extent=(z_1 - half, z_1 + half, z_2 - half, z_2 + half), zorder=2)
    center, reach = (low + high) / 2, np.max(high - low) / 2 + 1.5 * half
    ax.set(xlim=(center[0] - reach, center[0] + reach), ylim=(center[1] - reach, center[1] + reach))


def plot_manifold(decode, n=20):
    """Plot what a decoder makes of codes on a grid.

    Along each axis, the codes are `n` quantiles of the standard normal prior, at equal steps of
    probability: the grid covers the prior evenly.

    Parameters
    ----------
    decode : callable
        Maps codes, ``(m, 2)`` float32, to the probabilities of pixels, ``(m, 1, 28, 28)``.
    n : int
        Number of images along each axis.

    Returns
    -------
    matplotlib.figure.Figure or None
        None, after a line of text, if codes do not have two dimensions.
    """
    _check_count("n", n)
    grid = _grid_of_codes(decode, n)
    if grid is None:
        return None
    z, images = grid
    alt = _("Изображения, в которые декодируются {n} × {n} кодов с квантилями p(z) по обеим осям",
            n=n)
    figure, ax = figure_with_alt(alt, figsize=(6, 6))
    _show_images(ax, images, n_rows=n)
    step = math.ceil(n / 20)  # more than 20 labels would overlap
    ticks = 28 * np.arange(n)[::step] + 13.5
    labels = [_with_minus_signs(f"{value:.2f}") for value in z[::step]]
    ax.set_xticks(ticks, labels, rotation=90)
    ax.set_yticks(28 * n - 1 - ticks, labels)
    ax.set(title=_("Что декодировщик рисует по коду"), xlabel="$z_1$", ylabel="$z_2$")
    return figure


def _grid_of_codes(decode, n):
    """Return the quantiles and the image decoded at each pair of them, from the top row down.

    Return None, after a line of text, if codes do not have two dimensions.
    """
    z = ndtri((np.arange(n) + 0.5) / n)
    z_1, z_2 = np.meshgrid(z, z[::-1])  # the top row has the largest z_2
    try:
        images = decode(np.column_stack([z_1.ravel(), z_2.ravel()]).astype(np.float32))
    except ValueError:
        dimension = _dimension_of_codes(decode)
        if dimension is None:
            raise
        _print_needs_a_plane(dimension)
        return None
    _check_images("decode(z)", images, n * n)
    return z, images


def _dimension_of_codes(decode):
    """Return the smallest dimension of codes that a decoder takes, None if it takes none."""
    for dimension in range(1, _MAX_DIMENSION + 1):
        try:
            decode(np.zeros((1, dimension), np.float32))
        except ValueError:
            continue
        return dimension
    return None


def _print_needs_a_plane(dimension):
    print(_("Этот рисунок возможен только при HIDDEN_DIM = 2, а здесь HIDDEN_DIM = {dimension}.",
            dimension=dimension))


def explore_manifold(decode, n=15):
    """Show the image that a decoder makes of a code, which two sliders choose.

    The grid of `plot_manifold` is beside it, with a mark at the chosen code: a step along its axes
    is a step of the prior's probability, not of the code. Without a kernel, as in a saved notebook,
    or without ipywidgets, there is a picture of the code (0, 0). If codes do not have two
    dimensions, there is only a line of text.

    Parameters
    ----------
    decode : callable
        Maps codes, ``(m, 2)`` float32, to the probabilities of pixels, ``(m, 1, 28, 28)``.
    n : int
        Number of images along each axis of the grid.
    """
    _check_count("n", n)
    grid = _grid_of_codes(decode, n)
    if grid is None:
        return
    _z, images = grid
    figure = still_figure(figsize=(7, 4.1))
    plane, digit = figure.subplots(1, 2, width_ratios=[3, 2])
    _show_images(plane, images, n_rows=n)
    plane.autoscale(False)  # the mark does not move the borders
    mark, = plane.plot([], [], "o", color="crimson", markersize=9, markeredgecolor="white",
                       clip_on=False, zorder=3)
    shown = digit.imshow(np.zeros((28, 28)), cmap="gray_r", vmin=0, vmax=1)
    values = np.array([-2, -1, -0.5, 0, 0.5, 1, 2])
    labels = [_with_minus_signs(f"{value:g}") for value in values]
    plane.set_xticks(28 * n * ndtr(values) - 0.5, labels)
    plane.set_yticks(28 * n * ndtr(-values) - 0.5, labels)
    plane.set(title=_("Плоскость кодов, шкалы — квантили $p(z)$"), xlabel="$z_1$", ylabel="$z_2$")
    digit.set(xticks=[], yticks=[])

    def draw(z_1, z_2):
        image = decode(np.array([[z_1, z_2]], np.float32))
        _check_images("decode(z)", image, 1)
        shown.set_data(image[0, 0])
        digit.set_title(_with_minus_signs(f"z = ({z_1:.2f}, {z_2:.2f})"))
        mark.set_data([28 * n * ndtr(z_1) - 0.5], [28 * n * ndtr(-z_2) - 0.5])
        alt = _("Плоскость кодов с отмеченной точкой ({z_1:.2f}, {z_2:.2f}) и изображение, в "
                "которое она декодируется", z_1=z_1, z_2=z_2)
        return png(figure), alt

    try:
        widget = plane_with_sliders(draw)
    except ModuleNotFoundError:
        print(_("Чтобы выбирать код ползунками, выполните %pip install ipywidgets и эту ячейку."))
        widget = None
    show(*draw(0., 0.), widget)


def plot_samples(samples):
    """Plot what several decoders have made of the same codes, drawn from the prior p(z).

    Parameters
    ----------
    samples : dict of numpy.ndarray
        By the decoder's label: the probabilities of pixels, ``(n, 1, 28, 28)`` in [0, 1].

    Returns
    -------
    matplotlib.figure.Figure
        A row of images for each decoder.
    """
    n_images = len(next(iter(samples.values()), ()))
    for label, images in samples.items():
        _check_images(f"samples[{label!r}]", images, n_images)
    alt = _("Изображения, в которые декодируются {n} кодов из p(z). Ряды сверху вниз: {labels}",
            n=n_images, labels=", ".join(samples))
    figure, ax = figure_with_alt(alt, figsize=(0.7 * n_images + 1.5, 0.8 * len(samples) + 0.5))
    _show_images(ax, np.concatenate(list(samples.values())), n_rows=len(samples))
    ax.set(title=_("Что декодировщики рисуют по кодам из p(z)"), xticks=[],
           yticks=28 * np.arange(len(samples)) + 13.5, yticklabels=list(samples))
    return figure


class TrainingPicture:
    """The learning curve and reconstructions of a few images, redrawn in place after each epoch.

    The picture appears below the cell that makes it; a saved notebook keeps its last state. In
    ``with TrainingPicture(...) as picture``, an interruption ends the training with one line of
    text; the epochs that are done remain.

    Parameters
    ----------
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1]; eight is a good number.
    reconstruct : callable
        Maps images to the probabilities of their pixels, of the same shape.
    train_curve, test_curve : list of float
        Mean ELBO of the images after each epoch, in nats. Training appends to them.
    """

    def __init__(self, X, reconstruct, train_curve, test_curve):
        _check_images("X", X, len(X))
        self._X, self._reconstruct, self._handle = X, reconstruct, None
        self._curves = train_curve, test_curve
        try:
            self._draw()
        except KeyboardInterrupt:
            raise Interrupted(self._interrupted()) from None

    def _draw(self):
        self._figure = still_figure(figsize=(9, 2.3))
        self._curve, ax = self._figure.subplots(1, 2, width_ratios=[2, 5])
        self._lines = [self._curve.plot([], [], style, label=label)[0]
                       for style, label in [(".-", _("обучающая")), (".--", _("тестовая"))]]
        self._curve.set(title=_("ELBO, нат"), xlabel=_("эпоха"))
        self._curve.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        self._curve.grid(alpha=0.3)
        self._curve.legend(loc="lower right", frameon=False)
        self._shown = _show_images(ax, np.concatenate([self._X, self._X]), n_rows=2)
        ax.set(title=_("Оригиналы и реконструкции"), xticks=[], yticks=[])
        self.update()

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, traceback):
        if error_type is None or not issubclass(error_type, KeyboardInterrupt):
            return False
        n_epochs = min(map(len, self._curves))
        for curve in self._curves:
            del curve[n_epochs:]  # of an epoch that is in one curve only
        print(self._interrupted())
        return True

    def _interrupted(self):
        return _("Обучение прервано, эпох сделано: {n}. Чтобы продолжить, выполните ячейку ещё раз.",
                 n=min(map(len, self._curves)))

    def update(self):
        """Redraw the picture with the current curves and reconstructions."""
        n_epochs, n_test = map(len, self._curves)
        if n_epochs != n_test:
            raise ValueError(f"Got {n_epochs} train and {n_test} test epochs, expected equal "
                             "numbers")
        reconstructions = self._reconstruct(self._X)
        _check_images("reconstruct(X)", reconstructions, len(self._X))
        self._shown.set_data(_rows(np.concatenate([self._X, reconstructions]), n_rows=2))
        for line, values in zip(self._lines, self._curves):
            line.set_data(np.arange(1, n_epochs + 1), values)
        self._curve.set_xlim(0.5, max(n_epochs, 2) + 0.5)
        self._curve.tick_params(
            labelcolor=matplotlib.rcParams["text.color"] if n_epochs else "none")
        if n_epochs:
            self._curve.relim()
            self._curve.autoscale_view(scalex=False)
            alt = _("ELBO после эпохи {n}: {test_elbo:.1f} нат на тестовой выборке; оригиналы и "
                    "реконструкции", n=n_epochs, test_elbo=self._curves[1][-1])
        else:
            alt = _("Оригиналы и реконструкции до обучения")
        self._handle = show(png(self._figure), alt, handle=self._handle)


class Diverged(Mistake, ValueError):
    """Training cannot go on. Jupyter shows this without a traceback."""


def stop_if_diverged(elbo):
    """Raise an error if the ELBO is NaN or infinite.

    Parameters
    ----------
    elbo : float
        Of a batch, or a sum or a mean of several.

    Raises
    ------
    ValueError
        The message names usual causes, and the cells to run again.
    """
    if not math.isfinite(elbo):  # quicker than NumPy's function
        _check_finite("ELBO", elbo)


def _check_finite(name, values):
    if not np.isfinite(values).all():
        raise Diverged(_(
            "✗ Обучение разошлось: среди значений {name} есть nan или бесконечность.\n"
            "Обычные причины: слишком большой шаг обучения в updates; scale без функции активации "
            "с положительными значениями; логарифм или деление, в которых может оказаться ноль.\n"
            "Веса испорчены. Исправьте причину и выполните ячейки заново, начиная с упражнения 3.",
            name=name))


def plot_learning_curve(train_elbo, test_elbo):
    """Plot the evidence lower bound by epoch.

    Parameters
    ----------
    train_elbo, test_elbo : sequence of float
        Mean over the images after each epoch, in nats, of equal lengths.

    Returns
    -------
    matplotlib.figure.Figure or None
        None, after a line of text, if there are no epochs.
    """
    if len(train_elbo) != len(test_elbo):
        raise ValueError(f"Got {len(train_elbo)} train and {len(test_elbo)} test epochs, expected "
                         "equal numbers")
    if not len(train_elbo):
        print(_("Кривой обучения пока нет: в этом ноутбуке модель ещё не обучали."))
        return None

    alt = _("ELBO по эпохам: в последней, {n}-й, {train_elbo:.1f} нат на обучающей выборке и "
            "{test_elbo:.1f} на тестовой",
            n=len(test_elbo), train_elbo=train_elbo[-1], test_elbo=test_elbo[-1])
    figure, ax = figure_with_alt(alt, figsize=(7, 4))
    epochs = np.arange(1, len(train_elbo) + 1)
    ax.plot(epochs, train_elbo, ".-", label=_("обучающая выборка"))
    ax.plot(epochs, test_elbo, ".--", label=_("тестовая выборка"))
    ax.set(title=_("Кривая обучения"), xlabel=_("эпоха"), ylabel=_("ELBO, нат"),
           xlim=(0.5, len(epochs) + 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def _show_images(ax, images, n_rows):
    """Show images ``(n, 1, 28, 28)``, ink on paper, as rows of one picture."""
    return ax.imshow(_rows(images, n_rows), cmap="gray_r", vmin=0, vmax=1)


def _rows(images, n_rows):
    """Arrange images ``(n, 1, 28, 28)`` in rows of one array, ``(28 * n_rows, ...)``."""
    rows = np.reshape(images, (n_rows, -1, 28, 28)).swapaxes(1, 2)
    return rows.reshape(n_rows * 28, -1)


def _with_minus_signs(number):
    return number.replace("-", "\N{MINUS SIGN}")


def _check_count(name, value, maximum=np.inf):
    if not isinstance(value, numbers.Integral) or not 1 <= value <= maximum:
        raise ValueError(f"Got {name}={value!r}, expected an integer from 1 to {maximum}")


def _check_images(name, images, n_images):
    _check_count(f"number of images in {name}", n_images)
    _check_array(name, images, (n_images, 1, 28, 28))


def _check_array(name, values, shape):
    if np.shape(values) != shape:
        raise ValueError(f"Got {name} of shape {np.shape(values)}, expected {shape}")
    _check_finite(name, values)
