"""The student's toolbox for the seminar: MNIST, minibatches, pictures and weights."""

import math

import numpy as np
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.special import ndtr

from vae.arguments import check_array, check_count, check_images
from vae.code_grid import decoded_grid, print_needs_a_plane
from vae.diagram import plot_model
from vae.divergence import stop_if_diverged
from vae.language import _
from vae.mnist import load_dataset
from vae.pictures import (
    DIGIT_COLORS, figure_with_alt, plane_with_sliders, png, show, show_images, show_thumbnails,
    still_figure, write_digits)
from vae.progress import progress_bar
from vae.training_picture import TrainingPicture
from vae.weights import TRAINED_WEIGHTS, learning_curves, load_weights, save_weights

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

    If the last samples do not fill a minibatch, they are left out.

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
        Yields ``inputs[batch]``, or ``(inputs[batch], targets[batch])`` if there are targets.

    Raises
    ------
    ValueError
        If the lengths differ or `batchsize` is out of range. The call itself raises it, not the
        first iteration.
    """
    if targets is not None and len(targets) != len(inputs):
        raise ValueError(f"Got {len(targets)} targets, expected {len(inputs)}, one for each input")
    check_count("batchsize", batchsize, len(inputs))
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

    Raises
    ------
    ValueError
        If an argument or a result of `reconstruct` has the wrong shape or is not finite.
    """
    check_images("X", X, len(X))
    check_count("n_images", n_images)
    images = X[:n_images]
    reconstructions = reconstruct(images)
    check_images("reconstruct(X)", reconstructions, len(images))

    alt = _("Сверху {n} исходных изображений, под каждым — его реконструкция", n=len(images))
    figure, ax = figure_with_alt(alt, figsize=(0.75 * len(images) + 1.4, 1.9))
    show_images(ax, np.concatenate([images, reconstructions]), n_rows=2)
    ax.set(xticks=[], yticks=[13.5, 41.5], yticklabels=[_("Оригиналы"), _("Реконструкции")])
    return figure


def plot_hidden_space(X, encode, y=None, name=None):
    """Plot images at their codes.

    With `y`, the colour of an image shows its digit. The digit is also written in the middle of its
    images, because some readers cannot tell the colours apart. Without `y`, if images repeat, all
    copies of an image have the same colour, which shows the cloud of its codes.

    Parameters
    ----------
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1]; about a thousand is a good number.
    encode : callable
        Maps images to their codes, ``(n, 2)``.
    y : numpy.ndarray, optional
        Digits, ``(n,)`` integers from 0 to 9.
    name : str, optional
        Name of the model, for the title.

    Returns
    -------
    matplotlib.figure.Figure or None
        None if the codes do not have two dimensions; a printed line explains this.

    Raises
    ------
    ValueError
        If an argument or a result of `encode` has the wrong shape or is not finite, or if `y` has
        values other than digits.
    """
    check_images("X", X, len(X))
    if y is not None:
        check_array("y", y, (len(X),))
        if not np.isin(y, np.arange(10)).all():
            raise ValueError(f"Got y with values {np.unique(y)}, expected digits from 0 to 9")
    codes = encode(X)
    if np.ndim(codes) == 2 and np.shape(codes)[1] != 2:
        print_needs_a_plane(np.shape(codes)[1])
        return None
    check_array("encode(X)", codes, (len(X), 2))

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
    show_thumbnails(ax, X, codes, colors)
    ax.set(title=title, xlabel="$z_1$", ylabel="$z_2$")
    ax.grid(alpha=0.3)
    if y is not None:
        write_digits(ax, codes, y)
        patches = [Patch(color=color, label=digit) for digit, color in enumerate(DIGIT_COLORS)]
        ax.legend(handles=patches, title=_("Цифра"), loc="center left", bbox_to_anchor=(1, 0.5),
                  frameon=False)
    return figure


