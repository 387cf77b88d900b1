// Element-wise operations over contiguous elements, each work-item CHUNK of them (a multiple of VW).
//
// Global size [ceil(count / CHUNK)]. The tail goes through the same vector function, padded with zeros.

// LangevinTensor's Unary and Binary, in the order of their cases. Chosen at run time: the choice is the same for
// all elements and costs nothing beside the memory traffic, and one build serves them all.
floatV unary(int function, floatV x) {
  switch (function) {
    case 0: return silu_v(x);
    case 1: return gelu_v(x);
    case 2: return gelu_tanh_v(x);
    case 3: return quick_gelu_v(x);
    case 4: return sigmoid_v(x);
    case 5: return tanh(x);
    case 6: return exp(x);
    case 7: return log(x);
    case 8: return sqrt(x);
    case 9: return 1.0f / sqrt(x);
    case 10: return sine_v(x);
    case 11: return cosine_v(x);
    case 12: return x * x;
    case 13: return fabs(x);
    case 14: return -x;
    default: return 1.0f / x;
  }
}

floatV binary_of(int function, floatV a, floatV b) {
  switch (function) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    case 3: return a / b;
    // A NaN on either side wins, unlike in fmin and fmax.
    case 4: return select(b, a, (a < b) | isnan(a));
    case 5: return select(b, a, (a > b) | isnan(a));
    case 6: return select((floatV)(0.0f), (floatV)(1.0f), a < b);
    default: return select((floatV)(0.0f), (floatV)(1.0f), a == b);
  }
}

__kernel void map(
    __global const T_t* x, const ulong x0, __global T_t* y, const ulong y0, const ulong count,
    const int function) {
  FOR_CHUNK(count) store_part(unary(function, load_part(x, x0 + i, LEFT)), y, y0 + i, LEFT);
}

__kernel void affine(
    __global const T_t* x, const ulong x0, __global T_t* y, const ulong y0, const ulong count,
    const float scale, const float offset) {
  FOR_CHUNK(count) store_part(load_part(x, x0 + i, LEFT) * scale + offset, y, y0 + i, LEFT);
}

__kernel void clamp_range(
    __global const T_t* x, const ulong x0, __global T_t* y, const ulong y0, const ulong count,
    const float lower, const float upper) {
  FOR_CHUNK(count) {
    floatV v = load_part(x, x0 + i, LEFT);
    v = select(v, (floatV)(lower), v < lower);
    store_part(select(v, (floatV)(upper), v > upper), y, y0 + i, LEFT);
  }
}

// Both operands have the output's shape.
__kernel void binary(
    __global const T_t* a, const ulong a0, __global const T_t* b, const ulong b0, __global T_t* y,
    const ulong y0, const ulong count, const int function) {
  FOR_CHUNK(count)
  store_part(binary_of(function, load_part(a, a0 + i, LEFT), load_part(b, b0 + i, LEFT)), y, y0 + i, LEFT);
}

// Broadcast: axis k of the output has extent d[k] and strides s[k], t[k] in a and b (0 where stretched).
__kernel void binary_strided(
    __global const T_t* a, const ulong a0, __global const T_t* b, const ulong b0, __global T_t* y,
    const ulong y0, const ulong count, const int function, const int d1, const int d2, const int d3,
    const int d4, const int d5,
    const ulong s0, const ulong s1, const ulong s2, const ulong s3, const ulong s4, const ulong s5,
    const ulong t0, const ulong t1, const ulong t2, const ulong t3, const ulong t4, const ulong t5) {
  const ulong begin = get_global_id(0) * (ulong)CHUNK;
  const ulong end = min(begin + CHUNK, count);
  for (ulong i = begin; i < end; ++i) {
    ulong r = i;
    const ulong c5 = r % d5; r /= d5;
    const ulong c4 = r % d4; r /= d4;
    const ulong c3 = r % d3; r /= d3;
    const ulong c2 = r % d2; r /= d2;
    const ulong c1 = r % d1; r /= d1;
    const ulong p = a0 + r * s0 + c1 * s1 + c2 * s2 + c3 * s3 + c4 * s4 + c5 * s5;
    const ulong q = b0 + r * t0 + c1 * t1 + c2 * t2 + c3 * t3 + c4 * t4 + c5 * t5;
    STORE(binary_of(function, (floatV)(LOAD(a, p)), (floatV)(LOAD(b, q))).s0, y, y0 + i);
  }
}

