// Element loops that the compiler vectorises for each x86-64 level (chosen when the program starts) and
// compiles as plain C elsewhere. Pointers do not overlap unless they are equal.
#ifndef CVECTORMATH_H
#define CVECTORMATH_H

#include <stddef.h>
#include <stdint.h>

typedef enum : int32_t {
  VM_SILU, VM_GELU, VM_GELU_TANH, VM_QUICK_GELU, VM_SIGMOID, VM_TANH, VM_EXP, VM_LOG, VM_SQRT, VM_RSQRT,
  VM_SIN, VM_COS, VM_SQUARE, VM_ABS, VM_NEGATE, VM_RECIPROCAL
} vm_unary_function;

typedef enum : int32_t {
  VM_ADD, VM_SUBTRACT, VM_MULTIPLY, VM_DIVIDE, VM_MINIMUM, VM_MAXIMUM, VM_LESS, VM_EQUAL
} vm_binary_function;

// What the processor has, and how many of its cores are ours (features.c).
int vm_has_avx2(void);
int vm_has_avx512(void);
int vm_has_avx512_bf16(void);
int vm_has_vnni(void);
int vm_core_count(void);
// The numbers of those cores, as far as there is room; returns how many. 0 where the system does not say.
int vm_allowed_cores(int *cores, int capacity);
// Restricts this thread, and those that it starts, to these cores; returns whether the system allows it.
int vm_keep_to_cores(const int *cores, int count);

// Point-wise (pointwise.c).
void vm_unary(vm_unary_function function, const float *x, float *out, size_t n);
// a and b advance by 0 or 1.
void vm_binary(
    vm_binary_function function, const float *a, size_t stepA, const float *b, size_t stepB, float *out, size_t n);
void vm_affine(const float *x, float scale, float offset, float *out, size_t n);
void vm_clamp(const float *x, float lower, float upper, float *out, size_t n);
// out = first half * gelu(second half), each of n numbers.
void vm_geglu(const float *first, const float *second, float *out, size_t n);
// The pairs of a head turned by their angles: neighbours where `interleaved`, else `pairs` apart.
void vm_rotary(
    const float *x, const float *cosines, const float *sines, size_t pairs, int interleaved, float *out);
// out = c * x, or out += c * x.
void vm_scale(const float *x, float c, float *out, size_t n);
void vm_accumulate(const float *x, float c, float *out, size_t n);

// Gradients (gradients.c): out = g * slope of the function at x.
void vm_unary_gradient(vm_unary_function function, const float *x, const float *g, float *out, size_t n);
// At both halves of vm_geglu's operand.
void vm_geglu_gradient(
    const float *first, const float *second, const float *g, float *outFirst, float *outSecond, size_t n);
// out[i] = the sum over row i of a b, with n numbers in a row; rows are `stride` apart.
void vm_row_dots(const float *a, const float *b, size_t stride, size_t rows, size_t n, float *out);
typedef struct {
  // Of the mean of gradients, of the mean of squares, and of the average of values: what stays, and of what is added.
  float kept1, added1, kept2, added2, averaged, added;
  float correction2, epsilon, rate;
  // What the value is multiplied by first.
  float shrinkage;
} vm_adamw_constants;
// One step on n elements of a state of four rows, `stride` apart.
void vm_adamw(
    const float *state, const float *gradient, float scale, vm_adamw_constants constants, size_t stride, float *out,
    size_t n);

// Rows (rows.c).
void vm_softmax(const float *x, float *out, size_t n);
void vm_layer_norm(const float *x, const float *gamma, const float *beta, float epsilon, float *out, size_t n);
void vm_rms_norm(const float *x, const float *gamma, float epsilon, float *out, size_t n);
// x is standardised by (x - mean) * scale + offset, where the offset is what rounding took from the mean.
void vm_layer_statistics(const float *x, float epsilon, float *mean, float *scale, float *offset, size_t n);
// As above with a mean and an offset of 0.
float vm_rms_scale(const float *x, float epsilon, size_t n);
double vm_sum(const float *x, size_t n);
float vm_minimum(const float *x, size_t n);
float vm_maximum(const float *x, size_t n);
void vm_add_to_doubles(const float *x, double *sums, size_t n);
// As that for `rows` rows.
void vm_add_rows_to_doubles(const float *x, size_t stride, size_t rows, double *sums, size_t n);

