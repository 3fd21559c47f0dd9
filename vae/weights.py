"""Networks' weights in files, and the curves of the training that led to them."""

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
#: Nats by which the test ELBO of one model differs between two epochs, or two trainings.
_SAME_ELBO = 1.
_CURVES = ("train_curve", "test_curve")

_curves_of = WeakKeyDictionary()  # by parameter


class WeightsError(Mistake, ValueError):
    """Weights were neither saved nor loaded. Jupyter shows this without a traceback."""


def learning_curves(networks):
    """Return the learning curves of networks, lists to which training appends.

    They belong to the weights: the same networks have the same lists, and networks with a new part
    have new, empty ones. `save_weights` saves the curves too, and `load_weights` loads them.

    Parameters
    ----------
    networks : lasagne.layers.Layer or list of them
        Output layers.

    Returns
    -------
    train_curve, test_curve : list of float
        Mean ELBO of the images after each epoch, in nats.
    """
    parameters = get_all_params(networks)
    known = [_curves_of.get(parameter) for parameter in parameters]
    curves = known[0] if known else None
    if curves is None or any(others is not curves for others in known):
        curves = [], []
        _curves_of.update((parameter, curves) for parameter in parameters)
    return curves


def save_weights(path, networks):
    """Save all weights of one or several networks into a file, and print what it holds.

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
        If a weight is NaN or infinite, if the file cannot be written, if it holds something other
        than weights, or if it holds a model that may be better: its test ELBO is higher, or these
        networks have no curves. The file stays as it is.
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
    """Set the weights of networks to those that `save_weights` has saved; print what they are.

    The networks' `learning_curves` become those of the file.

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
        If the shapes differ, a weight in the file is NaN or infinite, `save_weights` has not
        written the file, or it cannot be read; no weight changes then.
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
    """Return the weights in a file, a list of arrays, and its curves, lists of float."""
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


def _equal(some, others):
    return len(some) == len(others) and all(map(np.array_equal, some, others))


def _may_be_better(in_file, here):
    """Whether weights in a file may be better than others, by the test curves of both."""
    if not here:
        return True  # these may be untrained
    return bool(in_file) and not in_file[-1] <= here[-1] + _SAME_ELBO  # one may be NaN


def _described(test_curve):
    if not test_curve:
        return _("записей об обучении нет")
    return _("эпох {n}, ELBO на тестовой выборке {elbo:.2f}",
             n=len(test_curve), elbo=test_curve[-1])
