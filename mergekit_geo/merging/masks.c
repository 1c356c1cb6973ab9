/* Task vectors, element by element: how large they are, which elements are kept, and their sum.
 *
 * A task vector is a model less the base. The size of an element is the magnitude of that
 * difference as a float32, whose bits have the order of the sizes: its key. A mask is one byte an
 * element, 1 where it is kept. Halves are reckoned with in float32, all else in float64, and the
 * result is rounded once. As in kernel.c, the result is the same on every machine.
 */

#include <math.h>
#include <stdlib.h>

#include "numbers.h"

#define BIN_BITS 8 /* of a digit of the keys by which rows are sorted */
#define BINS (1 << BIN_BITS)
#define LANES 32  /* sums kept apart; divides BLOCK */
#define FEW 32    /* elements that are looked at one by one if one of them is special */
#define DRAWN 128 /* counters whose random numbers are made at once; divides 2^32 */

struct stored {
    const void *data;
    enum dtype dtype;
};

INLINE int is_half(enum dtype dtype) { return dtype == BF16 || dtype == F16; }

INLINE struct stored from(struct stored whole, size_t start) {
    whole.data = (const char *)whole.data + start * ITEM_BYTES[whole.dtype];
    return whole;
}

INLINE void load_double(struct stored from, size_t n, double *restrict out) {
    widen(from.data, from.dtype, n, out);
}

INLINE void load_float(struct stored from, size_t n, float *restrict out) {
    widen_half(from.data, from.dtype, n, out);
}

/* Keys */

#define DEFINE_KEYS(real)                                                                          \
    INLINE void keys_##real(struct stored base, struct stored model, size_t n,                     \
                            uint32_t *restrict keys) {                                             \
        real origin[BLOCK], row[BLOCK];                                                            \
        load_##real(base, n, origin);                                                              \
        load_##real(model, n, row);                                                                \
        for (size_t i = 0; i < n; i++) keys[i] = bits_of((float)(row[i] - origin[i])) & 0x7fffffff; \
    }

DEFINE_KEYS(float)
DEFINE_KEYS(double)

/* Sizes of the elements of one task vector. */
FOR_EVERY_CPU
void sizes(size_t n, struct stored base, struct stored model, uint32_t *keys) {
    const int halves = is_half(base.dtype) && is_half(model.dtype);
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t count = n - start < BLOCK ? n - start : BLOCK;
        if (halves)
            keys_float(from(base, start), from(model, start), count, keys + start);
        else
            keys_double(from(base, start), from(model, start), count, keys + start);
    }
}

/* Variances of the elements over k models, which are those over their task vectors. */
FOR_EVERY_CPU
void spreads(size_t k, size_t n, const struct stored *models, uint32_t *keys) {
    double first[BLOCK], row[BLOCK], sum[BLOCK], squares[BLOCK];
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t count = n - start < BLOCK ? n - start : BLOCK;
        memset(sum, 0, sizeof sum);
        memset(squares, 0, sizeof squares);
        load_double(from(models[0], start), count, first);
        for (size_t j = 1; j < k; j++) {
            load_double(from(models[j], start), count, row);
            for (size_t i = 0; i < count; i++) {
                const double difference = row[i] - first[i]; /* of equal models exactly 0 */
                sum[i] += difference;
                squares[i] += difference * difference;
            }
        }
        for (size_t i = 0; i < count; i++) {
            const double spread = squares[i] / k - sum[i] / k * (sum[i] / k);
            keys[start + i] = bits_of((float)(spread > 0 ? spread : 0)) & 0x7fffffff;
        }
    }
}

/* How many of the keys that begin with `prefix` have each of the next digits. */
FOR_EVERY_CPU
void tally(size_t n, const uint32_t *keys, int shift, int bits, uint32_t prefix, int64_t *counts) {
    const uint32_t last = (1u << bits) - 1;
    for (size_t start = 0; start < n; start += FEW) {
        const size_t stop = n - start < FEW ? n : start + FEW;
        uint32_t any = 0;
        for (size_t i = start; i < stop; i++) any |= keys[i] >> shift >> bits == prefix;
        for (size_t i = start; any && i < stop; i++)
            if (keys[i] >> shift >> bits == prefix) counts[keys[i] >> shift & last]++;
    }
}

