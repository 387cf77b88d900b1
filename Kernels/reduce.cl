// Reductions over any axes, in two deterministic stages.
//
// The output index runs over axes of extents d and strides s of the input (the kept ones), the reduced index
// over e and t. Stage 1: work-item (output, chunk) reduces CHUNK elements to a float; global size
// [outputs, chunks]. Stage 2: `reduce_partials` combines the chunks and scales; global size [outputs].
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
