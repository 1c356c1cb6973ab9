/* The two kernels that all merging is made of, combine and gram, in one pass over memory.
 *
 * Everything happens on blocks that stay in the first cache: stored elements are widened to
 * float64, combined, rounded once to the output dtype, and their inner products taken on the way.
 * Where halves become halves, float32 does the same twice as fast, and a block in which it might
 * not be exact enough is combined again in float64.
 * Sums have a fixed order and no fused multiplications, so the result is the same on every machine.
 * No Python here: the caller hands over addresses, and other threads run meanwhile.
 */

#include <stdlib.h>

#include "numbers.h"

#define LANES 16 /* sums that a dot product keeps apart; divides BLOCK */

/* The kernels, on a block of k rows */

/* Zero coefficients are left out, so that an end of a path is its anchor to the bit, and the first
 * product starts the sum, so that negative zeros survive. */
INLINE void combine(const double *rows, const double *coefficients, size_t k, size_t n,
                    double *restrict out) {
    int begun = 0;
    for (size_t j = 0; j < k; j++) {
        const double c = coefficients[j], *row = rows + j * BLOCK;
        if (c == 0) continue;
        for (size_t i = 0; begun && i < n; i++) out[i] += c * row[i];
        for (size_t i = 0; !begun && i < n; i++) out[i] = c * row[i];
        begun = 1;
    }
    if (!begun) memset(out, 0, n * sizeof *out);
}

/* The same on floats, with the sum of the terms' sizes: the rounding errors are a share of that. */
INLINE void combine_half(const float *rows, const double *coefficients, size_t k, size_t n,
                         float *restrict out, float *restrict size) {
    int begun = 0;
    memset(size, 0, n * sizeof *size);
    for (size_t j = 0; j < k; j++) {
        const float c = (float)coefficients[j], *row = rows + j * BLOCK;
        if (c == 0) continue;
        for (size_t i = 0; begun && i < n; i++) out[i] += c * row[i];
        for (size_t i = 0; !begun && i < n; i++) out[i] = c * row[i];
        for (size_t i = 0; i < n; i++) size[i] += magnitude(c * row[i]);
        begun = 1;
    }
    if (!begun) memset(out, 0, n * sizeof *out);
}

/* Rounds, and tells whether every error was below an eighth of the unit in the last place. The
 * error of a sum is at most (k + 1) 2^-24 of its size, its unit at least 2^-bits of its value. */
INLINE int narrow_half(const float *restrict sums, const float *restrict size, size_t k, size_t n,
                       enum dtype dtype, uint16_t *restrict out) {
    const float share = (float)(k + 1) * (dtype == BF16 ? 0x1p-13f : 0x1p-10f);
    uint32_t doubt = 0;
    if (dtype == BF16)
        for (size_t i = 0; i < n; i++) out[i] = to_bf16(sums[i]);
    else
        for (size_t i = 0; i < n; i++) out[i] = to_f16(sums[i]);
    for (size_t i = 0; i < n; i++) doubt |= !(size[i] * share <= magnitude(sums[i]));
    return !doubt;
}

/* Inner products of (a0, a1 - a0, ...) added to the lower triangle of `gram`, for either type. The
 * rows become those differences, with zeros up to a whole number of lanes. */
#define DEFINE_ADD_PRODUCTS(name, real)                                                            \
    INLINE void name(real *rows, size_t k, size_t n, double *gram) {                               \
        const size_t padded = (n + LANES - 1) / LANES * LANES;                                     \
        for (size_t j = k; j-- > 0;) {                                                             \
            real *row = rows + j * BLOCK;                                                          \
            for (size_t i = 0; j > 0 && i < n; i++) row[i] -= rows[i];                             \
            for (size_t i = n; i < padded; i++) row[i] = 0;                                        \
        }                                                                                          \
        for (size_t a = 0; a < k; a++)                                                             \
            for (size_t b = 0; b <= a; b++) {                                                      \
                const real *x = rows + a * BLOCK, *y = rows + b * BLOCK;                           \
                real sums[LANES] = {0};                                                            \
                double total = 0;                                                                  \
                for (size_t i = 0; i < padded; i += LANES)                                         \
                    for (size_t l = 0; l < LANES; l++) sums[l] += x[i + l] * y[i + l];             \
                for (size_t l = 0; l < LANES; l++) total += sums[l];                               \
                gram[a * k + b] += total;                                                          \
            }                                                                                      \
    }