/* Masks */

/* Keeps what lies between two keys, and of those that equal one the first or last few, in their
 * order: `kept` holds the first and the one after the last for either key, `met` how many of each
 * came before this chunk. */
FOR_EVERY_CPU
void between(size_t n, const uint32_t *keys, const uint32_t *bounds, const int64_t *kept,
             int64_t *met, uint8_t *mask) {
    const uint32_t low = bounds[0], high = bounds[1];
    for (size_t start = 0; start < n; start += FEW) {
        const size_t stop = n - start < FEW ? n : start + FEW;
        uint32_t ties = 0;
        for (size_t i = start; i < stop; i++) {
            mask[i] = (keys[i] > low) & (keys[i] < high);
            ties |= (keys[i] == low) | (keys[i] == high);
        }
        for (size_t i = start; ties && i < stop; i++) {
            const int side = keys[i] != low;
            if (side && keys[i] != high) continue;
            mask[i] = kept[2 * side] <= met[side] && met[side] < kept[2 * side + 1];
            met[side]++;
        }
    }
}

/* Threefry-2x32-20 (Salmon 2011): two numbers of each of DRAWN counters, all first ones, then all
 * second. */
#define ROUND(turn)                                                                                \
    x += y;                                                                                        \
    y = (y << turn | y >> (32 - turn)) ^ x;
#define ROUNDS(a, b, c, d, k, l, number)                                                           \
    ROUND(a) ROUND(b) ROUND(c) ROUND(d) x += k;                                                    \
    y += l + number;

INLINE void threefry(uint64_t key, uint64_t counter, uint32_t *restrict out) {
    const uint32_t k = (uint32_t)key, l = (uint32_t)(key >> 32), m = 0x1BD11BDA ^ k ^ l;
    for (size_t i = 0; i < DRAWN; i++) {
        uint32_t x = (uint32_t)(counter + i) + k, y = (uint32_t)(counter >> 32) + l;
        ROUNDS(13, 15, 26, 6, l, m, 1)
        ROUNDS(17, 29, 16, 24, m, k, 2)
        ROUNDS(13, 15, 26, 6, k, l, 3)
        ROUNDS(17, 29, 16, 24, l, m, 4)
        ROUNDS(13, 15, 26, 6, m, k, 5)
        out[i] = x;
        out[DRAWN + i] = y;
    }
}

/* Keeps element i if the i-th number of the stream is below its chance, in units of 2^-32: one for
 * all, or each its own unless `chances` is NULL. `start` is the first element's place. */
FOR_EVERY_CPU
void draw(size_t n, uint64_t key, uint64_t start, uint32_t chance, const uint32_t *chances,
          uint8_t *mask) {
    uint32_t made[2 * DRAWN];
    uint8_t kept[2 * DRAWN];
    for (size_t done = 0, count; done < n; done += count) {
        const size_t skipped = (start + done) % (2 * DRAWN), left = 2 * DRAWN - skipped;
        count = n - done < left ? n - done : left;
        threefry(key, (start + done) / (2 * DRAWN) * DRAWN, made);
        if (chances)
            for (size_t i = 0; i < count; i++) kept[i] = made[skipped + i] < chances[done + i];
        else
            for (size_t i = 0; i < 2 * DRAWN; i++) kept[i] = made[i] < chance;
        memcpy(mask + done, chances ? kept : kept + skipped, count);
    }
}

/* The chance of each element by its rank among the keys of its row, from `low` to `high` in equal
 * steps; equal keys in their order, an only element half-way. Returns 0, or 1 without memory. */
