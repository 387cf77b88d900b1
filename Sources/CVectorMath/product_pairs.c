// Products whose words are pairs of bfloat16, by vdpbf16ps: both products of a pair are added in float32.
#include "functions.h"

#include "CVectorMath.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(                                                                                 \
    __attribute__((target("arch=x86-64-v4,avx512bf16"), min_vector_width(512))), apply_to = function)

// A pair lies where bfloat16 may: at even addresses.
typedef int32_t word __attribute__((aligned(2), may_alias));
#define MULTIPLY_ADD(sums, left, right) \
  sums = (lanes)_mm512_dpbf16_ps((__m512)(sums), (__m512bh)_mm512_set1_epi32(*(left)), (__m512bh)(right))
#include "product_tiles.h"

void vm_pair_product(PRODUCT_PARAMETERS) {
  product(
      8, 2, (const word *const *)left, taps, inner, rows, (const word *)panels, columns, out, stride, 1, adds, longest);
}

void vm_attention_pair_scores(SCORES_PARAMETERS) {
  strided_product(
      8, 2, (const word *)q, stride, size, rows, (const word *)keys, panels * PANEL, scores, width, scale);
}

#pragma clang attribute pop
#else
// Nobody calls them: vm_has_avx512_bf16 says no.
void vm_pair_product(
    const float *const *left, size_t taps, size_t inner, size_t rows, const float *panels, size_t columns, float *out,
    size_t stride, int adds, size_t longest) {}
void vm_attention_pair_scores(
    const float *q, size_t stride, size_t rows, const float *keys, size_t panels, size_t size, float scale,
    float *scores, size_t width) {}
#endif
