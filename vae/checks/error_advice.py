"""Advice for errors that students' code raises in Theano, Lasagne and NumPy."""

import difflib
import os
import re
import traceback
from pathlib import Path
from types import ModuleType

import lasagne
import numpy as np
import theano
import theano.tensor as T

import theano_compat
import vae
from vae.checks.signatures import signature_of
from vae.distributions import as_tensor
from vae.language import _

__all__ = ["advice_on", "cell_line", "first_line"]

#: Modules that are searched for names similar to a name that does not exist. The keys are the
#: modules' names in the notebook.
_MODULES = {"T": T, "T.nnet": T.nnet, "lasagne.nonlinearities": lasagne.nonlinearities,
            "lasagne.layers": lasagne.layers, "lasagne.init": lasagne.init,
            "lasagne.objectives": lasagne.objectives, "lasagne.updates": lasagne.updates}
_MAX_NEAR_NAMES = 3
#: The folders of the libraries that students call. The folder of the checks does not count.
_LIBRARIES = tuple(str(Path(module.__file__).parent) + os.sep
                   for module in (theano, theano_compat, lasagne, vae))
_CHECKS = str(Path(__file__).parent) + os.sep
_NUMPY = str(Path(np.__file__).parent) + os.sep
#: Messages of NumPy about symbolic tensors, if its compiled code raises them.
_OF_NUMPY = re.compile("TensorVariable|zero-dimensional arrays|array element|boolean operations")
_NOISE = re.compile(r"rand|normal|gauss|noise", re.I)
_ATTRIBUTES_OF_LAYERS = {"output_shape", "input_layer", "get_params", "get_output_for"}


def first_line(error):
    """Return the first line of an error's message, without the names of files.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str
        Empty if the error has no message.
    """
    if isinstance(error, SyntaxError):
        return str(error.msg or "")
    line = next(iter(str(error).strip().splitlines()), "")
    line = re.sub(r" Use the Theano flag .*|^Backtrace when that variable .*", "", line)
    if isinstance(error, ImportError):
        line = re.sub(r" \([^()]*[/\\][^()]*\)$", "", line)
    return line


def cell_line(error):
    """Return the line of the student's cell at which an error was raised.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    number : int
        Number of the line, from 1; 0 if no cell was running.
    text : str
        Code of the line.
    """
    if isinstance(error, SyntaxError) and _is_cell(error.filename or ""):
        return error.lineno or 0, (error.text or "").strip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if _is_cell(frame.filename)]
    # The innermost line of the cell that was running. That cell may call functions of other cells.
    lines = [(frame.lineno, frame.line) for frame in frames if frame.filename == frames[0].filename]
    return lines[-1] if lines else (0, "")


def _is_cell(filename):
    return "ipykernel" in filename or filename.startswith("<ipython")


def advice_on(error):
    """Return advice for the student on an error.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str
        A text in the reader's language; "" if there is no advice on this error.
    """
    return next(filter(None, (advise(error) for advise in _ADVICE)), "")


# --- graphs ---

def _on_missing_values(error):
    if not isinstance(error, theano.gof.MissingInputError):
        return None
    if cell_line(error)[0]:
        return _("У символьных переменных ещё нет значений: в этих упражнениях строят граф, "
                 "вычислять его (.eval(), theano.function) не нужно.")
    return _("Граф зависит не только от input_x. Если ячейки выполнялись не подряд, выполните ещё "
             "раз ячейку, которая определяет input_x, и все ячейки после неё.")


def _on_gradient(error):
    if isinstance(error, theano.gradient.DisconnectedInputError):
        return _("Градиент до параметров не доходит: все ли слагаемые на месте, не останавливает ли "
                 "его какая-нибудь операция?")
    return None


# --- missing values and names ---

def _on_placeholders(error):
    if isinstance(error, (AttributeError, TypeError)) and re.search(
            "NoneType|ellipsis", str(error)) or "can't both be None" in str(error):
        return _("Одно из значений здесь — None или многоточие: всё ли в ячейках упражнений "
                 "заменено решением, не забыт ли return?")
    return None


def _on_names(error):
    """Suggest existing names that are similar to a name that does not exist."""
    if isinstance(error, AttributeError) and error.name:
        return _on_attribute(error.name, error.obj)
    if isinstance(error, NameError) and error.name:
        return _near_advice(error.name, [*_names_in_scope(error), *_paths()])
    if isinstance(error, ImportError):
        match = re.search(r"cannot import name '(\w+)' from '[\w.]+'", str(error))
        return _near_advice(match[1], _paths()) if match else None
    return None