FOR_EVERY_CPU
int chances(size_t rows, size_t columns, const uint32_t *keys, double low, double high,
            uint32_t *out) {
    uint64_t *sorted = malloc(2 * columns * sizeof *sorted), *other = sorted + columns;
    if (!sorted) return 1;
    for (size_t row = 0; row < rows; row++, keys += columns, out += columns) {
        for (size_t i = 0; i < columns; i++) sorted[i] = (uint64_t)keys[i] << 32 | i;
        for (int shift = 32; shift < 64; shift += BIN_BITS) {
            size_t places[BINS] = {0}, sum = 0;
            for (size_t i = 0; i < columns; i++) places[sorted[i] >> shift & (BINS - 1)]++;
            for (size_t bin = 0; bin < BINS; bin++) {
                const size_t count = places[bin];
                places[bin] = sum;
                sum += count;
            }
            for (size_t i = 0; i < columns; i++)
                other[places[sorted[i] >> shift & (BINS - 1)]++] = sorted[i];
            uint64_t *swapped = sorted;
            sorted = other;
            other = swapped;
        }
        for (size_t rank = 0; rank < columns; rank++) {
            const double share = columns > 1 ? (double)rank / (double)(columns - 1) : 0.5;
            out[(uint32_t)sorted[rank]] = (uint32_t)((low + share * (high - low)) * 0x1p32);
        }
    }
    free(sorted < other ? sorted : other);
    return 0;
}

/* Sums */

/* Adds the sums over a block of a task vector, padded with zeros. */
#define DEFINE_MEASURE(real)                                                                       \
    INLINE void measure_##real(struct stored base, struct stored model, size_t n,                  \
                               const uint8_t *mask, double *sums) {                                \
        real origin[BLOCK], row[BLOCK], all[LANES] = {0}, kept[LANES] = {0}, squares[LANES] = {0}; \
        load_##real(base, n, origin);                                                              \
        load_##real(model, n, row);                                                                \
        for (size_t i = 0; i < n; i++) row[i] -= origin[i];                                        \
        for (size_t i = n; i < BLOCK; i++) row[i] = 0;                                             \
        for (size_t i = 0; i < BLOCK; i += LANES)                                                  \
            for (size_t l = 0; l < LANES; l++) all[l] += (real)fabs(row[i + l]);                   \
        for (size_t i = 0; mask && i < n; i++) row[i] *= mask[i];                                  \
        for (size_t i = 0; i < BLOCK; i += LANES)                                                  \
            for (size_t l = 0; l < LANES; l++) {                                                   \
                kept[l] += (real)fabs(row[i + l]);                                                 \
                squares[l] += row[i + l] * row[i + l];                                             \
            }                                                                                      \
        for (size_t l = 0; l < LANES; l++) {                                                       \
            sums[0] += all[l];                                                                     \
            sums[1] += kept[l];                                                                    \
            sums[2] += squares[l];                                                                 \
        }                                                                                          \
    }

DEFINE_MEASURE(float)
DEFINE_MEASURE(double)

/* Sums over a task vector: sizes, sizes of what is kept (all without a mask), and its squares. */
FOR_EVERY_CPU
void measure(size_t n, struct stored base, struct stored model, const uint8_t *mask, double *sums) {
    const int halves = is_half(base.dtype) && is_half(model.dtype);
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t count = n - start < BLOCK ? n - start : BLOCK;
        const uint8_t *kept = mask ? mask + start : NULL;
        if (halves)
            measure_float(from(base, start), from(model, start), count, kept, sums);
        else
            measure_double(from(base, start), from(model, start), count, kept, sums);
    }
}

/* How the kept elements of k task vectors become one. */
struct sum {
    const double *factors; /* of the elements in the sum */
    const double *votes;   /* in the sum whose sign elements must have, or NULL: all count */
    const double *weights; /* whose sum over the elements that count divides, or NULL */
    double scale;          /* of the whole */
};

/* out = base + scale * (sum of factor * element) / (sum of weight), over the elements that are
 * kept and have the sign that the votes elect; the base to the bit where that is nothing. */
