"""A picture that is updated during training."""

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from vae.arguments import check_images
from vae.checks.exercise import Interrupted
from vae.language import _
from vae.pictures import in_rows, png, show, show_images, still_figure

__all__ = ["TrainingPicture"]


class TrainingPicture:
    """The learning curve and reconstructions of a few images, redrawn in place after each epoch.

    The picture appears below the cell that makes it; a saved notebook keeps its last state. If the
    user interrupts the kernel inside ``with TrainingPicture(...) as picture``, one line of text is
    printed instead of a traceback, and the curves keep the epochs that are finished.

    Parameters
    ----------
    X : numpy.ndarray
        Images, ``(n, 1, 28, 28)`` in [0, 1]; eight is a good number.
    reconstruct : callable
        Maps images to the probabilities of their pixels, of the same shape.
    train_curve, test_curve : list of float
        The ELBO after each epoch, averaged over the images, in nats. Training appends to them.

    Raises
    ------
    ValueError
        If `X` or a result of `reconstruct` has the wrong shape or is not finite.
    """

    def __init__(self, X, reconstruct, train_curve, test_curve):
        check_images("X", X, len(X))
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
        self._shown = show_images(ax, np.concatenate([self._X, self._X]), n_rows=2)
        ax.set(title=_("Оригиналы и реконструкции"), xticks=[], yticks=[])
        self.update()

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, traceback):
        if error_type is None or not issubclass(error_type, KeyboardInterrupt):
            return False
        n_epochs = min(map(len, self._curves))
        for curve in self._curves:
            del curve[n_epochs:]  # an epoch that has only one of its two values
        print(self._interrupted())
        return True

    def _interrupted(self):
        return _("Обучение прервано, эпох сделано: {n}. Чтобы продолжить, выполните ячейку ещё раз.",
                 n=min(map(len, self._curves)))

    def update(self):
        """Redraw the picture with the current curves and reconstructions.

        Raises
        ------
        ValueError
            If the curves have different lengths.
        """
        n_epochs, n_test = map(len, self._curves)
        if n_epochs != n_test:
            raise ValueError(f"Got {n_epochs} train and {n_test} test epochs, expected equal "
                             "numbers")
        reconstructions = self._reconstruct(self._X)
        check_images("reconstruct(X)", reconstructions, len(self._X))
        self._shown.set_data(in_rows(np.concatenate([self._X, reconstructions]), n_rows=2))
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
