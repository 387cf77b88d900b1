// Moves elements between two strided blocks of up to six axes, bit for bit: transpose, broadcast, slice,
// concatenate, pad and nearest upsampling are all this copy with other strides.
//
// E is the element (uint, ushort). The last axis, of extent d5, is a run of `run` elements that are contiguous
// in both where `run` > 1, else strided. A work-item moves `chunk` runs; global size [ceil(runs / chunk)].

#define OFFSET(p) (c0 * p##0 + c1 * p##1 + c2 * p##2 + c3 * p##3 + c4 * p##4 + c5 * p##5)

__kernel void move(
    __global const E* x, const ulong x0, __global E* y, const ulong y0, const ulong runs, const int run,
    const int chunk,
    const int d1, const int d2, const int d3, const int d4, const int d5,
    const ulong s0, const ulong s1, const ulong s2, const ulong s3, const ulong s4, const ulong s5,
    const ulong t0, const ulong t1, const ulong t2, const ulong t3, const ulong t4, const ulong t5) {
  const ulong begin = get_global_id(0) * (ulong)chunk;
  const ulong end = min(begin + chunk, runs);
  for (ulong i = begin; i < end; ++i) {
    ulong c0 = i;
    const ulong c5 = c0 % d5; c0 /= d5;
    const ulong c4 = c0 % d4; c0 /= d4;
    const ulong c3 = c0 % d3; c0 /= d3;
    const ulong c2 = c0 % d2; c0 /= d2;
    const ulong c1 = c0 % d1; c0 /= d1;
    __global const E* in = x + x0 + OFFSET(s);
    __global E* out = y + y0 + OFFSET(t);
    int j = 0;
    for (; j + 16 <= run; j += 16) vstore16(vload16(0, in + j), 0, out + j);
    for (; j < run; ++j) out[j] = in[j];
  }
}

// table [V, C], ids [n] -> y [n, C]; an id outside the table gives a row of NAN_BITS. Global size [n].
__kernel void embedding(
    __global const E* table, const ulong table0, __global const int* ids, const ulong ids0, __global E* y,
    const ulong y0, const int rows, const int width) {
  const int id = ids[ids0 + get_global_id(0)];
  y += y0 + get_global_id(0) * (ulong)width;
  if (id < 0 || id >= rows) {
    for (int j = 0; j < width; ++j) y[j] = NAN_BITS;
  } else {
    table += table0 + (ulong)id * width;
    for (int j = 0; j < width; ++j) y[j] = table[j];
  }
}
