"""Show pictures in a notebook, each with an alternative text."""

import base64
import io

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vae.kernel import ipython_shell

__all__ = ["figure_with_alt", "plane_with_sliders", "png", "show", "still_figure"]


class _Figure(Figure):
    """A figure that a notebook draws once: as the value of a cell, or else at the cell's end.

    An ordinary figure would be drawn twice if it is the value of the cell that makes it. A closed
    one would not be drawn after ``;`` or in a loop.
    """

    def _repr_mimebundle_(self, **kwargs):
        """Close the figure in pyplot, since IPython now draws it as the value of a cell."""
        if "inline" in matplotlib.get_backend():
            from IPython.display import display

            waiting = [plt.figure(number) for number in plt.get_fignums() if number < self.number]
            plt.close(self)
            for figure in waiting:
                if isinstance(figure, _Figure):
                    display(figure)  # made earlier in the cell, so it comes first
        return {}, {"image/png": {"alt": self.alt}}


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
    figure = Figure(dpi=80, layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure


def png(figure):
    """Return a PNG of a figure made by `still_figure`, as bytes."""
    file = io.BytesIO()
    figure.canvas.print_png(file)
    figure.set_layout_engine("none")  # one layout is enough, and takes half of the time
    return file.getvalue()


def show(picture, alt, widget=None, handle=None):
    """Show a picture in a notebook; do nothing elsewhere.

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

    bundle = {**(widget._repr_mimebundle_() if widget else {}),
              "image/png": base64.b64encode(picture).decode(), "text/plain": alt}
    options = dict(metadata={"image/png": {"alt": alt}}, raw=True)
    if handle is None:
        return display(bundle, display_id=True, **options)
    handle.update(bundle, **options)
    return handle


def plane_with_sliders(draw):
    """Return a widget: a picture, and two sliders for the coordinates of a code.

    Parameters
    ----------
    draw : callable
        Maps the coordinates, ``(z_1, z_2)``, to a PNG.

    Returns
    -------
    ipywidgets.Widget

    Raises
    ------
    ModuleNotFoundError
        If ipywidgets is not installed.
    """
    from ipywidgets import FloatSlider, HBox, Image, VBox

    picture = Image(value=draw(0., 0.), format="png", layout={"width": "640px"})
    sliders = [FloatSlider(description=f"z_{axis}", min=-3, max=3, step=0.05, readout_format=".2f",
                           layout={"width": "24em"}) for axis in (1, 2)]

    def redraw(change):
        picture.value = draw(*(slider.value for slider in sliders))

    for slider in sliders:
        slider.observe(redraw, "value")
    return VBox([HBox(sliders), picture])
