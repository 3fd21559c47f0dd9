/* A matrix product that skips the zeros of its first factor, such as binary images, one-hot codes or
   units that are mostly 0. */
#ifndef SPARSE_PRODUCT_H
#define SPARSE_PRODUCT_H

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include <numpy/npy_common.h>

namespace sparse_product {

enum {
    LEAST_WORK = 1 << 16, /* multiplications; below, looking for zeros is not worth it */
    DENSE = 4,            /* if more than one element in this many is not zero, BLAS is faster */
    LANES = 16, WIDE = 8, /* floats added at once, and how many times at most */
    NARROW = 64,          /* columns; with fewer, looking for zeros takes longer than BLAS */
    LOOK = 8,             /* elements that are looked at together */
    ENOUGH = 512          /* so many of them show from its start that a matrix is dense */
};

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* A matrix of floats; steps are counted in elements. */
struct Matrix {
    float *data;
    npy_intp rows, columns, row_step, column_step;

    float *row(npy_intp number) const { return data + number * row_step; }
};

/* The elements that are not zero, line after line. */
struct Entries {
    std::vector<int32_t> starts; /* of each line in `values`, and the end of the last one */
    std::vector<int32_t> places; /* of each element in its line */
    std::vector<float> values;
};

/* Compares bits, because options may let the compiler ignore NaN, or the processor take denormals
   for 0. */
static inline bool is_zero(float value)
{
    int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return !(bits & 0x7fffffff);
}

static inline bool all_zero(const float *values)
{
    int32_t bits[LOOK], any = 0;
    std::memcpy(bits, values, sizeof bits);
    for (int i = 0; i < LOOK; i++)
        any |= bits[i];
    return !any;
}

/* Goes through the lines of a matrix, each of them contiguous; false if it is not sparse. */
static bool find_entries(const float *data, npy_intp n_lines, npy_intp length, npy_intp step,
                         Entries &entries)
{
    npy_intp most = n_lines * length / DENSE, next = 0;
    entries.starts.assign(1, 0);
    entries.places.resize(most + LOOK);
    entries.values.resize(most + LOOK);
    for (npy_intp i = 0; i < n_lines; i++) {
        const float *line = data + i * step;
        for (npy_intp j = 0; j < length; j += LOOK) {
            if (j + LOOK <= length && all_zero(line + j))
                continue;
            if (next > most || (next > ENOUGH && next > (i * length + j) / 2))
                return false;
            for (npy_intp k = j; k < std::min<npy_intp>(j + LOOK, length); k++) {
                entries.places[next] = (int32_t)k; /* over the one before, if that is a zero */
                entries.values[next] = line[k];
                next += !is_zero(line[k]);
            }
        }
        entries.starts.push_back((int32_t)next);
    }
    return next <= most;
}

/* The same elements, sorted by their places in the lines. */
static Entries transposed(const Entries &lines, npy_intp length)
{
    size_t count = lines.starts.back();
    Entries result;
    result.starts.assign(length + 1, 0);
    result.places.resize(count);
    result.values.resize(count);
    for (size_t i = 0; i < count; i++)
        result.starts[lines.places[i] + 1]++;
    for (npy_intp place = 0; place < length; place++)
        result.starts[place + 1] += result.starts[place];
    std::vector<int32_t> next(result.starts);
    for (size_t line = 0; line + 1 < lines.starts.size(); line++)
        for (int32_t i = lines.starts[line]; i < lines.starts[line + 1]; i++) {
            int32_t to = next[lines.places[i]]++;
            result.places[to] = (int32_t)line;
            result.values[to] = lines.values[i];
        }
    return result;
}

static inline bool is_finite(const float *row, npy_intp n)
{
    int32_t not_finite = 0;
    for (npy_intp i = 0; i < n; i++) {
        int32_t bits;
        std::memcpy(&bits, row + i, sizeof bits);
        not_finite |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !not_finite;
}

static bool is_finite(const Matrix &x)
{
    for (npy_intp row = 0; row < x.rows; row++)
        if (!is_finite(x.row(row), x.columns))
            return false;
    return true;
}

/* N * LANES elements of a row of a * x * y + b * z; the entries are those of the row of x.  Like
   BLAS, it adds to 0 if b is 0: the sum of no products is 0, whatever the sign of a. */
template <int N>
static inline void combine_rows(float a, const int32_t *rows, const float *values, npy_intp n,
                                const Matrix &y, npy_intp column, float b, float *z)
{
    Lanes sums[N];
    for (int i = 0; i < N; i++)
        sums[i] = Lanes{0};
    for (npy_intp entry = 0; entry < n; entry++) {
        const Lanes *row = (const Lanes *)(y.row(rows[entry]) + column);
        for (int i = 0; i < N; i++)
            sums[i] += values[entry] * row[i];
    }
    Lanes *result = (Lanes *)(z + column);
    for (int i = 0; i < N; i++)
        result[i] = b == 0 ? a * sums[i] + 0.0f : a * sums[i] + b * result[i];
}

static void multiply(float a, const Entries &x, const Matrix &y, float b, const Matrix &z)
{
    for (npy_intp row = 0; row < z.rows; row++) {
        npy_intp start = x.starts[row], n = x.starts[row + 1] - start, column = 0;
        const int32_t *rows = x.places.data() + start;
        const float *values = x.values.data() + start;
        for (; column + WIDE * LANES <= y.columns; column += WIDE * LANES)
            combine_rows<WIDE>(a, rows, values, n, y, column, b, z.row(row));
        for (; column + LANES <= y.columns; column += LANES)
            combine_rows<1>(a, rows, values, n, y, column, b, z.row(row));
        for (; column < y.columns; column++) {
            float sum = 0;
            for (npy_intp entry = 0; entry < n; entry++)
                sum += values[entry] * y.row(rows[entry])[column];
            float &result = z.row(row)[column];
            result = b == 0 ? a * sum + 0.0f : a * sum + b * result;
        }
    }
}

/* Whether each product with a zero of x, which z leaves out, would have been zero. */
static bool zeros_were_zero(const Entries &x, const Matrix &y, const Matrix &z)
{
    std::vector<char> used(y.rows, 0);
    for (int32_t i = 0; i < x.starts.back(); i++)
        used[x.places[i]] = 1;
    for (npy_intp row = 0; row < y.rows; row++)
        if (!used[row] && !is_finite(y.row(row), y.columns))
            return false;
    return is_finite(z); /* what is not finite in other rows of y has come here */
}

/* z = a * x * y + b * z, as in BLAS, if x is sparse and the rows of y and z are contiguous.  Else
   returns false; z is then as before, or undefined if b is 0.  The order of additions differs from
   BLAS: so does rounding, and a sum may be finite in one order and not in another. */
static bool compute(float a, const Matrix &x, const Matrix &y, float b, const Matrix &z)
{
    if (a == 0 || (double)x.rows * x.columns * y.columns < LEAST_WORK || y.columns < NARROW
        || x.rows * x.columns > INT32_MAX || y.column_step != 1 || z.column_step != 1)
        return false;
    Entries entries;
    if (x.column_step == 1) {
        if (!find_entries(x.data, x.rows, x.columns, x.row_step, entries))
            return false;
    } else {
        if (x.row_step != 1
            || !find_entries(x.data, x.columns, x.rows, x.column_step, entries))
            return false;
        entries = transposed(entries, x.rows);
    }
    bool look_first = b != 0 || y.rows <= z.rows;
    if (look_first && !is_finite(y))
        return false;
    multiply(a, entries, y, b, z);
    return look_first || zeros_were_zero(entries, y, z);
}

}

#endif
