/* exp, log, log1p, tanh, sigmoid and softplus of floats, in a form that a compiler can vectorise:
   no branches, no tables, no errno.  Arguments of other types go to the C library.

   The usual ways: exp by halving the interval around a multiple of log 2 and Taylor's series; log
   by 2 artanh((m - 1) / (m + 1)) and its series.  Results that are not denormal are within 2 units
   in the last place of the exact ones, those of sigmoid and softplus within 2.6, whether or not
   denormal results are flushed to zero, and whether or not products and sums are fused.  Sigmoid
   is exactly 0 or 1 beyond Theano's limits.  Infinities and NaN are as in the C library.

   All this holds if the compiler keeps to IEEE's rules.  If its options break them, the C library
   computes: `elementwise_loops.py` lists the options; this file knows those that define a macro. */
#ifndef VECTOR_MATH_H
#define VECTOR_MATH_H

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#if defined(__GNUC__)
#define VECTOR_MATH static inline __attribute__((always_inline))
#else
#define VECTOR_MATH static inline
#endif

namespace vector_math {

template <typename T> static inline auto exp(T x) -> decltype(std::exp(x)) { return std::exp(x); }
template <typename T> static inline auto log(T x) -> decltype(std::log(x)) { return std::log(x); }
template <typename T> static inline auto log1p(T x) -> decltype(std::log1p(x))
{
    return std::log1p(x);
}
template <typename T> static inline auto tanh(T x) -> decltype(std::tanh(x))
{
    return std::tanh(x);
}

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) \
    || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) \
    || defined(__NO_SIGNED_ZEROS__)

VECTOR_MATH float softplus(float x)
{
    return (x > 0 ? x : 0) + std::log1p(std::exp(-std::fabs(x)));
}

#else

VECTOR_MATH float from_bits(int32_t bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

VECTOR_MATH int32_t bits_of(float value)
{
    int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

VECTOR_MATH float exp(float x)
{
    /* Beyond these the result is 0 or infinite; a NaN passes. */
    float clipped = x < -104.0f ? -104.0f : x;
    clipped = clipped > 89.0f ? 89.0f : clipped;
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float k = (clipped * 1.44269504f + magic) - magic;
    /* log 2 in two parts, the first of few bits, so that its product with k is exact. */
    float r = (clipped - k * 0.693359375f) + k * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.0f;
    /* 2^k in two factors, as it may be beyond what one float can hold. */
    int32_t whole = (int32_t)k, half = whole >> 1;
    return p * from_bits((half + 127) << 23) * from_bits((whole - half + 127) << 23);
}

/* log(1 + f), for f in [-1/2, 1]: 2 artanh(s) = 2 s + s t p, and 2 s = f - s f.  Where f is so
   small that s would be denormal, the result is f. */
VECTOR_MATH float log_of_1_and(float f)
{
    float s = f / (2 + f);
    float t = s * s;
    float p = 2.0f / 15;
    p = p * t + 2.0f / 13;
    p = p * t + 2.0f / 11;
    p = p * t + 2.0f / 9;
    p = p * t + 2.0f / 7;
    p = p * t + 2.0f / 5;
    p = p * t + 2.0f / 3;
    return f - s * (f - p * t);
}

VECTOR_MATH float log(float x)
{
    bool small = x < 1.17549435e-38f; /* denormal: no exponent of its own */
    int32_t bits = bits_of(small ? x * 8388608.0f : x);
    /* m in [sqrt(1/2), sqrt(2)), x = m * 2^k. */
    int32_t k = (bits - 0x3f3504f3) >> 23;
    float m = from_bits(bits - (k << 23));
    float e = (float)(k - (small ? 23 : 0));
    float result = e * 0.693359375f + (log_of_1_and(m - 1) - e * 2.12194440e-4f);
    result = x < __builtin_inff() ? result : x; /* infinite, or NaN */
    result = x > 0 ? result : (x == 0 ? -__builtin_inff() : __builtin_nanf(""));
    return result;
}

VECTOR_MATH float log1p(float x)
{
    float near = log_of_1_and(x);
    float far = vector_math::log(1 + x);
    return x >= -0.5f && x <= 1.0f ? near : far;
}

VECTOR_MATH float tanh(float x)
{
    float size = __builtin_fabsf(x);
    float t = x * x;
    /* x - tanh(x) by Lambert's continued fraction. */
    float lost = size * (t * (3465 + t * (189 + t)) / (10395 + t * (4725 + t * (210 + t))));
    float far = 1 - 2 / (vector_math::exp(2 * size) + 1);
    return __builtin_copysignf(size < 0.625f ? size - lost : far, x);
}

/* log(1 + exp(x)) */
VECTOR_MATH float softplus(float x)
{
    float e = vector_math::exp(-__builtin_fabsf(x)); /* in [0, 1], or NaN */
    return (x > 0 ? x : 0) + log_of_1_and(e);
}

#endif

/* Exactly 0 or 1 where Theano's is: log(1 - sigmoid(x)) depends on that. */
VECTOR_MATH float sigmoid(float x)
{
    float result = 1 / (1 + vector_math::exp(-x));
    result = x > 15.0f ? 1.0f : result;
    return x < -88.0f ? 0.0f : result;
}

/* While this object exists, if `on`, float results below 1.2e-38 become 0: with such numbers SSE
   and AVX compute up to a hundred times slower, and moving averages decay to them.  Arguments that
   small keep their values.

   On other processors nothing is done.  The FZ bit of arm64 would also turn such arguments into 0,
   and log(1e-40) into -inf (only FEAT_AFP of Armv8.7 separates the two).  Arm's and Apple's
   processors are not known to be slower with such numbers by more than a few cycles. */
struct FlushToZero {
#if defined(__SSE__)
    unsigned int before;
    explicit FlushToZero(bool on) : before(_mm_getcsr()) { _mm_setcsr(before | on * 0x8000u); }
    ~FlushToZero() { _mm_setcsr(before); }
#else
    explicit FlushToZero(bool) {}
#endif
};

}

#endif
