// Reductions over any axes, in two deterministic stages.
//
// The output index runs over axes of extents d and strides s of the input (the kept ones), the reduced index
// over e and t. Stage 1: work-item (output, chunk) reduces CHUNK elements to a float; global size
// [outputs, chunks]. Stage 2: `reduce_partials` combines the chunks and scales; global size [outputs].
// Where the last axis is kept, `reduce_columns` and `combine_parts` do the same with VW columns at a time.
// KIND 0 sum (compensated, so that long sums do not drift), 1 minimum, 2 maximum.

#define START (KIND == 0 ? 0.0f : KIND == 1 ? INFINITY : -INFINITY)
#if KIND == 0
#define COMBINE(v)                       \
  {                                      \
    const float y_ = (v) - carry;        \
    const float t_ = acc + y_;           \
    carry = isfinite(t_) ? (t_ - acc) - y_ : 0.0f; \
    acc = t_;                            \
  }
#elif KIND == 1
#define COMBINE(v) { const float v_ = (v); acc = v_ < acc || isnan(v_) ? v_ : acc; }
#else
#define COMBINE(v) { const float v_ = (v); acc = v_ > acc || isnan(v_) ? v_ : acc; }
#endif

#define UNRAVEL(i, d, s, offset)                                   \
  {                                                                \
    ulong r_ = (i);                                                \
    offset += r_ % d##5 * s##5; r_ /= d##5;                        \
    offset += r_ % d##4 * s##4; r_ /= d##4;                        \
    offset += r_ % d##3 * s##3; r_ /= d##3;                        \
    offset += r_ % d##2 * s##2; r_ /= d##2;                        \
    offset += r_ % d##1 * s##1; r_ /= d##1;                        \
    offset += r_ * s##0;                                           \
  }

__kernel void reduce(
    __global const T_t* x, const ulong x0, __global float* partial, const ulong count,
    const int d1, const int d2, const int d3, const int d4, const int d5,
    const ulong s0, const ulong s1, const ulong s2, const ulong s3, const ulong s4, const ulong s5,
    const int e1, const int e2, const int e3, const int e4, const int e5,
    const ulong t0, const ulong t1, const ulong t2, const ulong t3, const ulong t4, const ulong t5) {
  ulong base = x0;
  UNRAVEL(get_global_id(0), d, s, base)
  const ulong begin = get_global_id(1) * (ulong)CHUNK;
  const ulong end = min(begin + CHUNK, count);
  float acc = START, carry = 0.0f;
  for (ulong i = begin; i < end; ++i) {
    ulong at = base;
    UNRAVEL(i, e, t, at)
    COMBINE(LOAD(x, at))
  }
  partial[get_global_id(0) * get_global_size(1) + get_global_id(1)] = acc;
}

__kernel void reduce_partials(
    __global const float* partial, __global T_t* y, const ulong y0, const int chunks, const float scale) {
  partial += get_global_id(0) * (ulong)chunks;
  float acc = START, carry = 0.0f;
  for (int i = 0; i < chunks; ++i) COMBINE(partial[i])
  STORE(acc * scale, y, y0 + get_global_id(0));
}

#if KIND == 0
#define COMBINE_V(acc, carry, value)                              \
  {                                                               \
    const floatV y_ = (value) - carry;                            \
    const floatV t_ = acc + y_;                                   \
    carry = select((floatV)(0.0f), (t_ - acc) - y_, isfinite(t_)); \
    acc = t_;                                                     \
  }
#elif KIND == 1
#define COMBINE_V(acc, carry, value) \
  {                                  \
    const floatV v_ = (value);       \
    acc = select(acc, v_, (v_ < acc) | isnan(v_)); \
  }
#else
#define COMBINE_V(acc, carry, value) \
  {                                  \
    const floatV v_ = (value);       \
    acc = select(acc, v_, (v_ > acc) | isnan(v_)); \
  }
#endif

// The last axis, of extent `columns` and stride 1, is kept; the output index without it runs over d and s,
// the reduced index over e and t. A work-item reduces ROWS rows of one output's LANES * VW columns to
// partial [parts, outputs, columns]; global size [ceil(columns / (LANES * VW)), outputs, parts].
__kernel void reduce_columns(
    __global const T_t* x, const ulong x0, __global float* partial, const ulong count, const int columns,
    const int d1, const int d2, const int d3, const int d4, const int d5,
    const ulong s0, const ulong s1, const ulong s2, const ulong s3, const ulong s4, const ulong s5,
    const int e1, const int e2, const int e3, const int e4, const int e5,
    const ulong t0, const ulong t1, const ulong t2, const ulong t3, const ulong t4, const ulong t5) {
  const int column = get_global_id(0) * LANES * VW, left = columns - column;
  const ulong begin = get_global_id(2) * (ulong)ROWS, end = min(begin + ROWS, count);
  ulong base = x0 + column;
  UNRAVEL(get_global_id(1), d, s, base)
  partial += (get_global_id(2) * get_global_size(1) + get_global_id(1)) * (ulong)columns + column;
  floatV acc[LANES], carry[LANES];
  UNROLL for (int l = 0; l < LANES; ++l) acc[l] = (floatV)(START), carry[l] = (floatV)(0.0f);
  // The reduced index is counted up, axis by axis: a division a row would cost more than its sum.
  ulong c0 = begin;
  int c5 = c0 % e5; c0 /= e5;
  int c4 = c0 % e4; c0 /= e4;
  int c3 = c0 % e3; c0 /= e3;
  int c2 = c0 % e2; c0 /= e2;
  int c1 = c0 % e1; c0 /= e1;
  for (ulong i = begin; i < end; ++i) {
    __global const T_t* in = x + base + (c0 * t0 + c1 * t1 + c2 * t2 + c3 * t3 + c4 * t4 + c5 * t5);
    if (left >= LANES * VW) {
      UNROLL for (int l = 0; l < LANES; ++l) COMBINE_V(acc[l], carry[l], LOADV(in, l * VW))
    } else {
      UNROLL for (int l = 0; l < LANES; ++l)
        if (l * VW < left) COMBINE_V(acc[l], carry[l], load_part(in, l * VW, left - l * VW))
    }
    if (++c5 == e5) {
      c5 = 0;
      if (++c4 == e4) {
        c4 = 0;
        if (++c3 == e3) {
          c3 = 0;
          if (++c2 == e2) {
            c2 = 0;
            if (++c1 == e1) c1 = 0, ++c0;
          }
        }
      }
    }
  }
  UNROLL for (int l = 0; l < LANES; ++l)
    if (l * VW < left) store_part_f32(acc[l], partial, l * VW, left - l * VW);
}

// partial [parts, count] float32 -> y [count], times scale; the parts in order.
// Global size [ceil(count / VW)].
__kernel void combine_parts(
    __global const float* partial, __global T_t* y, const ulong y0, const ulong count, const int parts,
    const float scale) {
  const ulong first = get_global_id(0) * (ulong)VW;
  if (first >= count) return;
  const int left = (int)min((ulong)VW, count - first);
  floatV acc = (floatV)(START), carry = (floatV)(0.0f);
  for (int i = 0; i < parts; ++i) COMBINE_V(acc, carry, load_part_f32(partial, i * count + first, left))
  store_part(acc * scale, y, y0 + first, left);
}
