/* All of an elementwise operation except the computation itself: checks shapes, allocates outputs,
   and calls a kernel, which computes contiguous arrays only.  Other arrays go through small
   buffers. */
#ifndef ELEMENTWISE_H
#define ELEMENTWISE_H

#include <Python.h>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <numpy/arrayobject.h>

#include "vector_math.h"

namespace elementwise {

/* Computes n elements of arrays that are contiguous there, and one element of scalars. */
typedef void (*Kernel)(npy_intp n, char *const *data);

enum { MAX_DIMS = 32, CHUNK = 256, ITEM = 16 };

struct Operand {
    char *data;
    npy_intp strides[MAX_DIMS];
    npy_intp size;    /* of an element, in bytes */
    npy_intp lowest, highest; /* offsets of its elements from data, in bytes */
    bool scalar, output;
};

struct Operation {
    Kernel kernel;
    int n_inputs, n_outputs, n_dims;
    const int *types;       /* of the outputs, as NumPy's type numbers */
    const int *inplace;     /* for each output, the input that it overwrites, or -1 */
    const char *broadcast;  /* for each input and dimension */
    bool flush_to_zero;
};

static inline bool is_broadcast(const Operation &op, int input, int dim)
{
    return op.broadcast[input * op.n_dims + dim];
}

static inline bool is_scalar(const Operation &op, int input)
{
    for (int dim = 0; dim < op.n_dims; dim++)
        if (!is_broadcast(op, input, dim))
            return false;
    return true;
}

static int find_shape(const Operation &op, PyArrayObject *const *inputs, npy_intp *shape)
{
    for (int dim = 0; dim < op.n_dims; dim++) {
        int first = -1;
        shape[dim] = 1;
        for (int input = 0; input < op.n_inputs; input++) {
            if (is_broadcast(op, input, dim))
                continue;
            npy_intp n = PyArray_DIMS(inputs[input])[dim];
            if (first < 0) {
                first = input;
                shape[dim] = n;
            } else if (n != shape[dim]) {
                PyErr_Format(PyExc_ValueError,
                             "Input dimension mis-match. (input[%i].shape[%i] = %lld, "
                             "input[%i].shape[%i] = %lld)",
                             first, dim, (long long)shape[dim], input, dim, (long long)n);
                return -1;
            }
        }
    }
    return 0;
}

static bool has_shape(PyArrayObject *array, int n_dims, const npy_intp *shape)
{
    return PyArray_NDIM(array) == n_dims &&
        std::equal(shape, shape + n_dims, PyArray_DIMS(array));
}

/* Gets an array for an output: the present one, if it can be used again. */
static int allocate(PyArrayObject **output, int type, int n_dims, npy_intp *shape, bool fortran)
{
    if (*output && has_shape(*output, n_dims, shape) &&
        (PyArray_ISCARRAY(*output) || PyArray_ISFARRAY(*output)))
        return 0;
    if (*output) {
        PyArray_Dims dims = {shape, n_dims};
        PyObject *resized = PyArray_Resize(*output, &dims, 0, NPY_CORDER);
        if (resized) {
            Py_DECREF(resized);
            return 0;
        }
        PyErr_Clear();
        Py_CLEAR(*output);
        fortran = false;
    }
    *output = (PyArrayObject *)PyArray_EMPTY(n_dims, shape, type, fortran);
    return *output ? 0 : -1;
}

static void bounds(PyArrayObject *array, const char **first, const char **end)
{
    *first = PyArray_BYTES(array);
    *end = *first + PyArray_ITEMSIZE(array);
    for (int dim = 0; dim < PyArray_NDIM(array); dim++) {
        npy_intp reach = (PyArray_DIMS(array)[dim] - 1) * PyArray_STRIDES(array)[dim];
        (reach < 0 ? *first : *end) += reach;
    }
}

/* Whether two arrays that are not empty may share memory. */
static bool may_share_memory(PyArrayObject *x, PyArrayObject *y)
{
    if (x != y && PyArray_CHKFLAGS(x, NPY_ARRAY_OWNDATA) && PyArray_CHKFLAGS(y, NPY_ARRAY_OWNDATA))
        return false;
    const char *first_x, *end_x, *first_y, *end_y;
    bounds(x, &first_x, &end_x);
    bounds(y, &first_y, &end_y);
    return first_x < end_y && first_y < end_x;
}

/* Whether an output may overwrite its input.  One of several outputs may not if another input is in
   the same memory, as are shared variables that were made from one array. */
static bool is_free(const Operation &op, PyArrayObject *const *inputs, int input)
{
    for (int other = 0; op.n_outputs > 1 && other < op.n_inputs; other++)
        if (other != input && may_share_memory(inputs[input], inputs[other]))
            return false;
    return true;
}

static int prepare_outputs(const Operation &op, PyArrayObject *const *inputs,
                           PyArrayObject **const *outputs, npy_intp *shape)
{
    bool fortran = false;
    for (int input = 0; input < op.n_inputs; input++) {
        if (is_scalar(op, input))
            continue;
        fortran = PyArray_ISFORTRAN(inputs[input]);
        if (!fortran)
            break;
    }
    for (int i = 0; i < op.n_outputs; i++) {
        if (op.inplace[i] >= 0 && is_free(op, inputs, op.inplace[i])) {
            PyArrayObject *input = inputs[op.inplace[i]];
            if (*outputs[i] != input) {
                Py_INCREF(input);
                Py_XDECREF(*outputs[i]);
                *outputs[i] = input;
            }
        } else {
            if (op.inplace[i] >= 0)
                Py_CLEAR(*outputs[i]);
            if (allocate(outputs[i], op.types[i], op.n_dims, shape, fortran) < 0)
                return -1;
        }
    }
    return 0;
}

static void measure(Operand &one, int n_dims, const npy_intp *shape)
{
    one.lowest = 0;
    one.highest = one.size;
    for (int dim = 0; dim < n_dims; dim++) {
        npy_intp reach = (shape[dim] - 1) * one.strides[dim];
        (reach < 0 ? one.lowest : one.highest) += reach;
    }
}

/* Whether an output shares memory with another operand, other than element by element. */
static bool overlap(const std::vector<Operand> &all, int n_dims, const npy_intp *shape)
{
    for (const Operand &out : all) {
        if (!out.output)
            continue;
        for (const Operand &other : all) {
            if (&other == &out || other.data + other.lowest >= out.data + out.highest ||
                out.data + out.lowest >= other.data + other.highest)
                continue;
            bool same = other.data == out.data && other.size == out.size && !other.scalar;
            for (int dim = 0; dim < n_dims; dim++)
                same = same && (shape[dim] == 1 || other.strides[dim] == out.strides[dim]);
            if (!same)
                return true;
        }
    }
    return false;
}

/* Sorts dimensions by the steps of the first output, and merges those that can be merged. */
static int simplify(std::vector<Operand> &all, int n_dims, npy_intp *shape, const Operand &out)
{
    for (int i = 1; i < n_dims; i++)
        for (int j = i; j > 0 &&
             std::abs(out.strides[j]) > std::abs(out.strides[j - 1]); j--) {
            std::swap(shape[j], shape[j - 1]);
            for (Operand &one : all)
                std::swap(one.strides[j], one.strides[j - 1]);
        }
    int kept = 0;
    for (int dim = 0; dim < n_dims; dim++) {
        if (shape[dim] == 1)
            continue;
        bool merge = kept > 0;
        for (const Operand &one : all)
            merge = merge && one.strides[kept - 1] == one.strides[dim] * shape[dim];
        if (merge)
            shape[kept - 1] *= shape[dim];
        else
            shape[kept++] = shape[dim];
        for (Operand &one : all)
            one.strides[kept - 1] = one.strides[dim];
    }
    return kept;
}

template <typename T>
static inline void copy_items(char *to, npy_intp step, const char *from, npy_intp step_from,
                              npy_intp n)
{
    for (npy_intp i = 0; i < n; i++)
        *(T *)(to + i * step) = *(const T *)(from + i * step_from);
}

struct Pair { double first, second; };

static void copy(char *to, npy_intp step, const char *from, npy_intp step_from, npy_intp n,
                 npy_intp size)
{
    switch (size) {
    case 1: return copy_items<npy_uint8>(to, step, from, step_from, n);
    case 2: return copy_items<npy_uint16>(to, step, from, step_from, n);
    case 4: return copy_items<npy_uint32>(to, step, from, step_from, n);
    case 8: return copy_items<npy_uint64>(to, step, from, step_from, n);
    default: return copy_items<Pair>(to, step, from, step_from, n);
    }
}

/* One row, along the last dimension. */
static void run_row(Kernel kernel, const std::vector<Operand> &all, const std::vector<char *> &data,
                    npy_intp n, const std::vector<npy_intp> &steps, npy_intp chunk,
                    std::vector<char> &buffers)
{
    std::vector<char *> pieces(data);
    for (npy_intp start = 0; start < n; start += chunk) {
        npy_intp length = std::min(chunk, n - start);
        for (size_t i = 0; i < all.size(); i++) {
            if (all[i].scalar)
                continue; // one element, wherever the row is
            pieces[i] = data[i] + start * steps[i];
            if (length == 1 || steps[i] == all[i].size)
                continue;
            char *buffer = &buffers[i * CHUNK * ITEM];
            copy(buffer, all[i].size, pieces[i], steps[i], length, all[i].size);
            pieces[i] = buffer;
        }
        kernel(length, pieces.data());
        for (size_t i = 0; i < all.size(); i++)
            if (all[i].output && length > 1 && steps[i] != all[i].size)
                copy(data[i] + start * steps[i], steps[i], pieces[i], all[i].size, length,
                     all[i].size);
    }
}

static int run_all(const Operation &op, PyArrayObject *const *inputs,
                   PyArrayObject **const *outputs, npy_intp *shape)
{
    std::vector<Operand> all(op.n_inputs + op.n_outputs);
    for (size_t i = 0; i < all.size(); i++) {
        Operand &one = all[i];
        one.output = i >= (size_t)op.n_inputs;
        PyArrayObject *array = one.output ? *outputs[i - op.n_inputs] : inputs[i];
        one.data = PyArray_BYTES(array);
        one.size = PyArray_ITEMSIZE(array);
        one.scalar = !one.output && is_scalar(op, (int)i);
        for (int dim = 0; dim < op.n_dims; dim++)
            one.strides[dim] = !one.output && is_broadcast(op, (int)i, dim)
                ? 0 : PyArray_STRIDES(array)[dim];
        measure(one, op.n_dims, shape);
    }
    bool overlapping = overlap(all, op.n_dims, shape);
    int n_dims = simplify(all, op.n_dims, shape, all[op.n_inputs]);

    npy_intp n = n_dims ? shape[n_dims - 1] : 1;
    std::vector<npy_intp> steps(all.size());
    bool contiguous = true;
    for (size_t i = 0; i < all.size(); i++) {
        steps[i] = n_dims && !all[i].scalar ? all[i].strides[n_dims - 1] : all[i].size;
        contiguous = contiguous && (steps[i] == all[i].size || n == 1);
    }
    std::vector<char> buffers;
    npy_intp chunk = overlapping ? 1 : contiguous ? n : (npy_intp)CHUNK;
    if (!contiguous && !overlapping)
        buffers.resize(all.size() * CHUNK * ITEM);

    std::vector<char *> data(all.size());
    for (size_t i = 0; i < all.size(); i++)
        data[i] = all[i].data;
    npy_intp position[MAX_DIMS] = {0};
    for (;;) {
        run_row(op.kernel, all, data, n, steps, chunk, buffers);
        int dim = n_dims - 2;
        for (; dim >= 0; dim--) {
            bool done = ++position[dim] == shape[dim];
            for (size_t i = 0; i < all.size(); i++)
                data[i] += all[i].strides[dim] * (done ? 1 - shape[dim] : 1);
            if (!done)
                break;
            position[dim] = 0;
        }
        if (dim < 0)
            return 0;
    }
}

/* The common case: all arrays that are not scalars have the same shape and order of elements. */
static bool run_flat(const Operation &op, PyArrayObject *const *inputs,
                     PyArrayObject **const *outputs, npy_intp n)
{
    enum { MOST = 32 };
    char *data[MOST];
    bool c = true, fortran = true;
    if (op.n_inputs + op.n_outputs > MOST)
        return false;
    for (int input = 0; input < op.n_inputs; input++) {
        data[input] = PyArray_BYTES(inputs[input]);
        if (is_scalar(op, input))
            continue;
        for (int dim = 0; dim < op.n_dims; dim++)
            if (is_broadcast(op, input, dim) && PyArray_DIMS(*outputs[0])[dim] != 1)
                return false;
        c = c && PyArray_ISCONTIGUOUS(inputs[input]);
        fortran = fortran && PyArray_IS_F_CONTIGUOUS(inputs[input]);
    }
    for (int i = 0; i < op.n_outputs; i++) {
        data[op.n_inputs + i] = PyArray_BYTES(*outputs[i]);
        c = c && PyArray_ISCONTIGUOUS(*outputs[i]);
        fortran = fortran && PyArray_IS_F_CONTIGUOUS(*outputs[i]);
    }
    if (!c && !fortran)
        return false;
    for (int i = 0; n > 1 && i < op.n_outputs; i++) {
        char *start = data[op.n_inputs + i];
        npy_intp size = PyArray_ITEMSIZE(*outputs[i]);
        for (int other = 0; other < op.n_inputs + op.n_outputs; other++) {
            if (other == op.n_inputs + i)
                continue;
            npy_intp item = PyArray_ITEMSIZE(other < op.n_inputs ? inputs[other]
                                             : *outputs[other - op.n_inputs]);
            bool scalar = other < op.n_inputs && is_scalar(op, other);
            if (data[other] == start && item == size && !scalar)
                continue;
            if (data[other] < start + n * size && start < data[other] + (scalar ? 1 : n) * item)
                return false;
        }
    }
    op.kernel(n, data);
    return true;
}

static int run(const Operation &op, PyArrayObject *const *inputs, PyArrayObject **const *outputs)
{
    npy_intp shape[MAX_DIMS];
    if (find_shape(op, inputs, shape) < 0 || prepare_outputs(op, inputs, outputs, shape) < 0)
        return -1;
    npy_intp n = 1;
    for (int dim = 0; dim < op.n_dims; dim++)
        n *= shape[dim];
    if (n == 0)
        return 0;
    vector_math::FlushToZero while_running(op.flush_to_zero);
    return run_flat(op, inputs, outputs, n) ? 0 : run_all(op, inputs, outputs, shape);
}

/* --- sums --- */

/* Adds a row to a total.  A sum of floats that is returned as a float is computed in several doubles
   at once, which is as exact.  Other sums are in Theano's order, on which a double depends. */
template <typename T, typename Out>
static double sum_of_row(double total, const char *data, npy_intp n, npy_intp step)
{
    enum { LANES = 16, FLOATS = sizeof(T) + sizeof(Out) == 2 * sizeof(float) };
    npy_intp i = 0;
    if (FLOATS && step == sizeof(T)) {
        double lanes[LANES] = {0};
        const T *row = (const T *)data;
        for (; i + LANES <= n; i += LANES)
            for (int lane = 0; lane < LANES; lane++)
                lanes[lane] += row[i + lane];
        for (int lane = 0; lane < LANES; lane++)
            total += lanes[lane];
    }
    for (; i < n; i++)
        total += *(const T *)(data + i * step);
    return total;
}

template <typename T>
static void add_row(double *totals, const char *data, npy_intp n, npy_intp step)
{
    if (step == sizeof(T)) {
        const T *row = (const T *)data;
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC ivdep
#endif
        for (npy_intp i = 0; i < n; i++)
            totals[i] += row[i];
    } else
        for (npy_intp i = 0; i < n; i++)
            totals[i] += *(const T *)(data + i * step);
}

/* The sum over some dimensions, accumulated in doubles. */
template <typename T, typename Out>
static int sum(PyArrayObject *input, const char *reduced, int type, PyArrayObject **output)
{
    npy_intp shape[MAX_DIMS], n[MAX_DIMS], step[MAX_DIMS];
    bool over[MAX_DIMS];
    int n_dims = 0, n_kept = 0;
    npy_intp size = 1;
    for (int dim = 0; dim < PyArray_NDIM(input); dim++) {
        npy_intp length = PyArray_DIMS(input)[dim], stride = PyArray_STRIDES(input)[dim];
        size *= length;
        if (!reduced[dim])
            shape[n_kept++] = length;
        if (length == 1)
            continue;
        bool merge = n_dims && over[n_dims - 1] == (bool)reduced[dim] &&
            step[n_dims - 1] == stride * length;
        if (merge)
            n[n_dims - 1] *= length;
        else {
            n[n_dims] = length;
            over[n_dims++] = reduced[dim];
        }
        step[n_dims - 1] = stride;
    }
    if (*output && !PyArray_ISCARRAY(*output))
        Py_CLEAR(*output);
    if (allocate(output, type, n_kept, shape, false) < 0)
        return -1;
    if (PyArray_SIZE(*output) == size && PyArray_ISCARRAY_RO(input)) { /* nothing to add */
        const T *values = (const T *)PyArray_DATA(input);
        std::transform(values, values + size, (Out *)PyArray_DATA(*output),
                       [](T value) { return (Out)(value + 0.0); }); /* of -0, 0 */
        return 0;
    }
    std::vector<double> totals(PyArray_SIZE(*output), 0.0);

    npy_intp position[MAX_DIMS] = {0}, place[MAX_DIMS];
    npy_intp n_outputs = 1; /* from the last dimension to the first */
    for (int dim = n_dims - 1; dim >= 0; dim--) {
        place[dim] = over[dim] ? 0 : n_outputs;
        n_outputs *= over[dim] ? 1 : n[dim];
    }
    const char *data = PyArray_BYTES(input);
    double *total = totals.data();
    bool more = size > 0;
    while (more) {
        if (!n_dims)
            *total += *(const T *)data;
        else if (over[n_dims - 1])
            *total = sum_of_row<T, Out>(*total, data, n[n_dims - 1], step[n_dims - 1]);
        else
            add_row<T>(total, data, n[n_dims - 1], step[n_dims - 1]);
        more = false;
        for (int dim = n_dims - 2; dim >= 0 && !more; dim--) {
            bool done = ++position[dim] == n[dim];
            data += step[dim] * (done ? 1 - n[dim] : 1);
            total += place[dim] * (done ? 1 - n[dim] : 1);
            position[dim] *= !done;
            more = !done;
        }
    }
    std::copy(totals.begin(), totals.end(), (Out *)PyArray_DATA(*output));
    return 0;
}

}

#endif