#define DEFINE_SUM(real)                                                                           \
    INLINE void sum_##real(size_t k, size_t start, size_t n, const struct stored *models,          \
                           const uint8_t *const *masks, struct sum sum, real *restrict rows,       \
                           real *restrict out) {                                                   \
        real base[BLOCK], ballot[BLOCK], total[BLOCK], share[BLOCK];                               \
        load_##real(from(models[0], start), n, base);                                              \
        for (size_t i = 0; i < n; i++) ballot[i] = total[i] = share[i] = 0;                        \
        for (size_t j = 0; j < k; j++) {                                                           \
            real *restrict row = rows + j * BLOCK;                                                 \
            const uint8_t *mask = masks[j];                                                        \
            load_##real(from(models[j + 1], start), n, row);                                       \
            if (mask)                                                                              \
                for (size_t i = 0; i < n; i++) row[i] = mask[start + i] ? row[i] - base[i] : 0;    \
            else                                                                                   \
                for (size_t i = 0; i < n; i++) row[i] -= base[i];                                  \
            const real vote = sum.votes ? (real)sum.votes[j] : 0;                                  \
            for (size_t i = 0; sum.votes && i < n; i++) ballot[i] += vote * row[i];                \
        }                                                                                          \
        for (size_t j = 0; j < k; j++) {                                                           \
            const real *row = rows + j * BLOCK, factor = (real)sum.factors[j];                     \
            const real vote = sum.votes ? (real)sum.votes[j] : 0;                                  \
            const real weight = sum.weights ? (real)sum.weights[j] : 0;                            \
            if (sum.votes)                                                                         \
                for (size_t i = 0; i < n; i++) {                                                   \
                    const real voted = vote * row[i], elected = ballot[i] >= 0 ? voted : -voted;   \
                    total[i] += elected > 0 ? factor * row[i] : 0;                                 \
                    share[i] += elected > 0 ? weight : 0;                                          \
                }                                                                                  \
            else                                                                                   \
                for (size_t i = 0; i < n; i++) total[i] += factor * row[i];                        \
        }                                                                                          \
        for (size_t i = 0; sum.weights && i < n; i++)                                              \
            total[i] = share[i] != 0 ? total[i] / share[i] : total[i];                             \
        for (size_t i = 0; i < n; i++)                                                             \
            out[i] = total[i] != 0 ? base[i] + (real)sum.scale * total[i] : base[i];               \
    }

DEFINE_SUM(float)
DEFINE_SUM(double)

INLINE void store_float(const float *restrict values, enum dtype dtype, size_t n,
                        uint16_t *restrict out) {
    if (dtype == BF16)
        for (size_t i = 0; i < n; i++) out[i] = to_bf16(values[i]);
    else
        for (size_t i = 0; i < n; i++) out[i] = to_f16(values[i]);
}

/* The base and k models to one tensor. Returns 0, or 1 without memory. */
FOR_EVERY_CPU
int add_masked(size_t k, size_t n, const struct stored *models, const uint8_t *const *masks,
               struct sum sum, void *out, enum dtype out_dtype) {
    int halves = is_half(out_dtype);
    double *rows = malloc((k + 1) * BLOCK * sizeof *rows), *result = rows + k * BLOCK;
    if (!rows) return 1;
    for (size_t j = 0; j <= k; j++) halves &= is_half(models[j].dtype);
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t count = n - start < BLOCK ? n - start : BLOCK;
        char *to = (char *)out + start * ITEM_BYTES[out_dtype];
        if (halves) {
            sum_float(k, start, count, models, masks, sum, (float *)rows, (float *)result);
            store_float((float *)result, out_dtype, count, (uint16_t *)to);
        } else {
            sum_double(k, start, count, models, masks, sum, rows, result);
            narrow(result, out_dtype, count, to);
        }
    }
    free(rows);
    return 0;
}

