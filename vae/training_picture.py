"""The picture that changes while a model is trained."""

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