def _on_attribute(name, owner):
    if isinstance(owner, theano.Variable) and name in _ATTRIBUTES_OF_LAYERS:
        return _("Здесь нужен слой Lasagne, а передан тензор.")
    if isinstance(owner, lasagne.layers.Layer):
        return _("Это слой Lasagne, а не тензор. Тензор на его выходе даёт "
                 "lasagne.layers.get_output(слой).")
    if isinstance(owner, ModuleType):
        return _near_advice(name, _paths())
    if callable(owner):
        return _missing_parentheses()
    own_names = [own for own in dir(owner) if not own.startswith("_")]
    near = _near_advice(name, own_names + (_paths() if isinstance(owner, theano.Variable) else []))
    if near is None and 0 < len(own_names) <= 10:
        return _("Имена, которые у этого объекта есть: {names}.", names=", ".join(own_names))
    return near


def _paths():
    """Return the public names of `_MODULES`, as the notebook writes them."""
    paths = {}
    for path, module in _MODULES.items():
        for name, value in vars(module).items():
            if not name.startswith("_") and callable(value):
                paths.setdefault((name, id(value)), f"{path}.{name}")  # modules import each other
    return list(paths.values())


def _names_in_scope(error):
    """Return the names that the line of an error can use, including the attributes of `self`."""
    frame = _innermost(error)
    if frame is None:
        return []
    attributes = vars(frame.f_locals["self"]) if hasattr(
        frame.f_locals.get("self"), "__dict__") else []
    own = [f"self.{name}" for name in attributes]
    return own + [name for name in {**frame.f_globals, **frame.f_locals}
                  if not name.startswith("_")]


def _near_advice(name, paths):
    near = _near(name, paths)
    if near:
        return _("Похожие имена, которые есть: {names}.", names=", ".join(near))
    if _NOISE.search(name):
        return _("Шум даёт self.rng.normal(self.loc.shape).")
    return None


def _near(name, paths):
    """Return the paths whose last part is similar to a name, the most similar path first."""
    likeness = {}
    for path in dict.fromkeys(paths):
        last = path.rpartition(".")[2]
        ratio = difflib.SequenceMatcher(None, name.lower(), last.lower()).ratio()
        if last == name:
            ratio = 2
        elif len(name) > 3 and last.lower().startswith(name.lower()):
            ratio = max(ratio, 0.9)  # suggest DenseLayer for Dense
        likeness[path] = ratio
    best = max(likeness.values(), default=0)
    least = best if best >= 1 else max(0.7, best - 0.1)
    near = [path for path in likeness if likeness[path] >= least]
    return sorted(near, key=likeness.get, reverse=True)[:_MAX_NEAR_NAMES]


# --- calls ---

def _on_noise(error):
    if re.search(r"\bnormal\(\) missing .*'size'|name 'size' is not|to be a valid size|"
                 "Size must be", str(error)):
        return _("Методу нужна форма шума: self.rng.normal(self.loc.shape). Символьная форма, "
                 "как здесь, годится.")
    return None


def _on_numpy(error):
    if not isinstance(error, (TypeError, ValueError)):
        return None
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    n_files = len(files)
    while files and files[-1].startswith((_NUMPY, "numpy")):
        files.pop()
    was_called_by_student = len(files) < n_files and not (files and _is_of_library(files[-1]))
    call = re.search(r"\b(?:np|numpy)\.([\w.]+)\(", cell_line(error)[1])
    name = call[1] if call else ""
    if not (was_called_by_student or name.endswith("_like")
            or name and _OF_NUMPY.search(str(error))):
        return None
    if name.startswith("random."):
        advice = _("Случайные числа NumPy выбираются один раз, при построении графа: шум даёт "
                   "self.rng.normal(self.loc.shape).")
    elif name and hasattr(T, name):
        advice = _("Возьмите T.{name} вместо np.{name}.", name=name)
    else:
        advice = _("Возьмите функции Theano: T.mean, T.sum, T.zeros_like и другие.")
    return _("Функции NumPy не умеют вычислять символьные тензоры.") + " " + advice


