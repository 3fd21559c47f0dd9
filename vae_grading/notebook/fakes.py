"""Fakes that replace slow functions in a student's process. They do not affect the exercises.

Training
    A function with updates returns zeros and is never compiled. Other functions are compiled when
    they are first called.
Pictures
    Nothing is drawn.
Downloads
    A few images replace the data set.
Waiting
    ``time.sleep`` returns at once.
"""

import time
from types import FunctionType

import matplotlib.pylab
import matplotlib.pyplot
import numpy as np
import theano

import vae

__all__ = ["Shell", "StatementInterrupted", "install", "keep_language", "use_few_images"]

_MAX_TRAINING_CALLS = 10000  # otherwise a loop that waits for the model to learn would never end


class StatementInterrupted(BaseException):
    """A statement is interrupted, because it would not end."""


class Shell:
    """A fake of IPython's shell. Only magics that run Python have an effect.

    Parameters
    ----------
    names : dict
        The notebook's namespace.
    """

    def __init__(self, names):
        self.user_ns = self.user_global_ns = names

    def push(self, variables, *args, **kwargs):
        """Add variables, a dict, to the notebook's namespace."""
        self.user_ns.update(variables)

    def run_cell(self, source, *args, **kwargs):
        """Run Python code in the notebook's namespace."""
        exec(source, self.user_ns)

    ex = run_cell

    def run_line_magic(self, name, line, *args, **kwargs):
        """Run the file of a ``%run`` magic; ignore other magics."""
        if name == "run":
            with open(line.split()[0]) as file:
                self.run_cell(file.read())

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


class _Nothing:
    """A fake of a picture or a part of it. All operations on it succeed and have no effect."""

    def __call__(self, *args, **kwargs):
        return self

    __getitem__ = __enter__ = __call__

    def __getattr__(self, name):
        if name.startswith("__"):  # NumPy, for example, looks for protocols
            raise AttributeError(name)
        return self

    def __setitem__(self, key, value):
        pass

    def __exit__(self, *args):
        pass

    def __iter__(self):
        return iter([self, self])


class _Function:
    """A Theano function that is compiled at its first call, or never if it has updates."""

    _compile = staticmethod(theano.function)

    def __init__(self, inputs, outputs=None, mode=None, updates=None, *args, **kwargs):
        self._arguments = [inputs, outputs, mode, updates, *args], kwargs
        self._outputs, self._trains, self._n_calls = outputs, bool(updates), 0
        self._compiled = None

    def __call__(self, *args, **kwargs):
        if not self._trains:
            return self._get()(*args, **kwargs)
        self._n_calls += 1
        if self._n_calls > _MAX_TRAINING_CALLS:
            raise StatementInterrupted
        zeros = [np.zeros([1] * variable.ndim, variable.dtype) for variable in self._variables()]
        if isinstance(self._outputs, (list, tuple)) or not zeros:
            return zeros
        return zeros[0]

    def _variables(self):
        outputs = self._outputs
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [getattr(output, "variable", output) for output in outputs if output is not None]

    def _get(self):
        if self._compiled is None:
            positional, named = self._arguments
            self._compiled = self._compile(*positional, **named)
        return self._compiled

    def __getattr__(self, name):
        return getattr(self._get(), name)


def use_few_images(images):
    """Make `load_dataset` return a few of these images.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, 1, 28, 28)
        At least 300 images.
    """
    import utils  # the copy of our utils.py in the worker's folder; only a worker runs this

    labels = np.arange(100, dtype=np.uint8) % 10
    few = tuple(part for start in (0, 100, 200) for part in (images[start:start + 100], labels))
    utils.load_dataset = vae.mnist.load_dataset = lambda *args, **kwargs: few


def keep_language():
    """Keep hints in the grader's language, even if the notebook chooses another language."""
    vae.use_language(vae.language.language())
    vae.use_language = vae.language.use_language = lambda name: None


def install():
    """Replace the functions for pictures, weights, training and waiting in this process."""
    import utils  # the copy of our utils.py, see `use_few_images`

    nothing = _Nothing()
    for name in ["plot_model", "TrainingPicture", "plot_learning_curve", "plot_reconstructions",
                 "plot_hidden_space", "plot_manifold", "explore_manifold", "plot_samples",
                 "save_weights", "load_weights"]:
        setattr(utils, name, nothing)
    for module in (matplotlib.pyplot, matplotlib.pylab):
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__module__ == "matplotlib.pyplot":
                setattr(module, name, nothing)
    theano.function = theano.compile.function = _Function
    time.sleep = lambda seconds: None
    for setting in theano.configparser._config_var_list:
        if setting.fullname == "compute_test_value":  # it would compile each operation separately
            setting.filter = lambda value: "off"
