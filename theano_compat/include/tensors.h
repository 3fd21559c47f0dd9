/* What every compiled operation does with its arrays before and after, written once. */
#ifndef TENSORS_H
#define TENSORS_H

#include <Python.h>

#include <numpy/arrayobject.h>

namespace tensors {

static inline long from_last(PyArrayObject *array, const npy_intp *values, int back)
{
    int dim = PyArray_NDIM(array) - back;
    return dim >= 0 ? (long)values[dim] : -1;
}

static int __attribute__((noinline)) check_aligned(PyArrayObject *array, const char *where)
{
    if (PyArray_ISALIGNED(array))
        return 0;
    const npy_intp *dims = PyArray_DIMS(array), *strides = PyArray_STRIDES(array);
    PyErr_Format(PyExc_NotImplementedError,
                 "%s: expected an aligned array, got non-aligned array of type %ld with %ld "
                 "dimensions, with 3 last dims %ld, %ld, %ld and 3 last strides %ld, %ld, %ld.",
                 where, (long)PyArray_TYPE(array), (long)PyArray_NDIM(array),
                 from_last(array, dims, 3), from_last(array, dims, 2), from_last(array, dims, 1),
                 from_last(array, strides, 3), from_last(array, strides, 2),
                 from_last(array, strides, 1));
    return -1;
}

/* Gets the array in a storage cell. */
static int __attribute__((noinline)) extract(PyObject *object, int type, const char *type_name,
                                             PyArrayObject **array)
{
    *array = NULL;
    if (object == Py_None || !PyArray_Check(object)) {
        PyErr_SetString(PyExc_ValueError, object == Py_None ? "expected an ndarray, not None"
                        : "expected an ndarray");
        return -1;
    }
    PyArrayObject *found = (PyArrayObject *)object;
    if (check_aligned(found, "c_extract") < 0)
        return -1;
    if (PyArray_TYPE(found) != type) {
        PyErr_Format(PyExc_TypeError, "expected type_num %d (%s) got %d", type, type_name,
                     PyArray_TYPE(found));
        return -1;
    }
    Py_INCREF(object);
    *array = found;
    return 0;
}

/* Makes an array the content of a storage cell; None if there is no array. */
static int __attribute__((noinline)) sync(PyArrayObject *array, PyObject **object)
{
    PyObject *content = array ? (PyObject *)array : Py_None;
    Py_INCREF(content);
    Py_XDECREF(*object);
    *object = content;
    return array ? check_aligned(array, "c_sync") : 0;
}

/* Let go of an array and of what the storage cell held. */
static void __attribute__((noinline)) release(PyArrayObject *array, PyObject *object)
{
    Py_XDECREF(array);
    Py_XDECREF(object);
}

}

#endif
