/* What NumPy's headers no longer define and Theano's generated C++ uses.
   Included at the head of every module that Theano compiles. */
#ifndef THEANO_ON_NUMPY2_H
#define THEANO_ON_NUMPY2_H

#include <Python.h>

/* Removed in NumPy 2.1; without this macro Theano writes code for Python 2. */
#ifndef NPY_PY3K
#define NPY_PY3K 1
#endif

/* From npy_3kcompat.h, removed in NumPy 2.1. */
#define PyInt_Check PyLong_Check
#define PyInt_CheckExact PyLong_CheckExact
#define PyInt_AsLong PyLong_AsLong
#define PyInt_FromLong PyLong_FromLong
#define PyNumber_Int PyNumber_Long
#define NpyCapsule_Check PyCapsule_CheckExact
#define NpyCapsule_GetDesc PyCapsule_GetContext
static inline void *NpyCapsule_AsVoidPtr(PyObject *capsule)
{
    void *pointer = PyCapsule_GetPointer(capsule, NULL);
    if (pointer == NULL) {
        PyErr_Clear();
    }
    return pointer;
}

#ifdef THEANO_WITH_SCIPY_OPENBLAS
/* In the wheel scipy-openblas32 the functions of BLAS have other names. */
#define saxpy_ scipy_saxpy_
#define scopy_ scipy_scopy_
#define sscal_ scipy_sscal_
#define sswap_ scipy_sswap_
#define sgemv_ scipy_sgemv_
#define sgbmv_ scipy_sgbmv_
#define strmv_ scipy_strmv_
#define stbmv_ scipy_stbmv_
#define strsv_ scipy_strsv_
#define sgemm_ scipy_sgemm_
#define ssymm_ scipy_ssymm_
#define ssyrk_ scipy_ssyrk_
#define ssyr2k_ scipy_ssyr2k_
#define strmm_ scipy_strmm_
#define strsm_ scipy_strsm_
#define daxpy_ scipy_daxpy_
#define dcopy_ scipy_dcopy_
#define dscal_ scipy_dscal_
#define dswap_ scipy_dswap_
#define dgemv_ scipy_dgemv_
#define dgbmv_ scipy_dgbmv_
#define dtrmv_ scipy_dtrmv_
#define dtbmv_ scipy_dtbmv_
#define dtrsv_ scipy_dtrsv_
#define dgemm_ scipy_dgemm_
#define dsymm_ scipy_dsymm_
#define dsyrk_ scipy_dsyrk_
#define dsyr2k_ scipy_dsyr2k_
#define dtrmm_ scipy_dtrmm_
#define dtrsm_ scipy_dtrsm_
#define caxpy_ scipy_caxpy_
#define ccopy_ scipy_ccopy_
#define cscal_ scipy_cscal_
#define cswap_ scipy_cswap_
#define cgemv_ scipy_cgemv_
#define cgbmv_ scipy_cgbmv_
#define ctrmv_ scipy_ctrmv_
#define ctbmv_ scipy_ctbmv_
#define ctrsv_ scipy_ctrsv_
#define cgemm_ scipy_cgemm_
#define csymm_ scipy_csymm_
#define csyrk_ scipy_csyrk_
#define csyr2k_ scipy_csyr2k_
#define ctrmm_ scipy_ctrmm_
#define ctrsm_ scipy_ctrsm_
#define zaxpy_ scipy_zaxpy_
#define zcopy_ scipy_zcopy_
#define zscal_ scipy_zscal_
#define zswap_ scipy_zswap_
#define zgemv_ scipy_zgemv_
#define zgbmv_ scipy_zgbmv_
#define ztrmv_ scipy_ztrmv_
#define ztbmv_ scipy_ztbmv_
#define ztrsv_ scipy_ztrsv_
#define zgemm_ scipy_zgemm_
#define zsymm_ scipy_zsymm_
#define zsyrk_ scipy_zsyrk_
#define zsyr2k_ scipy_zsyr2k_
#define ztrmm_ scipy_ztrmm_
#define ztrsm_ scipy_ztrsm_
#define sdot_ scipy_sdot_
#define snrm2_ scipy_snrm2_
#define sasum_ scipy_sasum_
#define sger_ scipy_sger_
#define ssyr_ scipy_ssyr_
#define ssyr2_ scipy_ssyr2_
#define ssymv_ scipy_ssymv_
#define ssbmv_ scipy_ssbmv_
#define sspmv_ scipy_sspmv_
#define srot_ scipy_srot_
#define srotg_ scipy_srotg_
#define srotm_ scipy_srotm_
#define srotmg_ scipy_srotmg_
#define ddot_ scipy_ddot_
#define dnrm2_ scipy_dnrm2_
#define dasum_ scipy_dasum_
#define dger_ scipy_dger_
#define dsyr_ scipy_dsyr_
#define dsyr2_ scipy_dsyr2_
#define dsymv_ scipy_dsymv_
#define dsbmv_ scipy_dsbmv_
#define dspmv_ scipy_dspmv_
#define drot_ scipy_drot_
#define drotg_ scipy_drotg_
#define drotm_ scipy_drotm_
#define drotmg_ scipy_drotmg_
#define cdotu_ scipy_cdotu_
#define cdotc_ scipy_cdotc_
#define cgeru_ scipy_cgeru_
#define cgerc_ scipy_cgerc_
#define chemv_ scipy_chemv_
#define chemm_ scipy_chemm_
#define cherk_ scipy_cherk_
#define cher2k_ scipy_cher2k_
#define cher_ scipy_cher_
#define cher2_ scipy_cher2_
#define zdotu_ scipy_zdotu_
#define zdotc_ scipy_zdotc_
#define zgeru_ scipy_zgeru_
#define zgerc_ scipy_zgerc_
#define zhemv_ scipy_zhemv_
#define zhemm_ scipy_zhemm_
#define zherk_ scipy_zherk_
#define zher2k_ scipy_zher2k_
#define zher_ scipy_zher_
#define zher2_ scipy_zher2_
#define scnrm2_ scipy_scnrm2_
#define dznrm2_ scipy_dznrm2_
#define scasum_ scipy_scasum_
#define dzasum_ scipy_dzasum_
#define csscal_ scipy_csscal_
#define zdscal_ scipy_zdscal_
#define isamax_ scipy_isamax_
#define idamax_ scipy_idamax_
#define icamax_ scipy_icamax_
#define izamax_ scipy_izamax_
#define dsdot_ scipy_dsdot_
#define sdsdot_ scipy_sdsdot_
#define cblas_sdot scipy_cblas_sdot
#define cblas_ddot scipy_cblas_ddot
#define cblas_sgemm scipy_cblas_sgemm
#define cblas_dgemm scipy_cblas_dgemm
#define cblas_sgemv scipy_cblas_sgemv
#define cblas_dgemv scipy_cblas_dgemv
#define openblas_set_num_threads scipy_openblas_set_num_threads
#define openblas_get_num_threads scipy_openblas_get_num_threads
#endif

#endif
