// Elementary functions as branch-free expressions, so that a loop over them vectorises.
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// One compiled copy for each x86-64 level, chosen when the program is loaded.
#if defined(__x86_64__) && defined(__linux__)
#define VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTORISED
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

INLINE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Moves the exponent's bias from 15 to 127 by a product, which is right for denormals too.
INLINE float half_inline(uint16_t half) {
  uint32_t magnitude = (uint32_t)(half & 0x7fff);
  uint32_t finite = bits_of(float_of(magnitude << 13) * 0x1p112f);
  uint32_t special = magnitude << 13 | 0x7f800000;
  return float_of((uint32_t)(half & 0x8000) << 16 | (magnitude >= 0x7c00 ? special : finite));
}

// exp to about 1 ULP: exp(x) = 2^n exp(r), |r| <= ln 2 / 2; Taylor-like minimax polynomial (Cephes' expf).
// 2^n in two factors, so that results down to the denormals and up to infinity come out right.
INLINE float exp_inline(float x) {
  x = x > 89.0f ? 89.0f : x;
  x = x < -104.0f ? -104.0f : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits.
  float shifted = x * 1.44269504088896341f + magic;
  int32_t n = (int32_t)(bits_of(shifted) - bits_of(magic));
  float f = shifted - magic;
  float r = x - f * 0.693359375f;
  r = r - f * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  int32_t half = n >> 1;
  float low = float_of((uint32_t)(half + 127) << 23);
  float high = float_of((uint32_t)(n - half + 127) << 23);
  // A NaN leaves `n` arbitrary, so it is passed around the bit tricks.
  return x != x ? x : p * low * high;
}

INLINE float sigmoid_inline(float x) { return 1.0f / (1.0f + exp_inline(-x)); }

// The normal distribution's lower tail at -t, t >= 0: exp(-t^2/2) R(t), with R, a multiple of Mills' ratio, as
// a polynomial in 1 / (1 + t/4) fitted on [0, 14] to a relative 1.5e-8.
INLINE float normal_tail(float t) {
  float u = 1.0f / (1.0f + 0.25f * t);
  float p = 3.394689664e-2f;
  p = p * u + -1.961782106e-1f;
  p = p * u + 3.950033879e-1f;
  p = p * u + -3.334716835e-1f;
  p = p * u + 3.044887596e-1f;
  p = p * u + -2.038499271e-2f;
  p = p * u + 1.215682392e-1f;
  p = p * u + 9.482019164e-2f;
  p = p * u + 1.002290050e-1f;
  p = p * u + -2.160041091e-5f;
  return p * exp_inline(-0.5f * t * t);
}

// x Phi(x) = max(x, 0) - |x| Phi(-|x|), which does not cancel on the negative side. Past 14 the tail is 0 in
// float32; the minimum keeps infinity times zero out.
INLINE float gelu_inline(float x) {
  float t = fabsf(x);
  t = t > 15.0f ? 15.0f : t;
  float tail = t * normal_tail(t);
  return (x > 0.0f ? x : 0.0f) - (x != x ? x : tail);
}

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), with 1 + tanh(u) = 2 sigmoid(2u).
INLINE float gelu_tanh_inline(float x) {
  float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  return x / (1.0f + exp_inline(-2.0f * u));
}

INLINE float quick_gelu_inline(float x) { return x / (1.0f + exp_inline(-1.702f * x)); }
INLINE float silu_inline(float x) { return x / (1.0f + exp_inline(-x)); }

// Near zero x + x^3 P(x^2), fitted on |x| < 0.6 to a relative 3e-9 of the second term; else by exp.
INLINE float tanh_inline(float x) {
  float t = fabsf(x);
  float e = exp_inline(-2.0f * t);
  float far = (1.0f - e) / (1.0f + e);
  float z = x * x;
  float p = 2.370839757e-3f;
  p = p * z + -8.410137755e-3f;
  p = p * z + 2.178834319e-2f;
  p = p * z + -5.396155452e-2f;
  p = p * z + 1.333331288e-1f;
  p = p * z + -3.333333323e-1f;
  float near = x + x * z * p;
  return t < 0.6f ? near : copysignf(far, x);
}

// As a tree: one after the other, each addition would wait for the one before.
INLINE double total_of_16(double *lane) {
  for (int j = 0; j < 8; j++) lane[j] += lane[j + 8];
  for (int j = 0; j < 4; j++) lane[j] += lane[j + 4];
  for (int j = 0; j < 2; j++) lane[j] += lane[j + 2];
  return lane[0] + lane[1];
}

// IEEE 754-2019 minimum and maximum: a NaN wins.
INLINE float minimum_inline(float a, float b) { return ((a < b) | (a != a)) ? a : b; }
INLINE float maximum_inline(float a, float b) { return ((a > b) | (a != a)) ? a : b; }

#endif
