"""Other operations without a compiler, on whole arrays.

Theano's Python code computes them number by number or row by row.
"""

from types import SimpleNamespace

import numpy as np
from threadpoolctl import threadpool_limits

from theano_compat.hooks import around_import, replace
from theano_compat.needed.settings import number_of_threads


# --- products ---

@around_import("theano.tensor.elemwise")
def multiply_nonzeros_in_numpy(elemwise):
    """Multiply the elements that are not zero, for the gradient of a product, on whole arrays.

    Theano's Python code makes a ufunc of a Python function, which is called for each number.
    """
    yield

    @replace(elemwise.CAReduce)
    def set_ufunc(self, scalar_op):
        set_ufunc.original(self, scalar_op)
        if type(scalar_op) is elemwise.MulWithoutZeros:
            self.ufunc = SimpleNamespace(reduce=_multiply_nonzeros)


def _multiply_nonzeros(x, axis, dtype):
    return np.multiply.reduce(np.where(x == 0, np.ones((), x.dtype), x), axis, dtype)


@around_import("theano.tensor.elemwise")
def round_extrema_as_c_does(elemwise):
    """Round the maximum and the minimum of 64-bit integers to a float64.

    Theano's C code selects them by an expression that may also be NaN, so it computes in doubles.
    """
    yield
    basic = elemwise.scalar.basic

    @replace(elemwise.CAReduce)
    def perform(self, node, inputs, outputs):
        perform.original(self, node, inputs, outputs)
        dtype = outputs[0][0].dtype
        if (isinstance(self.scalar_op, (basic.Maximum, basic.Minimum)) and self.axis != ()
                and dtype.kind in "iu" and dtype.itemsize == 8):
            with np.errstate(invalid="ignore"):  # out of range, the result is undefined in C
                outputs[0][0] = outputs[0][0].astype("float64").astype(dtype)


@around_import("theano.tensor.blas")
def multiply_matrices_in_numpy(blas):
    """Multiply all matrices of a batch in one call, and limit BLAS to one thread.

    Theano's Python code loops over the batch. BLAS uses as many threads as in compiled code: one,
    unless an environment variable sets another number.
    """
    yield
    if not blas.config.cxx:
        threadpool_limits(number_of_threads(), user_api="blas")
    blas.BatchedDot.perform = _perform_batched_dot


def _perform_batched_dot(self, node, inputs, outputs):
    x, y = inputs
    if x.shape[0] != y.shape[0]:
        raise TypeError(f"Got batches of {x.shape[0]} and {y.shape[0]} products, "
                        "expected equal numbers")
    rows = x[:, None] if x.ndim == 2 else x
    columns = y[:, :, None] if y.ndim == 2 else y
    product = np.matmul(rows, columns)
    outputs[0][0] = product.reshape(*x.shape[:-1], *y.shape[2:])


# --- random numbers ---

@around_import("theano.sandbox.rng_mrg")
def draw_all_streams_at_once(rng_mrg):
    """Advance all streams of a random generator at once.

    Theano's Python code loops over the streams, and converts 4294967295 to int32, which NumPy 2.0
    refuses.
    """
    yield
    rng_mrg.mrg_uniform.perform = _perform_mrg_uniform


#: The moduli of MRG31k3p: L'Ecuyer and Touzin (2000), "Fast combined multiple recursive generators
#: with multipliers of the form a = ±2^q ± 2^r". The computation is the same as in Theano's C code.
_M1, _M2 = 2**31 - 1, 2**31 - 21069


def _subtract_modulus(x, modulus):
    return np.where(x >= modulus, x - modulus, x)


def _advance_mrg(x11, x12, x13, x21, x22, x23):
    """Return the next states. The arguments are int64 arrays with one number for each stream."""
    y = _subtract_modulus(
        ((x12 & 511) << 22) + (x12 >> 9) + ((x13 & 16777215) << 7) + (x13 >> 24), _M1)
    first = _subtract_modulus(y + x13, _M1)
    y = _subtract_modulus(((x21 & 65535) << 15) + 21069 * (x21 >> 16), _M2)
    z = _subtract_modulus(((x23 & 65535) << 15) + 21069 * (x23 >> 16), _M2)
    second = _subtract_modulus(_subtract_modulus(z + x23, _M2) + y, _M2)
    return first, x11, x12, second, x21, x22


