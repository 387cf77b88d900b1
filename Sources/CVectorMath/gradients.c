// Slopes of the elementary functions.
#include "CVectorMath.h"
#include "functions.h"

// s (1 - s) = e / (1 + e)^2 with e = exp(-|x|), which 1 - s would lose for large x.
INLINE float sigmoid_slope(float x) {
  float e = exp_inline(-fabsf(x));
  return e / ((1.0f + e) * (1.0f + e));
}

// d/dx x s(k x) = s (1 + k x (1 - s)).
INLINE float gated_slope(float x, float k) {
  float s = sigmoid_inline(k * x);
  return s * (1.0f + k * x * (1.0f - s));
}

// Phi(x) + x phi(x).
INLINE float gelu_slope(float x) {
  float t = fabsf(x);
  t = t > 15.0f ? 15.0f : t;
  float tail = normal_tail(t);
  float y = (x > 0.0f ? 1.0f - tail : tail) + copysignf(t, x) * exp_inline(-0.5f * t * t) * 0.39894228040143268f;
  return x != x ? x : y;
}

// x s(u), u = k x (1 + a x^2): s + x s (1 - s) u'. Beyond 16 it is 0 or 1 to the last bit.
INLINE float gelu_tanh_slope(float x) {
  const float k = 2.0f * 0.7978845608028654f, a = 0.044715f;
  float v = x < -16.0f ? -16.0f : x;
  v = v > 16.0f ? 16.0f : v;
  float u = k * v * (1.0f + a * v * v);
  return sigmoid_inline(u) + v * sigmoid_slope(u) * (k * (1.0f + 3.0f * a * v * v));
}

#define LOOP(name, slope)                                                      \
  VECTORISED                                                                   \
  static void name(const float *x, const float *g, float *out, size_t n) {     \
    for (size_t i = 0; i < n; i++) {                                           \
      float v = x[i];                                                          \
      (void)v;                                                                 \
      out[i] = g[i] * (slope);                                                 \
    }                                                                          \
  }

LOOP(silu_loop, gated_slope(v, 1.0f))
LOOP(gelu_loop, gelu_slope(v))
LOOP(gelu_tanh_loop, gelu_tanh_slope(v))
LOOP(quick_gelu_loop, gated_slope(v, 1.702f))
LOOP(sigmoid_loop, sigmoid_slope(v))
LOOP(tanh_loop, 4.0f * sigmoid_slope(2.0f * v))
LOOP(exp_loop, exp_inline(v))
LOOP(log_loop, 1.0f / v)
LOOP(sqrt_loop, 0.5f / sqrtf(v))
LOOP(rsqrt_loop, -0.5f / (v * sqrtf(v)))
LOOP(sin_loop, cosf(v))
LOOP(cos_loop, -sinf(v))
LOOP(square_loop, 2.0f * v)
// 0 at 0, and a NaN stays.
LOOP(abs_loop, ((v == 0.0f) | (v != v)) ? v : copysignf(1.0f, v))
LOOP(negate_loop, -1.0f)
LOOP(reciprocal_loop, -(1.0f / v) * (1.0f / v))

void vm_unary_gradient(vm_unary_function function, const float *x, const float *g, float *out, size_t n) {
  switch (function) {
    case VM_SILU: silu_loop(x, g, out, n); return;
    case VM_GELU: gelu_loop(x, g, out, n); return;
    case VM_GELU_TANH: gelu_tanh_loop(x, g, out, n); return;
    case VM_QUICK_GELU: quick_gelu_loop(x, g, out, n); return;
    case VM_SIGMOID: sigmoid_loop(x, g, out, n); return;
    case VM_TANH: tanh_loop(x, g, out, n); return;
    case VM_EXP: exp_loop(x, g, out, n); return;
    case VM_LOG: log_loop(x, g, out, n); return;
    case VM_SQRT: sqrt_loop(x, g, out, n); return;
    case VM_RSQRT: rsqrt_loop(x, g, out, n); return;
    case VM_SIN: sin_loop(x, g, out, n); return;
    case VM_COS: cos_loop(x, g, out, n); return;
    case VM_SQUARE: square_loop(x, g, out, n); return;
    case VM_ABS: abs_loop(x, g, out, n); return;
    case VM_NEGATE: negate_loop(x, g, out, n); return;
    case VM_RECIPROCAL: reciprocal_loop(x, g, out, n); return;
  }
}

VECTORISED
void vm_geglu_gradient(
    const float *first, const float *second, const float *g, float *outFirst, float *outSecond, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float a = first[i], b = second[i];
    outFirst[i] = g[i] * gelu_inline(b);
    outSecond[i] = g[i] * a * gelu_slope(b);
  }
}

VECTORISED
void vm_row_dots(const float *a, const float *b, size_t stride, size_t rows, size_t n, float *out) {
  for (size_t row = 0; row < rows; row++, a += stride, b += stride) {
    double lane[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
      for (size_t j = 0; j < 16; j++) lane[j] += a[i + j] * b[i + j];
    for (size_t j = 0; i + j < n; j++) lane[j] += a[i + j] * b[i + j];
    out[row] = (float)total_of_16(lane);
  }
}

VECTORISED
void vm_adamw(
    const float *state, const float *gradient, float scale, vm_adamw_constants c, size_t stride, float *out, size_t n) {
  const float *values = state, *means = state + stride, *squares = state + 2 * stride, *averages = state + 3 * stride;
  for (size_t i = 0; i < n; i++) {
    float g = gradient[i] * scale;
    float mean = c.kept1 * means[i] + c.added1 * g;
    float square = c.kept2 * squares[i] + c.added2 * (g * g);
    float step = c.rate * mean / (sqrtf(square / c.correction2) + c.epsilon);
    float value = c.shrinkage * values[i] - step;
    out[i] = value;
    out[stride + i] = mean;
    out[2 * stride + i] = square;
    out[3 * stride + i] = c.averaged * averages[i] + c.added * value;
  }
}
