"""Pictures in a notebook, each with an alternative text."""

import base64
import html
import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from vae.kernel import ipython_shell

__all__ = ["DIGIT_COLORS", "as_html", "figure_with_alt", "in_rows", "plane_with_sliders", "png",
           "show", "show_images", "show_thumbnails", "still_figure", "with_palette",
           "write_digits"]

#: A colour for each digit. They all differ in hue and in lightness, so that readers with colour
#: blindness and readers of a greyscale print can tell them apart. Digits that models often confuse
#: have the most different colours. A search in sRGB found them; `tests/seminar/test_utils.py`
#: states the distances.
DIGIT_COLORS = ["#986df2", "#006895", "#a89c00", "#3c00fe", "#ffa2ed",
                "#62c082", "#414200", "#ab5c6c", "#41062a", "#3a038b"]

#: The smallest scale of a picture. The smallest letters are about 12 pixels high at full size, and
#: cannot be read below 8 pixels.
_SMALLEST_SCALE = 0.7

#: Width of a printed page in pixels. Every picture may shrink to this width.
_PAGE = 560

#: JavaScript that names the sliders for screen readers, which ipywidgets does not do, and keeps
#: Notebook from taking their arrow keys.
_COMPLETE_SLIDERS = """\
for (const slider of this.closest('.widget-vbox').querySelectorAll('.widget-slider')) {
    const handle = slider.querySelector('[role=slider]');
    handle.setAttribute('aria-label', slider.querySelector('label').textContent);
    handle.setAttribute('data-lm-suppress-shortcuts', 'true');
}"""


class _Figure(Figure):
    """A figure that a notebook draws once: as the value of a cell, or else when the cell has ended.

    An ordinary figure would be drawn twice if it is the value of the cell that makes it. A closed
    figure would not be drawn after ``;`` or in a loop.
    """

    def _ipython_display_(self):
        """Draw the figure in a notebook, after the figures that the cell has made earlier."""
        if "inline" not in matplotlib.get_backend():
            raise NotImplementedError  # the backend draws it
        waiting = [plt.figure(number) for number in plt.get_fignums() if number < self.number]
        plt.close(self)
        for figure in waiting:
            if isinstance(figure, _Figure):
                figure._ipython_display_()
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        show(file.getvalue(), self.alt)


def figure_with_alt(alt, **options):
    """Return a pyplot figure with an alternative text, and its axes.

    Parameters
    ----------
    alt : str
        A description of the figure, for readers who cannot see it.
    **options
        Passed to `matplotlib.pyplot.subplots`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    ax : matplotlib.axes.Axes or numpy.ndarray of them
    """
    figure, ax = plt.subplots(FigureClass=_Figure, layout="constrained", **options)
    figure.alt = alt
    return figure, ax


