#include "CVectorMath.h"
#include "functions.h"

VECTORISED
void vm_half_to_float(const uint16_t *x, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = half_inline(x[i]);
}

VECTORISED
void vm_float_to_half(const float *x, uint16_t *out, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = bits_of(x[i]);
    uint32_t magnitude = bits & 0x7fffffff;
    uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
    // The last place of 0.5 is float16's smallest denormal, so the sum rounds to it.
    uint32_t denormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    uint32_t half = magnitude < 0x38800000 ? denormal : normal;
    half = magnitude >= 0x477ff000 ? 0x7c00 : half;
    half = magnitude > 0x7f800000 ? 0x7e00 : half;
    out[i] = (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)half;
  }
}

VECTORISED
void vm_bfloat_to_float(const uint16_t *x, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = float_of((uint32_t)x[i] << 16);
}

VECTORISED
void vm_float_to_bfloat(const float *x, uint16_t *out, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = bits_of(x[i]);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uint32_t nan = bits >> 16 | 0x40;
    out[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
  }
}

VECTORISED
void vm_int_to_float(const int32_t *x, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = (float)x[i];
}

VECTORISED
void vm_float_to_int(const float *x, int32_t *out, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float v = x[i];
    int32_t inside = v >= -0x1p31f && v < 0x1p31f ? (int32_t)v : 0;
    out[i] = v >= 0x1p31f ? INT32_MAX : v < -0x1p31f ? INT32_MIN : inside;
  }
}

VECTORISED
size_t vm_count_non_finite(const float *x, size_t n) {
  size_t count = 0;
  for (size_t i = 0; i < n; i++) count += (bits_of(x[i]) & 0x7f800000) == 0x7f800000;
  return count;
}