/* Each element towards the model's, by `reach` at the most; sizes below 1e-6 are taken for that. */
#define DEFINE_NEAR(real)                                                                          \
    INLINE void near_##real(struct stored base, struct stored model, size_t n, double reach,       \
                            real *restrict out) {                                                  \
        real origin[BLOCK], row[BLOCK];                                                            \
        const real most = (real)reach, least = (real)1e-6;                                         \
        load_##real(base, n, origin);                                                              \
        load_##real(model, n, row);                                                                \
        for (size_t i = 0; i < n; i++) {                                                           \
            const real moved = row[i] - origin[i], size = (real)fabs(moved);                       \
            const real share = most / (size > least ? size : least);                               \
            out[i] = moved != 0 ? origin[i] + (share < 1 ? share : 1) * moved : origin[i];         \
        }                                                                                          \
    }

DEFINE_NEAR(float)
DEFINE_NEAR(double)

FOR_EVERY_CPU
void add_near(size_t n, struct stored base, struct stored model, double reach, void *out,
              enum dtype out_dtype) {
    const int halves = is_half(base.dtype) && is_half(model.dtype) && is_half(out_dtype);
    float half_row[BLOCK];
    double row[BLOCK];
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t count = n - start < BLOCK ? n - start : BLOCK;
        char *to = (char *)out + start * ITEM_BYTES[out_dtype];
        if (halves) {
            near_float(from(base, start), from(model, start), count, reach, half_row);
            store_float(half_row, out_dtype, count, (uint16_t *)to);
        } else {
            near_double(from(base, start), from(model, start), count, reach, row);
            narrow(row, out_dtype, count, to);
        }
    }
}

/* The base and what is kept: of one model times its factor, of several their mean. */
#define DEFINE_JOINED(real)                                                                        \
    INLINE void joined_##real(size_t k, size_t start, size_t n, const struct stored *models,       \
                              const uint8_t *const *masks, const double *factors,                  \
                              real *restrict out) {                                                \
        real base[BLOCK], row[BLOCK], total[BLOCK], alone[BLOCK], met[BLOCK];                      \
        load_##real(from(models[0], start), n, base);                                              \
        for (size_t i = 0; i < n; i++) total[i] = alone[i] = met[i] = 0;                           \
        for (size_t j = 0; j < k; j++) {                                                           \
            const uint8_t *mask = masks[j];                                                        \
            const real factor = (real)factors[j];                                                  \
            load_##real(from(models[j + 1], start), n, row);                                       \
            for (size_t i = 0; i < n; i++) {                                                       \
                const real moved = !mask || mask[start + i] ? row[i] - base[i] : 0;                \
                total[i] += moved;                                                                 \
                alone[i] += factor * moved;                                                        \
                met[i] += moved != 0 ? 1 : 0;                                                      \
            }                                                                                      \
        }                                                                                          \
        for (size_t i = 0; i < n; i++) {                                                           \
            const real mean = total[i] / (met[i] > 1 ? met[i] : 1);                                \
            out[i] = met[i] == 0 ? base[i] : base[i] + (met[i] == 1 ? alone[i] : mean);            \
        }                                                                                          \
    }

DEFINE_JOINED(float)
DEFINE_JOINED(double)

FOR_EVERY_CPU
void add_joined(size_t k, size_t n, const struct stored *models, const uint8_t *const *masks,
                const double *factors, void *out, enum dtype out_dtype) {
    int halves = is_half(out_dtype);
    float half_row[BLOCK];
    double row[BLOCK];
    for (size_t j = 0; j <= k; j++) halves &= is_half(models[j].dtype);
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t count = n - start < BLOCK ? n - start : BLOCK;
        char *to = (char *)out + start * ITEM_BYTES[out_dtype];
        if (halves) {
            joined_float(k, start, count, models, masks, factors, half_row);
            store_float(half_row, out_dtype, count, (uint16_t *)to);
        } else {
            joined_double(k, start, count, models, masks, factors, row);
            narrow(row, out_dtype, count, to);
        }
    }
}
