/* Numbers as checkpoints store them, in blocks that stay in the first cache: widened exactly,
 * narrowed with one rounding.
 */

#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 256 /* elements */

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define FOR_EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_CPU
#endif

enum dtype { BF16, F16, F32, F64 };

static const size_t ITEM_BYTES[] = {2, 2, 4, 8};

/* Conversions */

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE float magnitude(float value) { return float_of(bits_of(value) & 0x7fffffff); }

/* To 16 bits of mantissa, odd where bits were lost: rounding that to fewer bits is then as if it
 * were the first rounding. It fits a float32. */
INLINE float round_to_odd(double value) {
    const uint64_t last = UINT64_C(1) << 36;
    uint64_t bits, lost;
    memcpy(&bits, &value, sizeof bits);
    lost = bits & (last - 1);
    bits = (bits - lost) | ((lost + last - 1) & last);
    memcpy(&value, &bits, sizeof value);
    return (float)value;
}

INLINE uint32_t to_bf16(float odd) {
    uint32_t bits = bits_of(odd);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return odd != odd ? bits >> 16 | 0x40 : rounded; /* a NaN stays one */
}

INLINE float of_bf16(uint32_t stored) { return float_of(stored << 16); }

/* Below 2^-14 a half is a multiple of 2^-24: added to 0.5, the sum's last bit is just that. */
INLINE uint32_t to_f16(float odd) {
    const uint32_t rebias = 112u << 23, smallest_normal = 113u << 23, infinity = 0x7c00;
    uint32_t bits = bits_of(odd) & 0x7fffffff, sign = bits_of(odd) >> 16 & 0x8000;
    uint32_t normal = (bits - rebias + 0xfff + (bits >> 13 & 1)) >> 13;
    uint32_t subnormal = bits_of(float_of(bits) + 0.5f) - bits_of(0.5f);
    uint32_t finite = bits < smallest_normal ? subnormal : normal;
    uint32_t capped = bits > rebias + (31u << 23) || finite > infinity ? infinity : finite;
    return sign | (odd != odd ? 0x7e00 : capped);
}

INLINE float of_f16(uint32_t stored) {
    uint32_t rest = stored & 0x7fff, sign = (stored & 0x8000) << 16;
    uint32_t no_number = rest >= 0x7c00 ? 0x7f800000 : 0;
    float normal = float_of(((rest << 13) + (112u << 23)) | no_number);
    float subnormal = (float)(int32_t)rest * 0x1p-24f;
    return float_of(sign | bits_of(rest < 0x400 ? subnormal : normal));
}

INLINE void widen(const void *stored, enum dtype dtype, size_t n, double *restrict out) {
    const uint16_t *halves = stored;
    const float *floats = stored;
    if (dtype == BF16)
        for (size_t i = 0; i < n; i++) out[i] = of_bf16(halves[i]);
    else if (dtype == F16)
        for (size_t i = 0; i < n; i++) out[i] = of_f16(halves[i]);
    else if (dtype == F32)
        for (size_t i = 0; i < n; i++) out[i] = floats[i];
    else
        memcpy(out, stored, n * sizeof *out);
}

INLINE void narrow(const double *restrict values, enum dtype dtype, size_t n, void *restrict out) {
    uint16_t *restrict halves = out;
    float *restrict floats = out, odd[BLOCK];
    if (dtype == BF16 || dtype == F16)
        for (size_t i = 0; i < n; i++) odd[i] = round_to_odd(values[i]);
    if (dtype == BF16)
        for (size_t i = 0; i < n; i++) halves[i] = to_bf16(odd[i]);
    else if (dtype == F16)
        for (size_t i = 0; i < n; i++) halves[i] = to_f16(odd[i]);
    else if (dtype == F32)
        for (size_t i = 0; i < n; i++) floats[i] = (float)values[i];
    else
        memcpy(out, values, n * sizeof *values);
}

INLINE void widen_half(const uint16_t *stored, enum dtype dtype, size_t n, float *restrict out) {
    if (dtype == BF16)
        for (size_t i = 0; i < n; i++) out[i] = of_bf16(stored[i]);
    else
        for (size_t i = 0; i < n; i++) out[i] = of_f16(stored[i]);
}