def still_figure(**options):
    """Return a figure that pyplot does not know, so that a notebook draws it only in `show`.

    Parameters
    ----------
    **options
        Passed to `matplotlib.figure.Figure`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(dpi=100, layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure


def show_images(ax, images, n_rows):
    """Draw images in black on white, in rows of one picture.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    images : numpy.ndarray
        ``(n, 1, 28, 28)`` in [0, 1].
    n_rows : int
        A divisor of n.

    Returns
    -------
    matplotlib.image.AxesImage
    """
    return ax.imshow(in_rows(images, n_rows), cmap="gray_r", vmin=0, vmax=1)


def show_thumbnails(ax, X, codes, colors):
    """Show each image at its code, in its colour, and set the limits of the axes to fit them.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1].
    codes : numpy.ndarray
        ``(n, 2)``.
    colors : sequence of tuple of float
        Red, green and blue in [0, 1], one colour for each image.
    """
    low, high = np.min(codes, axis=0), np.max(codes, axis=0)
    half = 0.017 * (np.max(high - low) or 1)
    for image, (z_1, z_2), color in zip(X[:, 0], codes, colors):
        thumbnail = np.dstack([np.broadcast_to(color, (28, 28, 3)), 0.8 * image])
        ax.imshow(thumbnail, extent=(z_1 - half, z_1 + half, z_2 - half, z_2 + half), zorder=2)
    center, reach = (low + high) / 2, np.max(high - low) / 2 + 1.5 * half
    ax.set(xlim=(center[0] - reach, center[0] + reach), ylim=(center[1] - reach, center[1] + reach))


def write_digits(ax, codes, y):
    """Write each digit, in its colour, into one of the squares of a grid.

    That square has many images of this digit and few images of other digits.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Its limits are the borders of the grid.
    codes : numpy.ndarray
        ``(n, 2)``.
    y : numpy.ndarray
        Digits, ``(n,)``.
    """
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


def in_rows(images, n_rows):
    """Arrange images in rows of one array.

    Parameters
    ----------
    images : numpy.ndarray
        ``(n, 1, 28, 28)``.
    n_rows : int
        A divisor of n.

    Returns
    -------
    numpy.ndarray
        ``(28 * n_rows, 28 * n / n_rows)``.
    """
    rows = np.reshape(images, (n_rows, -1, 28, 28)).swapaxes(1, 2)
    return rows.reshape(n_rows * 28, -1)


def png(figure):
    """Draw a figure as a PNG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A figure made by `still_figure`.

    Returns
    -------
    bytes
    """
    file = io.BytesIO()
    figure.canvas.print_png(file)
    # The layout takes half of the time, so it is computed only for the first PNG.
    figure.set_layout_engine("none")
    return file.getvalue()


def show(picture, alt, widget=None, handle=None):
    """Show a picture in a notebook; do nothing elsewhere.

    The notebook stores the picture twice. JupyterLab, Notebook and nbconvert give an alternative
    text only to an HTML image; other programs, such as nbconvert for LaTeX, need a PNG.

    Parameters
    ----------
    picture : bytes
        PNG.
    alt : str
        A description of the picture.
    widget : ipywidgets.Widget, optional
        Shown instead of the picture while a kernel runs.
    handle : IPython.display.DisplayHandle, optional
        The handle of an earlier picture, which this picture replaces.

    Returns
    -------
    IPython.display.DisplayHandle or None
        The handle of the picture; None outside a notebook.
    """
    if ipython_shell() is None:
        return None
    from IPython.display import display

    picture = with_palette(picture)
    bundle = {**(widget._repr_mimebundle_() if widget else {}),
              "text/html": as_html(picture, alt),
              "image/png": base64.b64encode(picture).decode(), "text/plain": alt}
    options = dict(metadata={"image/png": {"alt": alt}}, raw=True)
    if handle is None:
        return display(bundle, display_id=True, **options)
    handle.update(bundle, **options)
    return handle


def with_palette(picture):
    """Reduce a picture to 256 colours, which makes it less than half as large.

    Parameters
    ----------
    picture : bytes
        PNG.

    Returns
    -------
    bytes
        PNG, without transparency.
    """
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    file = io.BytesIO()
    image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "png")
    return file.getvalue()


def as_html(picture, alt, **attributes):
    """Return an HTML image with an alternative text.

    In a narrow window the image shrinks, but only as long as its letters can be read. In an even
    narrower window Jupyter scrolls it.

    Parameters
    ----------
    picture : bytes
        PNG.
    alt : str
        A description of the picture.
    **attributes : str
        More attributes of the element.

    Returns
    -------
    str
        An ``<img>`` element.
    """
    width = Image.open(io.BytesIO(picture)).width
    attributes["alt"] = alt
    smallest = min(round(_SMALLEST_SCALE * width), _PAGE)
    attributes["style"] = f"max-width: 100%; min-width: {smallest}px"
    attributes["src"] = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    text = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<img {text}>"


def plane_with_sliders(draw):
    """Return a widget with a picture and two sliders for the coordinates of a code.

    Parameters
    ----------
    draw : callable
        Maps the coordinates, ``(z_1, z_2)``, to a PNG and its alternative text.

    Returns
    -------
    ipywidgets.Widget

    Raises
    ------
    ModuleNotFoundError
        If ipywidgets is not installed.
    """
    from ipywidgets import HTML, Box, FloatSlider, VBox

    sliders = [FloatSlider(description=f"z_{axis}", min=-3, max=3, step=1 / 16, readout=False,
                           style={"description_width": "2em"},
                           layout={"flex": "1 1 16em", "width": "auto", "max_width": "24em"})
               for axis in (1, 2)]
    image = HTML()

    def redraw(change=None):
        picture, alt = draw(*(slider.value for slider in sliders))
        # "sync" decodes the new picture before the old one is removed, which avoids a flash.
        image.value = as_html(picture, alt, decoding="sync", onload=_COMPLETE_SLIDERS)

    for slider in sliders:
        slider.observe(redraw, "value")
    redraw()
    return VBox([Box(sliders, layout={"flex_flow": "row wrap", "max_width": "640px"}), image])
