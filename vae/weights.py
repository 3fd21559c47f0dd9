"""Networks' weights in files."""

import os
import zipfile
from pathlib import Path

import numpy as np
from lasagne.layers import get_all_params

from vae.language import _

__all__ = ["save_weights", "load_weights", "TRAINED_WEIGHTS"]

#: The weights of the solved notebook's ``[encoder_mean, encoder_scale, decoder_logits]``.
TRAINED_WEIGHTS = Path(__file__).with_name("trained_weights.npz")


def save_weights(path, networks):
    """Save all weights of one or several networks into a file.

    Parameters
    ----------
    path : str or path
        The file, ``.npz``; an existing one is replaced.
    networks : lasagne.layers.Layer or list of them
        Output layers.
    """
    values = [parameter.get_value(borrow=True) for parameter in get_all_params(networks)]
    unfinished = f"{path}.{os.getpid()}.part"
    try:
        with open(unfinished, "wb") as file:
            np.savez_compressed(file, *values)
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def load_weights(path, networks):
    """Set the weights of networks to those that `save_weights` has saved.

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
        If the shapes differ, or `save_weights` has not written the file; no weight changes then.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            values = [file[f"arr_{number}"] for number in range(len(file.files))]
    except (KeyError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(_("Файл {path} — не веса, сохранённые save_weights: {error}",
                           path=path, error=error)) from None
    parameters = get_all_params(networks)
    got = [value.shape for value in values]
    expected = [parameter.get_value(borrow=True).shape for parameter in parameters]
    if got != expected:
        raise ValueError(_("В файле {path} веса другой сети. Формы в файле: {got}, а у сети: "
                           "{expected}.", path=path, got=got, expected=expected))
    for parameter, value in zip(parameters, values):
        parameter.set_value(value.astype(parameter.dtype))