def _on_wrong_arguments(error):
    if not isinstance(error, TypeError):
        return None
    if "'str' object is not callable" in str(error):
        return _("Передавайте саму функцию активации, а не её название в кавычках: "
                 "lasagne.nonlinearities.rectify, T.tanh и другие.")
    if "object is not callable" in str(error):
        return _("Вызвано то, что не функция: не лишние ли скобки?")
    if re.search(r"unsupported operand .*'(method|function|type|builtin_function_or_method)'|"
                 "Cannot convert <(bound method|function|class)|"
                 "non-iterable (method|function|type) object", str(error)):
        return _missing_parentheses()
    if re.search("Wrong number of inputs .*got 0", str(error)):
        return _("Функцию активации передают без скобок: она будет вызвана позже.")
    match = re.match(r"([\w.<>]+)\(\) (got (an )?unexpected keyword|missing|takes|got multiple)",
                     str(error))
    if not match:
        return None
    function, names = _parameters_of_the_call(error, match[1])
    if not names:
        return _("Проверьте имена и число аргументов.")
    return _("Аргументы, которые есть у {function}: {names}.",
             function=function, names=", ".join(names))


def _missing_parentheses():
    return _("Не забыты ли скобки после имени функции, метода или класса?")


def _parameters_of_the_call(error, name):
    """Return the function that the student has called with wrong arguments, and its parameters."""
    frames = [frame for frame, _line in traceback.walk_tb(error.__traceback__)]
    entered = []  # the frames in the library that the student's code has called
    while frames and _is_of_library(frames[-1].f_code.co_filename):
        entered.insert(0, frames.pop())
    if entered:  # the library has passed the arguments on to the function named in the message
        code, owner = entered[0].f_code, entered[0].f_locals.get("self")
        name = type(owner).__name__ if code.co_name == "__init__" else code.co_name
        return name, [own for own in code.co_varnames[:code.co_argcount] if own != "self"]
    name, _dot, method = name.partition(".")
    scopes = [frame.f_globals for frame in reversed(frames)] + [*map(vars, _MODULES.values())]
    found = next((scope[name] for scope in scopes if callable(scope.get(name))), None)
    if method not in ("", "__init__"):
        found = getattr(found, method, None)
    if found is None:
        return name, []
    return found.__name__, [own for own in signature_of(found).parameters
                            if own not in ("self", "args", "kwargs")]


def _on_layers_and_tensors(error):
    text = str(error)
    if not isinstance(error, (TypeError, ValueError, AttributeError)):
        return None
    if isinstance(_local(error, "input"), np.ndarray):
        return _("На вход сети передан массив NumPy, а нужна символьная переменная: input_x.")
    if re.search(r"<lasagne\.layers\.\S+ object|unsupported operand .*Layer'", text):
        return _("Здесь нужен тензор, а передан слой Lasagne. Тензор на его выходе даёт "
                 "lasagne.layers.get_output(слой).")
    if re.search("boolean operations|not support iteration|length not known|must be a string or a "
                 "real number, not 'TensorVariable'|interpreted as an integer", text) \
            or "has no len" in text and not _is_raised_in_a_library(error):
        return _("Чему равен символьный тензор, неизвестно, пока граф не вычислен: if, and, for, "
                 "len, float и встроенная sum с ним не работают. Есть T.switch, T.sum, "
                 "тензор.shape.")
    if "BitOp" in text:
        return _("Степень в Python обозначает **, а не ^.")
    if "cost must be a scalar" in text:
        return _("loss должна быть символьным числом (скаляром): усредните по батчу.")
    return None


def _on_shapes(error):
    """Advise on any other error of Theano, Lasagne or NumPy: wrong shapes are the usual cause."""
    if not isinstance(error, (TypeError, ValueError)):
        return None
    frame = _innermost(error)
    if _is_raised_in_a_library(error) and frame.f_code is not as_tensor.__code__:
        return _("Проверьте порядок аргументов, формы и типы всех тензоров.")
    return None


def _is_raised_in_a_library(error):
    frame = _innermost(error)
    return frame is not None and (_is_of_library(frame.f_code.co_filename)
                                  or frame.f_code.co_filename.startswith((_NUMPY, "numpy")))


def _is_of_library(filename):
    return filename.startswith(_LIBRARIES) and not filename.startswith(_CHECKS)


def _innermost(error):
    """Return the innermost frame of an error, or None if the error has not been raised."""
    frames = [frame for frame, _line in traceback.walk_tb(error.__traceback__)]
    return frames[-1] if frames else None


def _local(error, name):
    frame = _innermost(error)
    return frame.f_locals.get(name) if frame is not None else None


_ADVICE = [_on_missing_values, _on_gradient, _on_placeholders, _on_noise, _on_numpy, _on_names,
           _on_layers_and_tensors, _on_wrong_arguments, _on_shapes]