// Up to 8 terms; `terms` of them are read.
#define TERM(n) __global const T_t *x##n, const ulong x##n##0, const float c##n
#define ADD(n) if (n < terms) v += c##n * load_part(x##n, x##n##0 + i, LEFT)
__kernel void linear_combination(
    __global T_t* y, const ulong y0, const ulong count, const int terms, TERM(0), TERM(1), TERM(2),
    TERM(3), TERM(4), TERM(5),
    TERM(6), TERM(7)) {
  FOR_CHUNK(count) {
    floatV v = c0 * load_part(x0, x00 + i, LEFT);
    ADD(1); ADD(2); ADD(3); ADD(4); ADD(5); ADD(6); ADD(7);
    store_part(v, y, y0 + i, LEFT);
  }
}

// x [rows, 2 * width] -> y [rows, width]. Global size [rows * chunks], with ceil(width / CHUNK) chunks a row.
__kernel void geglu(
    __global const T_t* x, const ulong x0, __global T_t* y, const ulong y0, const ulong rows,
    const ulong width, const ulong chunks) {
  const ulong row = get_global_id(0) / chunks, begin = get_global_id(0) % chunks * CHUNK;
  if (row >= rows) return;
  x += x0 + row * 2 * width;
  y += y0 + row * width;
  for (ulong i = begin, end_ = min(begin + CHUNK, width); i < end_; i += VW)
  store_part(load_part(x, i, LEFT) * gelu_v(load_part(x, width + i, LEFT)), y, i, LEFT);
}

// Rotary position embedding (arXiv:2104.09864): each pair (a, b) of a head's channels becomes (a c - b s, a s + b c).
// x [rows, heads, 2 * pairs]; c and s [tokens, pairs] are float whatever T is, and row r is token r % tokens. A pair
// lies side by side where `interleaved`, else `pairs` apart. A work-item turns CHUNK pairs, VW at a time;
// global size [ceil(rows * heads * ceil(pairs / VW) * VW / CHUNK)].
__kernel void rotary(
    __global const T_t* x, const ulong x0, __global const float* cosines, const ulong cosines0,
    __global const float* sines, const ulong sines0, __global T_t* y, const ulong y0, const ulong rows,
    const ulong tokens, const int heads, const int pairs, const int interleaved) {
  const ulong vectors = (pairs + VW - 1) / VW, begin = get_global_id(0) * (ulong)(CHUNK / VW);
  const ulong end = min(begin + CHUNK / VW, rows * heads * vectors);
  for (ulong i = begin; i < end; ++i) {
    const ulong head = i / vectors;
    const int p = (int)(i % vectors) * VW, left = min(VW, pairs - p);
    const ulong angle = head / heads % tokens * pairs + p;
    const ulong first = head * 2 * pairs + (interleaved ? 2 * p : p);
    __global const T_t* in = x + x0 + first;
    __global T_t* out = y + y0 + first;
    if (left < VW) {
      for (int j = 0; j < left; ++j) {
        const float c = cosines[cosines0 + angle + j], s = sines[sines0 + angle + j];
        const int k = interleaved ? 2 * j : j, l = interleaved ? k + 1 : k + pairs;
        const float a = LOAD(in, k), b = LOAD(in, l);
        STORE(a * c - b * s, out, k);
        STORE(a * s + b * c, out, l);
      }
      continue;
    }
    const floatV c = vloadV(cosines + cosines0 + angle), s = vloadV(sines + sines0 + angle);
    const floatV v = LOADV(in, 0), w = LOADV(in, interleaved ? VW : pairs);
    const floatV a = interleaved ? (floatV)(v.even, w.even) : v, b = interleaved ? (floatV)(v.odd, w.odd) : w;
    const floatV turned_a = a * c - b * s, turned_b = a * s + b * c;
    if (interleaved) {
      floatV low, high;
      low.even = turned_a.lo;
      low.odd = turned_b.lo;
      high.even = turned_a.hi;
      high.odd = turned_b.hi;
      STOREV(low, out, 0);
      STOREV(high, out, VW);
    } else {
      STOREV(turned_a, out, 0);
      STOREV(turned_b, out, pairs);
    }
  }
}

__kernel void fill(__global T_t* y, const ulong y0, const ulong count, const float value) {
  FOR_CHUNK(count) store_part((floatV)(value), y, y0 + i, LEFT);
}

// `found` is zeroed before.
__kernel void non_finite_count(
    __global const T_t* x, const ulong x0, __global int* found, const ulong found0, const ulong count) {
  int n = 0;
  const ulong begin = get_global_id(0) * (ulong)CHUNK;
  for (ulong i = begin; i < min(begin + CHUNK, count); ++i) {
    // By bits: some compilers fold isfinite away.
    const uint bits = as_uint((float)LOAD(x, x0 + i));
    n += (bits & 0x7f800000u) == 0x7f800000u;
  }
  if (n) atomic_add(found + found0, n);
}