def plot_manifold(decode, n=20):
    """Plot the images that a decoder makes of the codes on a grid.

    Along each axis, the codes are `n` quantiles of the standard normal prior. The probability
    between neighbouring quantiles is always the same, so the grid covers the prior evenly.

    Parameters
    ----------
    decode : callable
        Maps codes, ``(m, 2)`` float32, to the probabilities of pixels, ``(m, 1, 28, 28)``.
    n : int
        Number of images along each axis.

    Returns
    -------
    matplotlib.figure.Figure or None
        None if the codes do not have two dimensions; a printed line explains this.

    Raises
    ------
    ValueError
        If `n` is not a positive integer, or if `decode` raises ValueError or returns something
        other than images.
    """
    check_count("n", n)
    grid = decoded_grid(decode, n)
    if grid is None:
        return None
    z, images = grid
    alt = _("Изображения, в которые декодируются {n} × {n} кодов с квантилями p(z) по обеим осям",
            n=n)
    figure, ax = figure_with_alt(alt, figsize=(6, 6))
    show_images(ax, images, n_rows=n)
    step = math.ceil(n / 20)  # more than 20 labels would overlap
    ticks = 28 * np.arange(n)[::step] + 13.5
    labels = [_with_minus_signs(f"{value:.2f}") for value in z[::step]]
    ax.set_xticks(ticks, labels, rotation=90)
    ax.set_yticks(28 * n - 1 - ticks, labels)
    ax.set(title=_("Что декодировщик рисует по коду"), xlabel="$z_1$", ylabel="$z_2$")
    return figure


def explore_manifold(decode, n=15):
    """Let the user choose a code with two sliders, and show the image decoded from it.

    The grid of `plot_manifold` is shown next to the image, with a mark at the chosen code. Its axes
    are scaled by the probability of the prior, not by the code. Without a kernel, as in a saved
    notebook, or without ipywidgets, a still picture of the code (0, 0) is shown. If the codes do
    not have two dimensions, only a line of text is printed.

    Parameters
    ----------
    decode : callable
        Maps codes, ``(m, 2)`` float32, to the probabilities of pixels, ``(m, 1, 28, 28)``.
    n : int
        Number of images along each axis of the grid.

    Raises
    ------
    ValueError
        If `n` is not a positive integer, or if `decode` raises ValueError or returns something
        other than images.
    """
    check_count("n", n)
    grid = decoded_grid(decode, n)
    if grid is None:
        return
    _z, images = grid
    figure = still_figure(figsize=(7, 4.1))
    plane, digit = figure.subplots(1, 2, width_ratios=[3, 2])
    show_images(plane, images, n_rows=n)
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
        check_images("decode(z)", image, 1)
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
    """Plot the images that several decoders have made of the same codes, drawn from p(z).

    Parameters
    ----------
    samples : dict of numpy.ndarray
        Maps the label of a decoder to the probabilities of pixels, ``(n, 1, 28, 28)`` in [0, 1].

    Returns
    -------
    matplotlib.figure.Figure
        A row of images for each decoder.

    Raises
    ------
    ValueError
        If there are no images, if an array has the wrong shape, or if its values are not finite.
    """
    n_images = len(next(iter(samples.values()), ()))
    for label, images in samples.items():
        check_images(f"samples[{label!r}]", images, n_images)
    alt = _("Изображения, в которые декодируются {n} кодов из p(z). Ряды сверху вниз: {labels}",
            n=n_images, labels=", ".join(samples))
    figure, ax = figure_with_alt(alt, figsize=(0.7 * n_images + 1.5, 0.8 * len(samples) + 0.5))
    show_images(ax, np.concatenate(list(samples.values())), n_rows=len(samples))
    ax.set(title=_("Что декодировщики рисуют по кодам из p(z)"), xticks=[],
           yticks=28 * np.arange(len(samples)) + 13.5, yticklabels=list(samples))
    return figure


def plot_learning_curve(train_elbo, test_elbo):
    """Plot the evidence lower bound by epoch.

    Parameters
    ----------
    train_elbo, test_elbo : sequence of float
        The ELBO after each epoch, averaged over the images, in nats. Both have the same length.

    Returns
    -------
    matplotlib.figure.Figure or None
        None if there are no epochs; a printed line explains this.

    Raises
    ------
    ValueError
        If the lengths differ.
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


def _with_minus_signs(number):
    return number.replace("-", "\N{MINUS SIGN}")
