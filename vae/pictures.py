"""How pictures reach a notebook's page, each with an alternative text."""

import base64
import io

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vae.kernel import ipython_shell

__all__ = ["figure_with_alt", "plane_with_sliders", "png", "show", "still_figure"]


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


def figure_with_alt(alt, **options):
    """Return a figure of pyplot's and its axes.

    Parameters
    ----------
    alt : str
        What it shows, for those who do not see it.
    **options
        Of `matplotlib.pyplot.subplots`.
    """
    figure, ax = plt.subplots(FigureClass=_Figure, layout="constrained", **options)
    figure.alt = alt
    return figure, ax


def still_figure(**options):
    """Return a figure that pyplot does not know, so that no notebook draws it: see `show`."""
    figure = Figure(dpi=80, layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure


def png(figure):
    """Return a picture of a still figure, as bytes."""
    file = io.BytesIO()
    figure.canvas.print_png(file)
    figure.set_layout_engine("none")  # once is enough, and it takes as long as all the rest
    return file.getvalue()


def show(picture, alt, widget=None, handle=None):
    """Show a picture in a notebook; do nothing elsewhere.

    Parameters
    ----------
    picture : bytes
        PNG.
    alt : str
        What it shows.
    widget : ipywidgets.Widget, optional
        What is shown in its place while there is a kernel.
    handle : IPython.display.DisplayHandle, optional
        That of an earlier picture, whose place this one takes.

    Returns
    -------
    IPython.display.DisplayHandle or None
        The picture's.
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
    """Return a widget: a picture and two sliders, for the coordinates of a code.

    Parameters
    ----------
    draw : callable
        (z_1, z_2) -> PNG.

    Raises
    ------
    ModuleNotFoundError
        If there are no ipywidgets.
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
