/* Models weighed element by element by statistics of theirs, such as the diagonals of Fisher
 * information matrices. All is reckoned with in float64 and rounded once. As in kernel.c, the
 * result is the same on every machine.
 */

#include <stdlib.h>

#include "numbers.h"

#define LANES 32 /* sums kept apart; divides BLOCK */

struct stored {
    const void *data;
    enum dtype dtype;
};

/* How much a model counts at an element. */
struct weighing {
    const double *weights; /* of the models */
    double floor;
    int has_prior; /* the first model is where the others were tuned from */
};

INLINE void load(struct stored whole, size_t start, size_t n, double *restrict out) {
    widen((const char *)whole.data + start * ITEM_BYTES[whole.dtype], whole.dtype, n, out);
}

/* Without a prior: sum of w_i H_i a_i / sum of w_i H_i, H_i the statistics, at least `floor`. With
 * one: a_0 + sum of w_i (H_0 + H_i) (a_i - a_0) / (H_0 + sum of w_i H_i), H_0 the first ones plus
 * `floor`. Either is a_0 plus a weighted sum of the differences from it: equal models give that
 * model. Adds the factors of all elements to `shares`, one a model. Returns 0, or 1 without memory.
 */
FOR_EVERY_CPU
int add_weighed(size_t k, size_t n, const struct stored *models, const struct stored *statistics,
                struct weighing how, void *out, enum dtype out_dtype, double *shares) {
    double first[BLOCK], prior[BLOCK], row[BLOCK], total[BLOCK], sum[BLOCK];
    double *rows = malloc(k * BLOCK * sizeof *rows);
    if (!rows) return 1;
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t count = n - start < BLOCK ? n - start : BLOCK;
        load(models[0], start, count, first);
        load(statistics[0], start, count, row);
        for (size_t i = 0; i < count; i++) {
            const double bounded = row[i] > how.floor ? row[i] : how.floor;
            prior[i] = how.has_prior ? row[i] + how.floor : 0;
            total[i] = how.has_prior ? prior[i] : how.weights[0] * bounded;
            sum[i] = 0;
        }
        for (size_t j = 1; j < k; j++) {
            double *restrict factors = rows + j * BLOCK;
            const double weight = how.weights[j], floor = how.has_prior ? 0 : how.floor;
            load(statistics[j], start, count, row);
            for (size_t i = 0; i < count; i++) {
                const double own = row[i] > floor ? row[i] : floor;
                total[i] += weight * own;
                factors[i] = weight * (prior[i] + own);
            }
            load(models[j], start, count, row);
            for (size_t i = 0; i < count; i++) sum[i] += factors[i] * (row[i] - first[i]);
            for (size_t i = count; i < BLOCK; i++) factors[i] = 0;
        }
        for (size_t i = 0; i < count; i++) total[i] = 1 / total[i];
        for (size_t i = count; i < BLOCK; i++) total[i] = 0;
        for (size_t j = 1; j < k; j++) {
            const double *restrict factors = rows + j * BLOCK;
            double lanes[LANES] = {0};
            for (size_t i = 0; i < BLOCK; i += LANES)
                for (size_t l = 0; l < LANES; l++) lanes[l] += factors[i + l] * total[i + l];
            for (size_t l = 0; l < LANES; l++) shares[j] += lanes[l];
        }
        for (size_t i = 0; i < count; i++)
            sum[i] = sum[i] != 0 ? first[i] + sum[i] * total[i] : first[i];
        narrow(sum, out_dtype, count, (char *)out + start * ITEM_BYTES[out_dtype]);
    }
    free(rows);
    return 0;
}