def _perform_mrg_uniform(self, node, inputs, outputs, params):
    states, size = inputs
    n = int(np.prod(size, dtype="int64"))
    if n > _M1:
        raise ValueError(f"Got {n} random numbers to draw, expected at most {_M1}")
    dtype = np.dtype(self.output_type.dtype)
    mask, offset, norm = {
        "float16": (0x7fff, 1, 3.0458e-05), "float32": (0xffffffff, 0, 4.6566126e-10),
        "float64": (0xffffffff, 0, 4.656612873077392578125e-10)}[dtype.name]
    # For float16 Theano has no C code, and its Python code rounds only the product.
    product_type = np.float64 if dtype == "float16" else dtype.type
    states = states if self.inplace else states.copy()
    result = np.empty(n, dtype)
    for start in range(0, n, len(states)):
        active_states = states[:n - start]  # a view; the last numbers may not need all streams
        state = _advance_mrg(*active_states.T.astype("int64"))
        active_states[...] = np.transpose(state)
        difference = state[0] - state[3]
        integers = (np.where(difference <= 0, difference + _M1, difference) & mask) + offset
        result[start:start + len(active_states)] = (
            integers.astype(product_type) * product_type(dtype.type(norm)))
    outputs[0][0], outputs[1][0] = states, result.reshape(size)


@around_import("theano.sandbox.multinomial")
def draw_all_rows_at_once(multinomial):
    """Draw from the distributions of all rows at once; Theano's Python code draws row by row."""
    yield
    multinomial.MultinomialFromUniform.perform = _perform_multinomial
    multinomial.ChoiceFromUniform.perform = _perform_choice


def _outcomes(probabilities, uniform):
    """Return, for each row, the first outcome whose cumulative probability exceeds a number.

    Parameters
    ----------
    probabilities : array, shape (rows, outcomes)
    uniform : array, shape (rows,)

    Returns
    -------
    array of int, shape (rows,)
        If no cumulative probability exceeds the number, it is the number of outcomes.
    """
    return (np.cumsum(probabilities, axis=1, dtype="float64") <= uniform[:, None]).sum(axis=1)


def _numbers_by_draw(probabilities, uniform, n_samples):
    """Return uniform numbers as an array of shape (samples, rows)."""
    if len(uniform) != len(probabilities) * n_samples:
        raise ValueError(f"Got {len(uniform)} uniform numbers, expected {n_samples} for each "
                         f"of {len(probabilities)} distributions")
    return uniform.reshape(n_samples, -1)


def _perform_multinomial(self, node, inputs, outputs):
    probabilities, uniform, *n_samples = inputs
    n_samples = int(n_samples[0]) if n_samples else 1
    rows = np.arange(len(probabilities))
    result = np.zeros(probabilities.shape, node.outputs[0].dtype)
    for numbers in _numbers_by_draw(probabilities, uniform, n_samples):
        outcomes = _outcomes(probabilities, numbers)
        is_drawn = outcomes < probabilities.shape[1]
        result[rows[is_drawn], outcomes[is_drawn]] += 1
    outputs[0][0] = result


def _perform_choice(self, node, inputs, outputs):
    probabilities, uniform, n_samples = inputs
    if n_samples > probabilities.shape[1]:
        raise ValueError(f"Got {n_samples} samples to draw without replacement, expected at "
                         f"most {probabilities.shape[1]}, the number of outcomes")
    rows = np.arange(len(probabilities))
    draws = _numbers_by_draw(probabilities, uniform, int(n_samples))
    probabilities = probabilities.copy()
    result = np.full((len(rows), int(n_samples)), -1, node.outputs[0].dtype)
    for k, numbers in enumerate(draws):
        outcomes = _outcomes(probabilities, numbers)
        is_drawn = outcomes < probabilities.shape[1]
        result[is_drawn, k] = outcomes[is_drawn]
        if not self.replace:
            probabilities[rows[is_drawn], outcomes[is_drawn]] = 0
            probabilities[is_drawn] /= probabilities[is_drawn].sum(axis=1, keepdims=True)
    outputs[0][0] = result