DEFINE_ADD_PRODUCTS(add_products, double)
DEFINE_ADD_PRODUCTS(add_products_of_halves, float)

/* Whether float32 is enough: for halves of halves, and no factor near the ends of its range. */
INLINE int all_halves(size_t k, const int *dtypes, const double *coefficients, int out_dtype) {
    int halves = out_dtype == BF16 || out_dtype == F16;
    for (size_t j = 0; j < k; j++) {
        const double c = coefficients ? coefficients[j] : 0, size = c < 0 ? -c : c;
        halves &= dtypes[j] == BF16 || dtypes[j] == F16;
        halves &= c == 0 || (0x1p-60 < size && size < 0x1p60);
    }
    return halves;
}

/* Elements from `first` to `stop` of k chunks, a row; `rows` has room for k + 1 blocks. */
INLINE void merge_part(double *rows, size_t first, size_t stop, size_t k,
                       const void *const *stored, const int *dtypes, const double *coefficients,
                       void *out, int out_dtype, double *gram) {
    const int halves = all_halves(k, dtypes, coefficients, out_dtype);
    double *sum = rows + k * BLOCK;
    float *half_rows = (float *)rows, half_sum[BLOCK], size[BLOCK];
    for (size_t start = first; start < stop; start += BLOCK) {
        const size_t count = stop - start < BLOCK ? stop - start : BLOCK;
        char *to = (char *)out + start * ITEM_BYTES[out_dtype];
        if (halves) {
            for (size_t j = 0; j < k; j++)
                widen_half((const uint16_t *)stored[j] + start, dtypes[j], count,
                           half_rows + j * BLOCK);
            int sure = 1;
            if (out) {
                combine_half(half_rows, coefficients, k, count, half_sum, size);
                sure = narrow_half(half_sum, size, k, count, out_dtype, (uint16_t *)to);
            }
            if (gram) add_products_of_halves(half_rows, k, count, gram);
            if (sure) continue;
        }
        for (size_t j = 0; j < k; j++)
            widen((const char *)stored[j] + start * ITEM_BYTES[dtypes[j]], dtypes[j], count,
                  rows + j * BLOCK);
        if (out) {
            combine(rows, coefficients, k, count, sum);
            narrow(sum, out_dtype, count, to);
        }
        if (gram && !halves) add_products(rows, k, count, gram);
    }
}

/* k chunks of `count` rows of n elements each. `out` takes their combination, unless NULL, by
 * coefficients (count, k); `gram`, (count, k, k) and zero before, the lower triangle of the inner
 * products of (a0, a1 - a0, ...) of each row, unless NULL; with halves in and halves asked for,
 * their products within a block are those of float32.
 * Returns 0, or 1 if there is no memory for k blocks. */
FOR_EVERY_CPU
int merge_rows(size_t count, size_t k, size_t n, const void *const *stored, const int *dtypes,
               const double *coefficients, void *out, int out_dtype, double *gram) {
    double *rows = malloc((k + 1) * BLOCK * sizeof *rows);
    if (!rows) return 1;
    for (size_t i = 0; i < count; i++)
        merge_part(rows, i * n, i * n + n, k, stored, dtypes,
                   coefficients ? coefficients + i * k : NULL, out, out_dtype,
                   gram ? gram + i * k * k : NULL);
    free(rows);
    return 0;
}
