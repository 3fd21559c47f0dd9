"""Operations that Theano's Python computes number by number or row by row: on whole arrays.

Their C code does not need this.  Where there is no compiler, there is only
their Python.
"""

import os
from types import SimpleNamespace

import numpy as np
from threadpoolctl import threadpool_limits

from theano_compat.hooks import around_import, replace


# --- products ---

@around_import("theano.tensor.elemwise")
def multiply_nonzeros_in_numpy(elemwise):
    """Multiply what is not zero, in the gradient of a product, whole arrays at a time."""
    yield

    def reduce(x, axis, dtype):
        return np.multiply.reduce(np.where(x == 0, np.ones((), x.dtype), x), axis, dtype)

    @replace(elemwise.CAReduce)
    def set_ufunc(self, scalar_op):
        set_ufunc.original(self, scalar_op)
        if type(scalar_op) is elemwise.MulWithoutZeros:
            self.ufunc = SimpleNamespace(reduce=reduce)


@around_import("theano.tensor.blas")
def multiply_matrices_in_numpy(blas):
    """Multiply batches of matrices at once; and on one thread, as compiled code does."""
    yield
    if not blas.config.cxx and not {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"} & set(os.environ):
        threadpool_limits(1, user_api="blas")

    def perform(self, node, inputs, outputs):
        x, y = inputs
        if x.shape[0] != y.shape[0]:
            raise TypeError(f"Got batches of {x.shape[0]} and {y.shape[0]} products, "
                            "expected equal numbers")
        rows = x[:, None] if x.ndim == 2 else x
        columns = y[:, :, None] if y.ndim == 2 else y
        product = np.matmul(rows, columns)
        outputs[0][0] = product.reshape(*x.shape[:-1], *y.shape[2:])

    blas.BatchedDot.perform = perform


# --- random numbers ---

@around_import("theano.sandbox.rng_mrg")
def draw_all_streams_at_once(rng_mrg):
    """Advance all streams of a random generator at once.

    MRG31k3p of L'Ecuyer and Touzin (2000), "Fast combined multiple recursive
    generators with multipliers of the form a = ±2^q ± 2^r", as Theano's C has it.
    """
    yield
    M1, M2 = int(rng_mrg.M1), int(rng_mrg.M2)

    def modulo(x, modulus):
        return np.where(x >= modulus, x - modulus, x)

    def advance(x11, x12, x13, x21, x22, x23):
        y = modulo(((x12 & 511) << 22) + (x12 >> 9) + ((x13 & 16777215) << 7) + (x13 >> 24), M1)
        first = modulo(y + x13, M1)
        y = modulo(((x21 & 65535) << 15) + 21069 * (x21 >> 16), M2)
        z = modulo(((x23 & 65535) << 15) + 21069 * (x23 >> 16), M2)
        second = modulo(modulo(z + x23, M2) + y, M2)
        return first, x11, x12, second, x21, x22

    def perform(self, node, inputs, outputs, params):
        states, size = inputs
        n = int(np.prod(size, dtype="int64"))
        if n > M1:
            raise ValueError(f"Got {n} random numbers to draw, expected at most {M1}")
        dtype = np.dtype(self.output_type.dtype)
        mask, offset, norm = {
            "float16": (0x7fff, 1, 3.0458e-05), "float32": (0xffffffff, 0, 4.6566126e-10),
            "float64": (0xffffffff, 0, 4.656612873077392578125e-10)}[dtype.name]
        states = states if self.inplace else states.copy()
        result = np.empty(n, dtype)
        for start in range(0, n, len(states)):
            part = states[:n - start]
            state = advance(*part.T.astype("int64"))
            part[...] = np.transpose(state)
            difference = state[0] - state[3]
            whole = (np.where(difference <= 0, difference + M1, difference) & mask) + offset
            result[start:start + len(part)] = whole.astype(dtype) * dtype.type(norm)
        outputs[0][0], outputs[1][0] = states, result.reshape(size)

    rng_mrg.mrg_uniform.perform = perform


@around_import("theano.sandbox.multinomial")
def draw_all_rows_at_once(multinomial):
    """Draw from all rows' distributions at once."""
    yield

    def chosen(probabilities, uniform):
        """The first outcome in each row at which the sum exceeds a number, or their number."""
        return (np.cumsum(probabilities, axis=1, dtype="float64") <= uniform[:, None]).sum(axis=1)

    def check(probabilities, uniform, n_samples):
        if len(uniform) != len(probabilities) * n_samples:
            raise ValueError(f"Got {len(uniform)} uniform numbers, expected {n_samples} for each "
                             f"of {len(probabilities)} distributions")
        return np.arange(len(probabilities)), uniform.reshape(n_samples, -1)

    def multinomial_perform(self, node, inputs, outputs):
        probabilities, uniform, *n_samples = inputs
        rows, draws = check(probabilities, uniform, int(*n_samples) if n_samples else 1)
        result = np.zeros(probabilities.shape, node.outputs[0].dtype)
        for draw in draws:
            outcome = chosen(probabilities, draw)
            some = outcome < probabilities.shape[1]
            result[rows[some], outcome[some]] += 1
        outputs[0][0] = result

    def choice_perform(self, node, inputs, outputs):
        probabilities, uniform, n_samples = inputs
        if n_samples > probabilities.shape[1]:
            raise ValueError(f"Got {n_samples} samples to draw without replacement, expected at "
                             f"most {probabilities.shape[1]}, the number of outcomes")
        rows, draws = check(probabilities, uniform, int(n_samples))
        probabilities = probabilities.copy()
        result = np.full((len(rows), int(n_samples)), -1, node.outputs[0].dtype)
        for k, draw in enumerate(draws):
            outcome = chosen(probabilities, draw)
            some = outcome < probabilities.shape[1]
            result[some, k] = outcome[some]
            if not self.replace:
                probabilities[rows[some], outcome[some]] = 0
                probabilities[some] /= probabilities[some].sum(axis=1, keepdims=True)
        outputs[0][0] = result

    multinomial.MultinomialFromUniform.perform = multinomial_perform
    multinomial.ChoiceFromUniform.perform = choice_perform


# --- softmax and cross-entropy ---

@around_import("theano.tensor.nnet.nnet")
def compute_softmax_in_numpy(nnet):
    """Compute softmax, cross-entropy and their gradients for all rows at once."""
    yield

    def check(indices, rows, n_outcomes):
        if len(indices) != len(rows):
            raise ValueError(f"Got {len(indices)} indices for {len(rows)} rows, expected one each")
        if np.any(indices < 0) or np.any(indices >= n_outcomes):
            raise ValueError(f"Got indices from {np.min(indices)} to {np.max(indices)}, expected "
                             f"0 to {n_outcomes - 1}: y_i value out of bounds")
        return np.arange(len(rows)), indices

    def softmax_gradient(self, node, inputs, outputs):
        gradient, softmax = inputs
        product = gradient * softmax
        outputs[0][0] = np.asarray(product - product.sum(axis=1, keepdims=True) * softmax,
                                   softmax.dtype)

    def cross_entropy(self, node, inputs, outputs):
        x, bias, target = inputs
        if bias.shape[0] != x.shape[1]:
            raise ValueError(f"Got {bias.shape[0]} biases, expected {x.shape[1]}, one a column")
        places = check(target, x, x.shape[1])
        rows = x + bias
        most_likely = rows.argmax(axis=1) if x.size else np.zeros(len(x), int)
        shifted = rows - rows.max(axis=1, keepdims=True, initial=-np.inf if not x.size else None)
        exponents = np.exp(shifted)
        total = exponents.sum(axis=1)
        likelihood = np.log(total) - shifted[places]
        outputs[0][0] = np.asarray(likelihood, node.outputs[0].dtype)
        outputs[1][0] = np.asarray(exponents / total[:, None], x.dtype)
        outputs[2][0] = np.asarray(most_likely, target.dtype)

    def cross_entropy_gradient(self, node, inputs, outputs):
        gradient, softmax, target = inputs
        places = check(target, softmax, softmax.shape[1])
        gradient = np.broadcast_to(np.reshape(gradient, (-1, 1)), (len(softmax), 1))
        result = gradient * softmax
        result[places] -= gradient[:, 0]
        outputs[0][0] = np.asarray(result, softmax.dtype)

    def categorical(self, node, inputs, outputs):
        coding, target = inputs
        outputs[0][0] = -np.log(coding[check(target, coding, coding.shape[1])])

    def categorical_gradient(self, node, inputs, outputs):
        gradient, coding, target = inputs
        places = check(target, coding, coding.shape[1])
        result = np.zeros_like(coding)
        result[places] = -gradient / coding[places]
        outputs[0][0] = result

    nnet.SoftmaxGrad.perform = softmax_gradient
    nnet.CrossentropySoftmaxArgmax1HotWithBias.perform = cross_entropy
    nnet.CrossentropySoftmax1HotWithBiasDx.perform = cross_entropy_gradient
    nnet.CrossentropyCategorical1Hot.perform = categorical
    nnet.CrossentropyCategorical1HotGrad.perform = categorical_gradient


# --- sparse matrices ---

@around_import("theano.sparse.basic")
def scale_sparse_in_numpy(sparse):
    """Compute with all numbers of a sparse matrix at once."""
    yield

    def rows_of(pointers):
        """For each number the row that it is in, or the column of a matrix by columns."""
        return np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))

    def places(x):
        major = rows_of(x.indptr)
        return (x.indices, major) if x.format == "csc" else (major, x.indices)

    def scaled(factors_of):
        def perform(self, node, inputs, outputs):
            x, s = inputs
            assert x.format == "csc"
            result = x.copy()
            result.data *= factors_of(result, s)
            outputs[0][0] = result
        return perform

    @replace(sparse.MulSD)
    def perform(self, node, inputs, outputs):
        x, y = inputs
        if y.ndim != 2 or x.format not in ("csc", "csr"):
            return perform.original(self, node, inputs, outputs)
        assert x.shape == y.shape
        result = x.astype(node.outputs[0].dtype)  # a copy
        result.data *= y[places(x)]
        outputs[0][0] = result

    def gradient_of_product(by_columns, original_perform):
        def perform(self, node, inputs, outputs):
            indices, pointers, b, gradient = inputs
            if not isinstance(b, np.ndarray) or not isinstance(gradient, np.ndarray):
                return original_perform(self, node, inputs, outputs)
            major = rows_of(pointers)
            rows, columns = (indices, major) if by_columns else (major, indices)
            outputs[0][0] = np.einsum("ij,ij->i", gradient[rows], b[columns])
        return perform

    def gradient_of_sparse(self, node, inputs, outputs):
        from scipy.sparse import csr_matrix
        data, indices, pointers, shape, g_data, g_indices, g_pointers, _ = inputs
        by_rows = len(pointers) - 1 == shape[0]
        shape = (len(pointers) - 1, shape[1] if by_rows else shape[0])
        gradient = csr_matrix((g_data, g_indices, g_pointers), shape)
        result = np.asarray(gradient[rows_of(pointers), indices])
        outputs[0][0] = result.reshape(data.shape).astype(node.outputs[0].dtype)

    sparse.ColScaleCSC.perform = scaled(lambda x, s: np.repeat(s, np.diff(x.indptr)))
    sparse.RowScaleCSC.perform = scaled(lambda x, s: s[x.indices])
    for operation, by_columns in [(sparse.StructuredDotGradCSC, True),
                                  (sparse.StructuredDotGradCSR, False)]:
        operation.perform = gradient_of_product(by_columns, operation.perform)
    sparse.CSMGrad.perform = gradient_of_sparse


@around_import("theano.tensor.nnet.blocksparse")
def multiply_blocks_in_numpy(blocksparse):
    """Multiply the blocks of all rows at once."""
    yield

    def gemv(self, node, inputs, outputs):
        o, W, h, h_index, o_index = inputs[:5]
        blocks = W[h_index[:, :, None], o_index[:, None]]
        outputs[0][0] = o + np.einsum("bin,bijnm->bjm", h, blocks, optimize=True)

    def outer(self, node, inputs, outputs):
        o, x, y, x_index, y_index = inputs[:5]
        result = o if self.inplace else o.copy()
        np.add.at(result, (x_index[:, :, None], y_index[:, None]),
                  np.einsum("bin,bjm->bijnm", x, y))
        outputs[0][0] = result

    blocksparse.SparseBlockGemv.perform = gemv
    blocksparse.SparseBlockOuter.perform = outer
