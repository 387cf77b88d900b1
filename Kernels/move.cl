// Moves elements between two strided blocks of up to six axes, bit for bit: transpose, broadcast, slice,
// concatenate, pad and nearest upsampling are all this copy with other strides.
//
// E is the element (uint, ushort). The last axis, of extent d5, is a run of `run` elements that are contiguous
// in both where `run` > 1, else strided. A work-item moves `piece` elements of each of `chunk` runs; global size
// [ceil(runs / chunk), ceil(run / piece)].

#define OFFSET(p) (c0 * p##0 + c1 * p##1 + c2 * p##2 + c3 * p##3 + c4 * p##4 + c5 * p##5)

__kernel void move(
    __global const E* x, const ulong x0, __global E* y, const ulong y0, const ulong runs,
    const ulong run, const int piece, const int chunk,
    const int d1, const int d2, const int d3, const int d4, const int d5,
    const ulong s0, const ulong s1, const ulong s2, const ulong s3, const ulong s4, const ulong s5,
    const ulong t0, const ulong t1, const ulong t2, const ulong t3, const ulong t4, const ulong t5) {
  const ulong begin = get_global_id(0) * (ulong)chunk;
  const ulong end = min(begin + chunk, runs);
  const ulong first = get_global_id(1) * (ulong)piece;
  const int count = (int)min((ulong)piece, run - first);
  for (ulong i = begin; i < end; ++i) {
    ulong c0 = i;
    const ulong c5 = c0 % d5; c0 /= d5;
    const ulong c4 = c0 % d4; c0 /= d4;
    const ulong c3 = c0 % d3; c0 /= d3;
    const ulong c2 = c0 % d2; c0 /= d2;
    const ulong c1 = c0 % d1; c0 /= d1;
    __global const E* in = x + x0 + OFFSET(s) + first;
    __global E* out = y + y0 + OFFSET(t) + first;
    int j = 0;
    for (; j + 16 <= count; j += 16) vstore16(vload16(0, in + j), 0, out + j);
    for (; j < count; ++j) out[j] = in[j];
  }
}

// On CPUs: a matrix whose rows are contiguous in x becomes one whose columns are contiguous in y, along four outer
// axes. x[c, r] = x[c * s + r], y[r, c] = y[r * t + c] for r < rows, c < columns. Tiles of 16 x 16 go through
// private memory, so that either side is touched in whole cache lines. A work-item moves 16 rows of `span`
// columns; global size [ceil(columns / span), ceil(rows / 16), outer].
#define TILE 16
__kernel void move_tiles(
    __global const E* x, const ulong x0, __global E* y, const ulong y0, const int rows, const int columns,
    const int span, const ulong s, const ulong t, const int d1, const int d2, const int d3,
    const ulong s0, const ulong s1, const ulong s2, const ulong s3,
    const ulong t0, const ulong t1, const ulong t2, const ulong t3) {
  ulong c0 = get_global_id(2);
  const ulong c3 = c0 % d3; c0 /= d3;
  const ulong c2 = c0 % d2; c0 /= d2;
  const ulong c1 = c0 % d1; c0 /= d1;
  const int row = get_global_id(1) * TILE, first = get_global_id(0) * span;
  const int last = min(first + span, columns), height = min(TILE, rows - row);
  x += x0 + c0 * s0 + c1 * s1 + c2 * s2 + c3 * s3 + row;
  y += y0 + c0 * t0 + c1 * t1 + c2 * t2 + c3 * t3 + row * t;
  for (int column = first; column < last; column += TILE) {
    const int width = min(TILE, last - column);
    E tile[TILE][TILE];
    if (height == TILE && width == TILE) {
      for (int c = 0; c < TILE; ++c) vstore16(vload16(0, x + (column + c) * s), 0, tile[c]);
      for (int r = 0; r < TILE; ++r)
        for (int c = 0; c < TILE; ++c) y[r * t + column + c] = tile[c][r];
    } else {
      for (int c = 0; c < width; ++c)
        for (int r = 0; r < height; ++r) tile[c][r] = x[(column + c) * s + r];
      for (int r = 0; r < height; ++r)
        for (int c = 0; c < width; ++c) y[r * t + column + c] = tile[c][r];
    }
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