// Group norm over `pixels` rows of `channels` (rows.c). Writes each group's mean and sum of squared
// deviations; `scratch` holds 3 * channels doubles. Quickest where `pixels` is a multiple of 8.
void vm_group_moments(
    const float *x, size_t pixels, size_t channels, size_t groups, double *scratch, double *means,
    double *squares);
// out = act((x - mean[c]) * scale[c] + shift[c]) for each of `pixels` rows.
void vm_group_apply(
    const float *x, size_t pixels, size_t channels, const float *mean, const float *scale, const float *shift,
    int silu, float *out);

// Gradients of the norms (norm_gradients.c); y is the standardised x, h what the activation passes on of g.
// Sums of h and of h y over `pixels` rows, for each channel.
void vm_group_gradient_sums(
    const float *x, const float *g, size_t pixels, size_t channels, const float *mean, const float *scale,
    const float *offset, const float *gamma, const float *beta, int silu, double *sums, double *slopes);
// out = gain[c] h + tilt[c] y + shift[c].
void vm_group_gradient(
    const float *x, const float *g, size_t pixels, size_t channels, const float *mean, const float *scale,
    const float *offset, const float *gamma, const float *beta, int silu, const float *gain, const float *tilt,
    const float *shift, float *out);
// The gradient at a row of x; adds g y and g to the sums for gamma and beta, which may be null, as gamma may.
void vm_row_norm_gradient(
    const float *x, const float *g, const float *gamma, float mean, float scale, float offset, int centred, float *out,
    double *sumsOfSlopes, double *sums, size_t n);

// y [columns, rows] is x [rows, columns] transposed; rows lie a stride apart (transpose.c). Every bit is kept.
void vm_transpose(const float *x, size_t x_stride, size_t rows, size_t columns, float *y, size_t y_stride);
void vm_transpose_shorts(
    const uint16_t *x, size_t x_stride, size_t rows, size_t columns, uint16_t *y, size_t y_stride);

// Conversions (convert.c), to nearest even.
void vm_half_to_float(const uint16_t *x, float *out, size_t n);
void vm_float_to_half(const float *x, uint16_t *out, size_t n);
void vm_bfloat_to_float(const uint16_t *x, float *out, size_t n);
void vm_float_to_bfloat(const float *x, uint16_t *out, size_t n);
void vm_int_to_float(const int32_t *x, float *out, size_t n);
// Toward zero; out of range gives the nearest end, NaN gives 0.
void vm_float_to_int(const float *x, int32_t *out, size_t n);
size_t vm_count_non_finite(const float *x, size_t n);

typedef enum : int32_t { VM_FLOAT16, VM_BFLOAT16 } vm_narrow;

// Attention (attention.c; products with keys in product.c and product_pairs.c). Keys are packed in panels of 32, [ceil(count / 32), size, 32], zero past the last.
void vm_pack_keys(const float *keys, size_t stride, size_t count, size_t size, float *packed);
// scores [rows, 32 * panels of width] = scale * q [rows, size] keys^T; q's rows are `stride` apart.
void vm_attention_scores(
    const float *q, size_t stride, size_t rows, const float *keys, size_t panels, size_t size, float scale,
    float *scores, size_t width);
// The same of pairs of bfloat16, as vm_pair_product has them; `size` and `stride` count pairs.
void vm_attention_pair_scores(
    const float *q, size_t stride, size_t rows, const float *keys, size_t panels, size_t size, float scale,
    float *scores, size_t width);
// One block of an online softmax: in each row, scores become exp(score - maximum), and 0 from `visible` on up to n, a
// multiple of 16; `visible` grows by one a row if `grows`. Updates the rows' maxima and sums, and multiplies the
// rows of `out`, of `stride` numbers, by what the sums before were multiplied by.
void vm_softmax_rows(
    float *scores, size_t width, size_t rows, ptrdiff_t visible, int grows, size_t n, float *maxima, float *sums,
    float *out, size_t stride);
// The softmax's gradient for rows of n numbers, a multiple of 16: weights /= sum, and slopes = weights (slopes - total)
// scale. A sum of 0 gives zeros.
void vm_softmax_slopes(
    float *weights, float *slopes, size_t width, size_t rows, size_t n, const float *sums, const float *totals,
    float scale);
// out [rows, stride] += scores [rows, count of width] values [count, stride]; stride is a multiple of 16.
void vm_attention_values(
    const float *scores, size_t width, size_t rows, const float *values, size_t count, size_t stride, float *out);
