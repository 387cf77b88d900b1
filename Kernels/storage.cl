// Prelude of every program: how numbers are stored, and the functions that all families share.
//
// T        f32 | f16 | bf16, the storage of floating-point operands; arithmetic is always float.
// VW       elements a vector holds (4 or 16).
// f16 needs no cl_khr_fp16: vload_half and vstore_half are core. Only the wide forms are fast on CPUs.

#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)

typedef float f32_t;
typedef half f16_t;
typedef ushort bf16_t;
typedef int i32_t;

// An array stays in registers where its indices are known once loops are unrolled. Mesa's drivers do not unroll a loop
// of more than 32 turns or some 800 instructions, or with a loop in it, and one index that is not known puts the whole
// array into memory. So where much is done with each element, it is done with the first, and the others move up.
#define UNROLL _Pragma("unroll")
#define ONCE _Pragma("unroll 1")

#define load_f32(p, i) ((p)[i])
#define store_f32(v, p, i) ((p)[i] = (v))
#define load4_f32(p, i) vload4(0, (p) + (i))
#define load16_f32(p, i) vload16(0, (p) + (i))
#define store4_f32(v, p, i) vstore4(v, 0, (p) + (i))
#define store16_f32(v, p, i) vstore16(v, 0, (p) + (i))

#define load_f16(p, i) vload_half(i, p)
#define store_f16(v, p, i) vstore_half_rte(v, i, p)
#define load4_f16(p, i) vload_half4(0, (p) + (i))
#define load16_f16(p, i) vload_half16(0, (p) + (i))
#define store4_f16(v, p, i) vstore_half4_rte(v, 0, (p) + (i))
#define store16_f16(v, p, i) vstore_half16_rte(v, 0, (p) + (i))

// bfloat16: the upper half of a float, rounded to nearest even; a NaN keeps a bit so that it stays one.
#define BF16_BITS(suffix, v)                                                              \
  PASTE(convert_ushort, suffix)(select(                                                   \
      (PASTE(as_uint, suffix)(v) + 0x7fffu + ((PASTE(as_uint, suffix)(v) >> 16) & 1u)) >> 16, \
      (PASTE(as_uint, suffix)(v) >> 16) | 0x40u,                                          \
      PASTE(as_uint, suffix)(isnan(v))))
#define load_bf16(p, i) as_float((uint)(p)[i] << 16)
#define load4_bf16(p, i) as_float4(convert_uint4(vload4(0, (p) + (i))) << 16)
#define load16_bf16(p, i) as_float16(convert_uint16(vload16(0, (p) + (i))) << 16)
#define store_bf16(v, p, i) ((p)[i] = bf16_bits(v))
#define store4_bf16(v, p, i) vstore4(BF16_BITS(4, v), 0, (p) + (i))
#define store16_bf16(v, p, i) vstore16(BF16_BITS(16, v), 0, (p) + (i))