# --- softmax and cross-entropy ---

@around_import("theano.tensor.nnet.nnet")
def compute_softmax_in_numpy(nnet):
    """Compute softmax, cross-entropy and their gradients for all rows at once.

    Theano's Python code loops over the rows.
    """
    yield
    nnet.SoftmaxGrad.perform = _perform_softmax_gradient
    nnet.CrossentropySoftmaxArgmax1HotWithBias.perform = _perform_cross_entropy_of_softmax
    nnet.CrossentropySoftmax1HotWithBiasDx.perform = _perform_gradient_of_cross_entropy_of_softmax
    nnet.CrossentropyCategorical1Hot.perform = _perform_cross_entropy
    nnet.CrossentropyCategorical1HotGrad.perform = _perform_cross_entropy_gradient


def _index_of_targets(targets, rows, n_outcomes):
    """Check the targets, and return the index of the elements at the target of each row."""
    if len(targets) != len(rows):
        raise ValueError(f"Got {len(targets)} indices for {len(rows)} rows, expected one each")
    if np.any(targets < 0) or np.any(targets >= n_outcomes):
        raise ValueError(f"Got indices from {np.min(targets)} to {np.max(targets)}, expected "
                         f"0 to {n_outcomes - 1}: y_i value out of bounds")
    return np.arange(len(rows)), targets


def _perform_softmax_gradient(self, node, inputs, outputs):
    gradient, softmax = inputs
    product = gradient * softmax
    outputs[0][0] = np.asarray(product - product.sum(axis=1, keepdims=True) * softmax,
                               softmax.dtype)


def _perform_cross_entropy_of_softmax(self, node, inputs, outputs):
    x, bias, targets = inputs
    if bias.shape[0] != x.shape[1]:
        raise ValueError(f"Got {bias.shape[0]} biases, expected {x.shape[1]}, one a column")
    at_targets = _index_of_targets(targets, x, x.shape[1])
    logits = x + bias
    most_likely = logits.argmax(axis=1) if x.size else np.zeros(len(x), int)
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf if not x.size else None)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1)
    cross_entropy = np.log(total) - shifted[at_targets]
    outputs[0][0] = np.asarray(cross_entropy, node.outputs[0].dtype)
    outputs[1][0] = np.asarray(exponentials / total[:, None], x.dtype)
    outputs[2][0] = np.asarray(most_likely, targets.dtype)


def _perform_gradient_of_cross_entropy_of_softmax(self, node, inputs, outputs):
    gradient, softmax, targets = inputs
    at_targets = _index_of_targets(targets, softmax, softmax.shape[1])
    gradient = np.broadcast_to(np.reshape(gradient, (-1, 1)), (len(softmax), 1))
    result = gradient * softmax
    result[at_targets] -= gradient[:, 0]
    outputs[0][0] = np.asarray(result, softmax.dtype)


def _perform_cross_entropy(self, node, inputs, outputs):
    probabilities, targets = inputs
    at_targets = _index_of_targets(targets, probabilities, probabilities.shape[1])
    outputs[0][0] = -np.log(probabilities[at_targets])


def _perform_cross_entropy_gradient(self, node, inputs, outputs):
    gradient, probabilities, targets = inputs
    at_targets = _index_of_targets(targets, probabilities, probabilities.shape[1])
    result = np.zeros_like(probabilities)
    result[at_targets] = -gradient / probabilities[at_targets]
    outputs[0][0] = result


# --- sparse matrices: CSC stores them by columns, CSR by rows ---

