"""Files with the weights of networks and the learning curves of their training."""

import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from lasagne.layers import get_all_params

from vae.checks.exercise import Mistake
from vae.language import _

__all__ = ["learning_curves", "save_weights", "load_weights", "TRAINED_WEIGHTS"]

#: The weights of the solved notebook's ``[encoder_mean, encoder_scale, decoder_logits]``.
TRAINED_WEIGHTS = Path(__file__).with_name("trained_weights.npz")
#: The test ELBO of a model varies by about this much between epochs or trainings, in nats.
_SAME_ELBO = 1.
_CURVES = ("train_curve", "test_curve")

_curves_of = WeakKeyDictionary()  # maps a parameter to the curves of its networks


class WeightsError(Mistake, ValueError):
    """Weights could not be saved or loaded. Jupyter shows this error without a traceback."""


def learning_curves(networks):
    """Return the learning curves of networks: lists to which training appends.

    The curves belong to the weights. For the same networks, the same lists are returned. If one of
    the networks is new, the lists are new and empty. `save_weights` also saves the curves, and
    `load_weights` also loads them.

    Parameters
    ----------
    networks : lasagne.layers.Layer or list of them
        Output layers.

    Returns
    -------
    train_curve, test_curve : list of float
        The ELBO after each epoch, averaged over the images, in nats.
    """
    parameters = get_all_params(networks)
    known = [_curves_of.get(parameter) for parameter in parameters]
    curves = known[0] if known else None
    if curves is None or any(known_curves is not curves for known_curves in known):
        curves = [], []
        _curves_of.update((parameter, curves) for parameter in parameters)
    return curves


def save_weights(path, networks):
    """Save all weights of one or several networks to a file, and describe them in a printed line.

    An existing file is replaced, unless its weights may be better.

    Parameters
    ----------
    path : str or path
        The file, ``.npz``.
    networks : lasagne.layers.Layer or list of them
        Output layers.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite, or if the file cannot be written. If the file exists, also
        if it contains something other than weights, or a model that may be better: its test ELBO is
        higher, or these networks have no curves. The file does not change then.
    """
    values = [parameter.get_value(borrow=True) for parameter in get_all_params(networks)]
    curves = learning_curves(networks)
    if not _are_finite(values):
        raise WeightsError(_("Веса не сохранены: среди них есть nan или бесконечность. Выполните "
                             "ячейки, начиная с упражнения 3, и обучите модель заново."))
    if os.path.exists(path):
        values_in_file, (_train_curve, test_curve) = _read(path)
        if _may_be_better(test_curve, curves[1]) and not _equal(values_in_file, values):
            raise WeightsError(_(
                "Веса не сохранены, чтобы не потерять те, что уже есть в файле {path}.\n"
                "В файле: {in_file}.\n"
                "У этой модели: {here}.\n"
                "Сохраните её под другим именем.",
                path=path, in_file=_described(test_curve), here=_described(curves[1])))
    unfinished = f"{path}.{os.getpid()}.part"
    try:
        with open(unfinished, "wb") as file:
            np.savez_compressed(file, *values, **dict(zip(_CURVES, curves)))
        os.replace(unfinished, path)
    except OSError as error:
        raise WeightsError(_("Веса не сохранены: файл {path} не удалось записать ({reason}). "
                             "Возьмите другое имя или другую папку.",
                             path=path, reason=error.strerror or error)) from None
    finally:
        with suppress(OSError):
            os.remove(unfinished)
    print(_("Веса сохранены в файл {path}: {described}.",
            path=path, described=_described(curves[1])))


def load_weights(path, networks):
    """Load weights that `save_weights` has saved, and describe them in a printed line.

    The learning curves of the networks are replaced by the curves in the file.

    Parameters
    ----------
    path : str or path
        The file. `TRAINED_WEIGHTS` contains the weights of the solved notebook, for its
        ``[encoder_mean, encoder_scale, decoder_logits]``.
    networks : lasagne.layers.Layer or list of them
        Output layers, in the order in which they were saved.

    Raises
    ------
    ValueError
        If the shapes differ, a weight in the file is NaN or infinite, `save_weights` has not
        written the file, or it cannot be read. No weight changes then.
    """
    values, curves = _read(path)
    parameters = get_all_params(networks)
    got = [value.shape for value in values]
    expected = [parameter.get_value(borrow=True).shape for parameter in parameters]
    if got != expected:
        raise WeightsError(_("В файле {path} веса другой сети. Формы в файле: {got}, а у сети: "
                             "{expected}.", path=path, got=got, expected=expected))
    if not _are_finite(values):
        raise WeightsError(_("Веса не загружены: в файле {path} среди них есть nan или "
                             "бесконечность.", path=path))
    for parameter, value in zip(parameters, values):
        parameter.set_value(value.astype(parameter.dtype))
    for curve, loaded in zip(learning_curves(networks), curves):
        curve[:] = loaded
    print(_("Веса загружены из файла {path}: {described}.",
            path=path, described=_described(curves[1])))


def _read(path):
    """Return the weights in a file, a list of arrays, and its two curves, lists of float."""
    try:
        with np.load(path, allow_pickle=False) as file:
            curves = [list(map(float, file[name])) if name in file else [] for name in _CURVES]
            n_values = sum(name not in _CURVES for name in file)
            return [file[f"arr_{number}"] for number in range(n_values)], curves
    except OSError as error:
        raise WeightsError(_("Файл {path} не удалось прочитать: {reason}.",
                             path=path, reason=error.strerror or error)) from None
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, NotImplementedError,
            zipfile.BadZipFile, zlib.error):
        raise WeightsError(_("Файл {path} — не веса, сохранённые save_weights, или он повреждён.",
                             path=path)) from None


def _are_finite(values):
    return all(np.isfinite(value).all() for value in values)


def _equal(arrays, expected):
    return len(arrays) == len(expected) and all(map(np.array_equal, arrays, expected))


def _may_be_better(in_file, here):
    """Return whether the weights in a file may be better than weights in memory.

    Both arguments are test curves.
    """
    if not here:
        return True  # the weights in memory may be untrained
    return bool(in_file) and not in_file[-1] <= here[-1] + _SAME_ELBO  # also true for NaN


def _described(test_curve):
    if not test_curve:
        return _("записей об обучении нет")
    return _("эпох {n}, ELBO на тестовой выборке {elbo:.2f}",
             n=len(test_curve), elbo=test_curve[-1])
