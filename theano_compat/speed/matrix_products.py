"""Patches for matrix products: compute each product once, and skip zeros of a sparse factor."""

from theano_compat.hooks import Speed, around_import, replace


@around_import("theano.tensor.blas", speed=Speed(
    acts_on="products of matrices, times a number, if another operation also uses the product",
    brings="VAE, 1024 units 1.22",
    edge="tests/compat/test_compat.py::test_a_product_is_computed_once"))
def compute_products_once(blas):
    """Multiply a matrix product by a number separately if the product is also used without it.

    Theano combines the product and the number in one operation, and then computes the product
    twice. In Adam, this happens for the two moments of each gradient.
    """
    yield

    @replace(blas.local_dot22_to_dot22scalar)
    def transform(node):
        products = [x for x in node.inputs if x.owner and x.owner.op == blas._dot22]
        if any(len(getattr(product, "clients", ())) > 1 for product in products):
            return False
        return transform.original(node)


@around_import("theano.tensor.blas", speed=Speed(
    acts_on="products of float32 matrices in C with 2**16 multiplications or more, 64 columns "
            "or more, contiguous rows of the second factor and of the result, and at most a "
            "quarter of the first factor not zero",
    brings="VAE, 1024 units 1.07",
    edge="tests/compat/test_matrix_products.py::test_zero_times_what_is_not_finite"))
def skip_zeros_in_products(blas):
    """Skip the zeros of the first factor of a float32 product if most of its elements are zeros.

    Binary images are such a factor in the product of the first layer, and in the gradient of its
    weights. ``include/sparse_product.h`` counts zeros and multiplies. BLAS computes all other
    products.
    """
    yield
    Gemm = blas.GemmRelated

    @replace(Gemm)
    def c_headers(self):
        return [*c_headers.original(self), '"sparse_product.h"']

    Gemm.case_float_gemm = """
                if (!sparse_product::compute(
                        a, {(float *)PyArray_DATA(%(_x)s), Nx[0], Nx[1], sx_0, sx_1},
                        {(float *)PyArray_DATA(%(_y)s), Ny[0], Ny[1], sy_0, sy_1},
                        b, {(float *)PyArray_DATA(%(_zout)s), Nz[0], Nz[1], sz_0, sz_1})) {
        """ + Gemm.case_float_gemm + """
                }
        """