// The same with scores [count, rows of width] transposed.
void vm_attention_values_transposed(
    const float *scores, size_t width, size_t rows, const float *values, size_t count, size_t stride, float *out);

// Products (product.c). A right matrix of `rows` rows is packed in panels [rows, 32], zero past the last column.
// Packs the columns first..<first + 32, times a scale; x is [rows, columns], or [columns, rows] if transposed.
void vm_pack_columns(
    const float *x, size_t rows, size_t columns, size_t first, int transposed, float scale, float *panel);
// The same of 16-bit numbers x [columns, rows], which are widened.
void vm_pack_narrow(
    vm_narrow type, const uint16_t *x, size_t rows, size_t columns, size_t first, float scale, float *panel);
// out [rows, columns of stride] = or += the sum over taps of left [rows, inner] right [taps * inner, columns]. The rows
// of a tap begin at left[tap * rows + row]. At most `longest` terms are added in a register before they go to the result:
// more would round worse, and leave the cache.
void vm_product(
    const float *const *left, size_t taps, size_t inner, size_t rows, const float *panels, size_t columns, float *out,
    size_t stride, int adds, size_t longest);
// (product_pairs.c) The same where each word of the left and of the panels is a pair of bfloat16, and `inner` counts pairs: both products
// are added in float32, denormals taken for 0. Only where the processor has AVX512_BF16.
void vm_pair_product(
    const float *const *left, size_t taps, size_t inner, size_t rows, const float *panels, size_t columns, float *out,
    size_t stride, int adds, size_t longest);

// The transforms of Winograd's tiles of 2x2 or 4x4 pixels, their side (winograd.c); (side + 2)^2 matrices lie `matrix`
// numbers apart, and numbers of channels and columns are multiples of 16.
// A panel [9 channels, 32] of a weight to as many panels [channels, 32].
void vm_winograd_weights(int side, const float *w, size_t channels, float *u, size_t matrix);
// A window's (side + 2)^2 pixels, given row by row, to as many rows of channels.
void vm_winograd_input(int side, const float *const *x, size_t channels, float *v, size_t matrix);
// A tile's rows are added to its pixels; of one beside the picture the pointer is null.
void vm_winograd_output(int side, const float *m, size_t matrix, size_t columns, float *const *y);

// Numbers in ggml's blocks (blocks.c).
typedef enum : int32_t { VM_Q8_0, VM_Q5_0, VM_Q4_0, VM_Q4_K, VM_Q6_K } vm_blocks;
// The numbers first..<first + count of the blocks.
void vm_dequantize(vm_blocks encoding, const uint8_t *blocks, size_t first, size_t count, float *out);
// As vm_pack_columns, of a weight [columns, channels, taps] in blocks; the panel's rows are [taps, channels].
void vm_pack_blocks(
    vm_blocks encoding, const uint8_t *blocks, size_t channels, size_t taps, size_t columns, size_t first, float scale,
    float *panel);

// Products of int8 (product_int8.c); LangevinTensor's Int8Rounding says how numbers are rounded, in blocks of 32.
// What `blocks` blocks of x stand for once they are rounded.
void vm_round_to_int8(const float *x, size_t blocks, float *out);
// A block of a left row: whole steps, what each is worth, and -128 times their sum.
typedef struct {
  int8_t steps[32];
  float scale;
  int32_t start;
} vm_int8_row;
// A block of a panel of 32 columns: what a step of each is worth, and by fours of the inner axis the steps, plus 128.
typedef struct {
  float scales[32];
  uint8_t steps[1024];
} vm_int8_block;
void vm_int8_rows(const float *x, size_t blocks, vm_int8_row *rows);
// As vm_pack_columns, of a weight [columns, inner] in blocks of q8_0; inner is a multiple of 32.
void vm_int8_panel(
    const uint8_t *blocks, size_t inner, size_t columns, size_t first, float scale, vm_int8_block *panel);
// out [rows, columns of stride] = or += left [rows, blocks] times the panels. Only where vm_has_vnni.
void vm_product_int8(
    const vm_int8_row *left, size_t blocks, size_t rows, const vm_int8_block *panels, size_t columns, float *out,
    size_t stride, int adds);

// Probes of one core (peak.c). 24 * lanes * count FLOP in registers; lanes 4, 8 or 16. |a| < 1 keeps it finite.
float vm_peak_multiply_add(int lanes, float a, float b, size_t count);
// Reads n floats and returns some function of them.
float vm_peak_read(const float *x, size_t n);

#endif
