#include "CVectorMath.h"
#include "functions.h"

#define LOOP(name, expression)                                  \
  VECTORISED                                                    \
  static void name(const float *x, float *out, size_t n) {      \
    for (size_t i = 0; i < n; i++) {                            \
      float v = x[i];                                           \
      out[i] = (expression);                                    \
    }                                                           \
  }

LOOP(silu_loop, silu_inline(v))
LOOP(gelu_loop, gelu_inline(v))
LOOP(gelu_tanh_loop, gelu_tanh_inline(v))
LOOP(quick_gelu_loop, quick_gelu_inline(v))
LOOP(sigmoid_loop, sigmoid_inline(v))
LOOP(tanh_loop, tanh_inline(v))
LOOP(exp_loop, exp_inline(v))
LOOP(log_loop, logf(v))
LOOP(sqrt_loop, sqrtf(v))
LOOP(rsqrt_loop, 1.0f / sqrtf(v))
LOOP(sin_loop, sinf(v))
LOOP(cos_loop, cosf(v))
LOOP(square_loop, v *v)
LOOP(abs_loop, fabsf(v))
LOOP(negate_loop, -v)
LOOP(reciprocal_loop, 1.0f / v)

void vm_unary(vm_unary_function function, const float *x, float *out, size_t n) {
  switch (function) {
    case VM_SILU: silu_loop(x, out, n); return;
    case VM_GELU: gelu_loop(x, out, n); return;
    case VM_GELU_TANH: gelu_tanh_loop(x, out, n); return;
    case VM_QUICK_GELU: quick_gelu_loop(x, out, n); return;
    case VM_SIGMOID: sigmoid_loop(x, out, n); return;
    case VM_TANH: tanh_loop(x, out, n); return;
    case VM_EXP: exp_loop(x, out, n); return;
    case VM_LOG: log_loop(x, out, n); return;
    case VM_SQRT: sqrt_loop(x, out, n); return;
    case VM_RSQRT: rsqrt_loop(x, out, n); return;
    case VM_SIN: sin_loop(x, out, n); return;
    case VM_COS: cos_loop(x, out, n); return;
    case VM_SQUARE: square_loop(x, out, n); return;
    case VM_ABS: abs_loop(x, out, n); return;
    case VM_NEGATE: negate_loop(x, out, n); return;
    case VM_RECIPROCAL: reciprocal_loop(x, out, n); return;
  }
}

// The three ways in which operands advance are loops of their own: a step that is a variable does not
// vectorise.
#define BINARY_LOOP(name, expression)                                                                         \
  VECTORISED                                                                                                  \
  static void name(const float *a, size_t stepA, const float *b, size_t stepB, float *out, size_t n) {        \
    if (stepA && stepB) {                                                                                     \
      for (size_t i = 0; i < n; i++) { float u = a[i], v = b[i]; out[i] = (expression); }                     \
    } else if (stepA) {                                                                                       \
      float v = b[0];                                                                                         \
      for (size_t i = 0; i < n; i++) { float u = a[i]; out[i] = (expression); }                               \
    } else {                                                                                                  \
      float u = a[0];                                                                                         \
      for (size_t i = 0; i < n; i++) { float v = b[i * stepB]; out[i] = (expression); }                       \
    }                                                                                                         \
  }

BINARY_LOOP(add_loop, u + v)
BINARY_LOOP(subtract_loop, u - v)
BINARY_LOOP(multiply_loop, u *v)
BINARY_LOOP(divide_loop, u / v)
BINARY_LOOP(minimum_loop, minimum_inline(u, v))
BINARY_LOOP(maximum_loop, maximum_inline(u, v))
BINARY_LOOP(less_loop, u < v ? 1.0f : 0.0f)
BINARY_LOOP(equal_loop, u == v ? 1.0f : 0.0f)

void vm_binary(
    vm_binary_function function, const float *a, size_t stepA, const float *b, size_t stepB, float *out, size_t n) {
  switch (function) {
    case VM_ADD: add_loop(a, stepA, b, stepB, out, n); return;
    case VM_SUBTRACT: subtract_loop(a, stepA, b, stepB, out, n); return;
    case VM_MULTIPLY: multiply_loop(a, stepA, b, stepB, out, n); return;
    case VM_DIVIDE: divide_loop(a, stepA, b, stepB, out, n); return;
    case VM_MINIMUM: minimum_loop(a, stepA, b, stepB, out, n); return;
    case VM_MAXIMUM: maximum_loop(a, stepA, b, stepB, out, n); return;
    case VM_LESS: less_loop(a, stepA, b, stepB, out, n); return;
    case VM_EQUAL: equal_loop(a, stepA, b, stepB, out, n); return;
  }
}

VECTORISED
void vm_affine(const float *x, float scale, float offset, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = scale * x[i] + offset;
}

VECTORISED
void vm_clamp(const float *x, float lower, float upper, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float v = x[i];
    v = v < lower ? lower : v;
    out[i] = v > upper ? upper : v;
  }
}

VECTORISED
void vm_geglu(const float *first, const float *second, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = first[i] * gelu_inline(second[i]);
}

VECTORISED
void vm_rotary(
    const float *x, const float *cosines, const float *sines, size_t pairs, int interleaved, float *out) {
  if (interleaved) {
    for (size_t i = 0; i < pairs; i++) {
      float a = x[2 * i], b = x[2 * i + 1];
      out[2 * i] = a * cosines[i] - b * sines[i];
      out[2 * i + 1] = a * sines[i] + b * cosines[i];
    }
  } else {
    for (size_t i = 0; i < pairs; i++) {
      float a = x[i], b = x[pairs + i];
      out[i] = a * cosines[i] - b * sines[i];
      out[pairs + i] = a * sines[i] + b * cosines[i];
    }
  }
}

VECTORISED
void vm_scale(const float *x, float c, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = c * x[i];
}

VECTORISED
void vm_accumulate(const float *x, float c, float *out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] += c * x[i];
}
