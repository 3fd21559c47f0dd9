"""A patch for the loop of Scan."""

import re

from theano_compat.hooks import Speed, around_import, replace, rewrite

#: The attribute `data` in the C that Cython has generated for the loop. A number has it, too.
_DATA = re.compile(r"__Pyx_PyObject_GetAttrStr\((__pyx_v_(?:new_)?var), __pyx_n_s_data\)")
_ADDRESS = (r"(PyObject_TypeCheck(\1, __pyx_ptype_5numpy_ndarray)"
            r" ? PyLong_FromVoidPtr(PyArray_DATA((PyArrayObject *)\1)) : \g<0>)")


@around_import("theano.scan_module.scan_op", "theano.gof.cmodule", speed=Speed(
    acts_on="arrays of every dtype and shape in memory that Scan has provided for a result",
    brings="LSTM, 100 units 1.09",
    edge="tests/compat/test_scan_loop.py::test_results_are_those_without_the_patch"))
def compare_addresses_in_scan(module):
    """Compare the addresses of two arrays where Theano compares all of their elements.

    After each step, Scan has to know whether a result is still in the memory that it has provided.
    It asks ``var.data == old_data``. In Python 3 these are memoryviews: to compare them, Python
    makes an object of each element.
    """
    yield
    if module.__name__ == "theano.scan_module.scan_op":
        rewrite(module.Scan, "execute", r"\b((?:new_)?var)\.data\b",
                r'\1.__array_interface__["data"]')
        return

    @replace(module.GCC_compiler)
    def compile_str(module_name, src_code, *args, **kwargs):
        if module_name == "scan_perform":
            src_code = _DATA.sub(_ADDRESS, src_code)
        return compile_str.original(module_name, src_code, *args, **kwargs)