ushort bf16_bits(float v) {
  const uint bits = as_uint(v);
  return isnan(v) ? (ushort)((bits >> 16) | 0x40u) : (ushort)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#define load_i32(p, i) ((float)(p)[i])

#ifdef T
#define T_t PASTE(T, _t)
#define LOAD(p, i) PASTE(load_, T)(p, i)
#define STORE(v, p, i) PASTE(store_, T)(v, p, i)
#define LOAD16(p, i) PASTE(load16_, T)(p, i)
#define STORE16(v, p, i) PASTE(store16_, T)(v, p, i)
#define LOADV(p, i) PASTE(PASTE(load, VW), PASTE(_, T))(p, i)
#define STOREV(v, p, i) PASTE(PASTE(store, VW), PASTE(_, T))(v, p, i)
#endif

#ifdef VW
#define floatV PASTE(float, VW)
#define intV PASTE(int, VW)
#define uintV PASTE(uint, VW)
#define as_floatV PASTE(as_float, VW)
#define as_intV PASTE(as_int, VW)
#define as_uintV PASTE(as_uint, VW)
#define convert_intV PASTE(convert_int, VW)
#define convert_floatV PASTE(convert_float, VW)
#define vloadV(p) PASTE(vload, VW)(0, p)
#define vstoreV(v, p) PASTE(vstore, VW)(v, 0, p)

// A graphics card's vectors are short, and its registers have no index.
#if VW == 4
#define EACH_PART UNROLL for (int j = 0; j < VW; ++j)
#else
#define EACH_PART for (int j = 0; j < VW; ++j)
#endif

// A vector of which `left` elements exist: the rest reads as zero and is not written.
#define PARTS_OF(type, suffix, load, loadv, store, storev)                                \
  floatV PASTE(load_part, suffix)(__global const type* p, ulong i, int left) {            \
    if (left >= VW) return loadv(p, i);                                                   \
    float t[VW];                                                                          \
    EACH_PART t[j] = j < left ? load(p, i + j) : 0.0f;                                    \
    return vloadV(t);                                                                     \
  }                                                                                       \
  void PASTE(store_part, suffix)(floatV v, __global type* p, ulong i, int left) {         \
    if (left >= VW) {                                                                     \
      storev(v, p, i);                                                                    \
    } else if (left > 0) {                                                                \
      float t[VW];                                                                        \
      vstoreV(v, t);                                                                      \
      EACH_PART if (j < left) store(t[j], p, i + j);                                      \
    }                                                                                     \
  }
#define LOADV_f32(p, i) PASTE(PASTE(load, VW), _f32)(p, i)
#define STOREV_f32(v, p, i) PASTE(PASTE(store, VW), _f32)(v, p, i)
PARTS_OF(float, _f32, load_f32, LOADV_f32, store_f32, STOREV_f32)
#ifdef T
PARTS_OF(T_t, , LOAD, LOADV, STORE, STOREV)
#endif

// The loop of an element-wise work-item, over CHUNK elements, and how many of a vector exist.
#define FOR_CHUNK(count)                                                                      \
  for (ulong i = get_global_id(0) * (ulong)CHUNK, end_ = min(i + CHUNK, (ulong)(count)); i < end_; \
       i += VW)
#define LEFT ((int)min((ulong)VW, end_ - i))

// 2^x for x <= 0, in softmax: the integer part is added to the polynomial's exponent bits. 0 below 2^-126.
floatV exp2_falling_v(floatV x) {
  const floatV clamped = select(x, (floatV)(-126.0f), x < -126.0f);
  const floatV shifted = clamped + 12582912.0f;
  const floatV f = clamped - (shifted - 12582912.0f);
  floatV p = (floatV)(1.535336188319500e-4f);
  p = p * f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  const floatV result = select(as_floatV(as_intV(p) + (as_intV(shifted) << 23)), (floatV)(0.0f), x < -126.0f);
  // A NaN must not lose its bits to the integer addition.
  return select(result, x, isnan(x));
}

#define LOG2E 1.44269504088896341f

// e^x to a few ULP: x - n ln 2 in two parts, so that large arguments lose nothing. 0 below the normal range.
floatV exp_v(floatV x) {
  const intV vanishes = x < -87.3f, overflows = x > 88.72f;
  x = select(x, (floatV)(0.0f), vanishes | overflows);
  const floatV n = (x * LOG2E + 12582912.0f) - 12582912.0f;
  const floatV r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  floatV p = (floatV)(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const intV e = convert_intV(n);
  const intV half_e = e >> 1;
  p = p * as_floatV((half_e + 127) << 23) * as_floatV((e - half_e + 127) << 23);
  p = select(p, (floatV)(0.0f), vanishes);
  return select(p, (floatV)(INFINITY), overflows);
}

floatV sigmoid_v(floatV x) { return 1.0f / (1.0f + exp_v(-x)); }
floatV silu_v(floatV x) { return x / (1.0f + exp_v(-x)); }
floatV quick_gelu_v(floatV x) { return x / (1.0f + exp_v(-1.702f * x)); }

// tanh(u) = 1 - 2 / (exp(2u) + 1), so 0.5 x (1 + tanh u) = x / (1 + exp(-2u)).
floatV gelu_tanh_v(floatV x) {
  return x / (1.0f + exp_v(x * (1.0f + 0.044715f * x * x) * (-2.0f * 0.7978845608028654f)));
}

// Rational minimax approximation of erf on [-4, 4] (the coefficients that Eigen publishes).
floatV erf_v(floatV x) {
  x = select(x, (floatV)(-4.0f), x < -4.0f);
  x = select(x, (floatV)(4.0f), x > 4.0f);
  const floatV z = x * x;
  floatV p = (floatV)(-2.72614225801306e-10f);
  p = p * z + 2.77068142495902e-08f;
  p = p * z - 2.10102402082508e-06f;
  p = p * z - 5.69250639462346e-05f;
  p = p * z - 7.34990630326855e-04f;
  p = p * z - 2.95459980854025e-03f;
  p = p * z - 1.60960333262415e-02f;
  floatV q = (floatV)(-1.45660718464996e-05f);
  q = q * z - 2.13374055278905e-04f;
  q = q * z - 1.68282697438203e-03f;
  q = q * z - 7.37332916720468e-03f;
  q = q * z - 1.42647390514189e-02f;
  return x * p / q;
}
// The standard normal distribution's share below x.
floatV normal_cdf_v(floatV x) { return 0.5f * (1.0f + erf_v(x * 0.70710678118654752f)); }
floatV gelu_v(floatV x) { return x * normal_cdf_v(x); }

// LangevinTensor's Activation, in the order of its cases: a run-time choice, so that it needs no build.
floatV activate(int activation, floatV x) {
  switch (activation) {
    case 1: return silu_v(x);
    case 2: return gelu_v(x);
    case 3: return gelu_tanh_v(x);
    case 4: return quick_gelu_v(x);
    default: return x;
  }
}
#endif
