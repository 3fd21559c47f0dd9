"""Show pictures in a notebook, each with an alternative text."""

import base64
import html
import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vae.kernel import ipython_shell

__all__ = ["DIGIT_COLORS", "as_html", "figure_with_alt", "in_rows", "plane_with_sliders", "png",
           "show", "show_images", "still_figure", "with_palette"]

#: A colour for each digit. All differ in hue and in lightness, and those of digits that models
#: often confuse differ most: with colour blindness, and in print without colours, too. A search in
#: sRGB found them; `tests/seminar/test_utils.py` has the distances.
DIGIT_COLORS = ["#986df2", "#006895", "#a89c00", "#3c00fe", "#ffa2ed",
                "#62c082", "#414200", "#ab5c6c", "#41062a", "#3a038b"]

#: The smallest letters are about 12 pixels high; below 8 pixels they cannot be read.
_SMALLEST_SCALE = 0.7

#: Pixels; a picture that may be as narrow as this fits on a printed page.
_PAGE = 560

#: JavaScript: gives the sliders what ipywidgets does not, names for screen readers, and the arrow
#: keys, which Notebook would take for itself.
_COMPLETE_SLIDERS = """\
for (const slider of this.closest('.widget-vbox').querySelectorAll('.widget-slider')) {
    const handle = slider.querySelector('[role=slider]');
    handle.setAttribute('aria-label', slider.querySelector('label').textContent);
    handle.setAttribute('data-lm-suppress-shortcuts', 'true');
}"""


class _Figure(Figure):
    """A figure that a notebook draws once: as the value of a cell, or else at the cell's end.

    An ordinary figure would be drawn twice if it is the value of the cell that makes it. A closed
    one would not be drawn after ``;`` or in a loop.
    """

    def _ipython_display_(self):
        """Draw the figure in a notebook, after those that the cell has made earlier."""
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
        What the figure shows, for readers who do not see it.
    **options
        Passed to `matplotlib.pyplot.subplots`.
    """
    figure, ax = plt.subplots(FigureClass=_Figure, layout="constrained", **options)
    figure.alt = alt
    return figure, ax


def still_figure(**options):
    """Return a figure unknown to pyplot: a notebook draws it only in `show`."""
    figure = Figure(dpi=100, layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure


def show_images(ax, images, n_rows):
    """Draw images ``(n, 1, 28, 28)``, ink on paper, as rows of one picture; return the artist."""
    return ax.imshow(in_rows(images, n_rows), cmap="gray_r", vmin=0, vmax=1)


def in_rows(images, n_rows):
    """Arrange images ``(n, 1, 28, 28)`` in rows of one array, ``(28 * n_rows, ...)``."""
    rows = np.reshape(images, (n_rows, -1, 28, 28)).swapaxes(1, 2)
    return rows.reshape(n_rows * 28, -1)


def png(figure):
    """Return a PNG of a figure made by `still_figure`, as bytes."""
    file = io.BytesIO()
    figure.canvas.print_png(file)
    figure.set_layout_engine("none")  # one layout is enough, and takes half of the time
    return file.getvalue()


def show(picture, alt, widget=None, handle=None):
    """Show a picture in a notebook; do nothing elsewhere.

    The notebook keeps it twice. JupyterLab, Notebook and nbconvert give an alternative text only to
    an HTML image; other programs, such as nbconvert for LaTeX, need a PNG.

    Parameters
    ----------
    picture : bytes
        PNG.
    alt : str
        What the picture shows.
    widget : ipywidgets.Widget, optional
        Takes the picture's place while a kernel runs.
    handle : IPython.display.DisplayHandle, optional
        Of an earlier picture, which this one replaces.

    Returns
    -------
    IPython.display.DisplayHandle or None
        The handle of the picture, None outside a notebook.
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
    """Return a picture with at most 256 colours: less than half as many bytes.

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

    In a narrow window it shrinks, but only while its letters can be read; then Jupyter scrolls it.

    Parameters
    ----------
    picture : bytes
        PNG.
    alt : str
        What the picture shows.
    **attributes : str
        More attributes of the element.
    """
    width = Image.open(io.BytesIO(picture)).width
    attributes["alt"] = alt
    smallest = min(round(_SMALLEST_SCALE * width), _PAGE)
    attributes["style"] = f"max-width: 100%; min-width: {smallest}px"
    attributes["src"] = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    text = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<img {text}>"


def plane_with_sliders(draw):
    """Return a widget: a picture, and two sliders for the coordinates of a code.

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
        # Decoded at once, the new picture takes the place of the old one without a flash.
        image.value = as_html(picture, alt, decoding="sync", onload=_COMPLETE_SLIDERS)

    for slider in sliders:
        slider.observe(redraw, "value")
    redraw()
    return VBox([Box(sliders, layout={"flex_flow": "row wrap", "max_width": "640px"}), image])