@around_import("theano.sparse.basic")
def scale_sparse_in_numpy(sparse):
    """Compute with all stored numbers of a sparse matrix at once.

    Theano's Python code loops over rows and columns.
    """
    yield
    sparse.ColScaleCSC.perform = _perform_column_scaling
    sparse.RowScaleCSC.perform = _perform_row_scaling
    sparse.CSMGrad.perform = _perform_csm_gradient

    @replace(sparse.MulSD)
    def perform(self, node, inputs, outputs):
        x, y = inputs
        if y.ndim != 2 or x.format not in ("csc", "csr"):
            return perform.original(self, node, inputs, outputs)
        assert x.shape == y.shape
        result = x.astype(node.outputs[0].dtype)  # a copy
        result.data *= y[_rows_and_columns(x.format, x.indices, x.indptr)]
        outputs[0][0] = result

    def gradient_of_product(storage_format, original_perform):
        def perform(self, node, inputs, outputs):
            indices, pointers, b, gradient = inputs
            if not isinstance(b, np.ndarray) or not isinstance(gradient, np.ndarray):
                return original_perform(self, node, inputs, outputs)
            rows, columns = _rows_and_columns(storage_format, indices, pointers)
            outputs[0][0] = np.einsum("ij,ij->i", gradient[rows], b[columns])
        return perform

    for op_class, storage_format in [(sparse.StructuredDotGradCSC, "csc"),
                                     (sparse.StructuredDotGradCSR, "csr")]:
        op_class.perform = gradient_of_product(storage_format, op_class.perform)


def _major_indices(pointers):
    """Return the rows of the stored numbers of a CSR matrix, or their columns in a CSC matrix."""
    return np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))


def _rows_and_columns(storage_format, indices, pointers):
    major_indices = _major_indices(pointers)
    return (indices, major_indices) if storage_format == "csc" else (major_indices, indices)


def _perform_column_scaling(self, node, inputs, outputs):
    x, factors = inputs
    assert x.format == "csc"
    result = x.copy()
    result.data *= np.repeat(factors, np.diff(result.indptr))
    outputs[0][0] = result


def _perform_row_scaling(self, node, inputs, outputs):
    x, factors = inputs
    assert x.format == "csc"
    result = x.copy()
    result.data *= factors[result.indices]
    outputs[0][0] = result


def _perform_csm_gradient(self, node, inputs, outputs):
    from scipy.sparse import csr_matrix

    data, indices, pointers, shape, g_data, g_indices, g_pointers, _ = inputs
    is_csr = len(pointers) - 1 == shape[0]
    # A CSC matrix is treated as the CSR matrix that is its transpose.
    shape = (len(pointers) - 1, shape[1] if is_csr else shape[0])
    gradient = csr_matrix((g_data, g_indices, g_pointers), shape)
    result = np.asarray(gradient[_major_indices(pointers), indices])
    outputs[0][0] = result.reshape(data.shape).astype(node.outputs[0].dtype)


# --- products of blocks ---

@around_import("theano.tensor.nnet.blocksparse")
def multiply_blocks_in_numpy(blocksparse):
    """Multiply the blocks of all rows at once; Theano's Python code loops over blocks."""
    yield
    blocksparse.SparseBlockGemv.perform = _perform_block_gemv
    blocksparse.SparseBlockOuter.perform = _perform_block_outer


def _perform_block_gemv(self, node, inputs, outputs):
    o, W, h, h_index, o_index = inputs[:5]
    blocks = W[h_index[:, :, None], o_index[:, None]]
    outputs[0][0] = o + np.einsum("bin,bijnm->bjm", h, blocks, optimize=True)


def _perform_block_outer(self, node, inputs, outputs):
    o, x, y, x_index, y_index = inputs[:5]
    result = o if self.inplace else o.copy()
    np.add.at(result, (x_index[:, :, None], y_index[:, None]),
              np.einsum("bin,bjm->bijnm", x, y))
    outputs[0][0] = result
