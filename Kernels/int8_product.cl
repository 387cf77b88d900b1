// Products of int8 on CPU devices: y = epilogue(scale * A W) of a weight in q8_0, where A's rows are rounded in blocks of
// 32 as well. LangevinTensor's Int8Rounding defines the rounding.
//
// `int8_rows`: the numbers of a row to steps of their block, four in a word, and to a scale and a start for each block.
// `int8_panels`: q8_0 to panels of 32 columns, [panels, K / 4, 32] words of four rows, and [panels, K / 32, 32] scales.
// The instruction takes bytes without a sign on one side: W's bytes are 128 too large, for which -128 times the sum of a
// block's steps makes up, the start.
// `int8_product`: one work-item computes MB rows x 32 columns, as in panels.cl; of a block, sums are whole numbers.
//
// BYTES as in bytes.cl, but not 0. MR, MB a multiple of MR.
// Layouts: x [rows, K]; steps [rows, K / 4]; blocks [rows, K / 32] of (scale, start); y [rows, columns].

#define BLOCK 32
#define NR 32
#define FOR_ROWS _Pragma("unroll") for (int i = 0; i < MR; ++i)

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void int8_rows(
    __global const T_t* x, const ulong x0, __global char* steps, __global float2* blocks, const ulong count) {
  const ulong first = get_global_id(0) * (ulong)64, last = min(first + 64, count);
  for (ulong b = first; b < last; ++b) {
    float16 v[2];
    uint16 m = (uint16)(as_uint(0x1p-100f));
    for (int h = 0; h < 2; ++h) {
      v[h] = LOAD16(x, x0 + b * BLOCK + h * 16);
      m = max(m, as_uint16(v[h]) & 0x7fffffffu);
    }
    const uint8 m8 = max(m.lo, m.hi);
    const uint4 m4 = max(m8.lo, m8.hi);
    const uint2 m2 = max(m4.lo, m4.hi);
    const uint most = max(m2.x, m2.y);
    const int finite = most < 0x7f800000u;
    const float inverse = 127.0f / as_float(most);
    int16 sum = (int16)(0);
    for (int h = 0; h < 2; ++h) {
      const float16 s = finite ? v[h] * inverse : (float16)(0.0f);
      // Halves away from zero.
      const int16 q = convert_int16(s + copysign((float16)(0x1.fffffep-2f), s));
      vstore16(convert_char16(q), 0, steps + b * BLOCK + h * 16);
      sum += q;
    }
    const int8 s8 = sum.lo + sum.hi;
    const int4 s4 = s8.lo + s8.hi;
    blocks[b] = (float2)(
        finite ? as_float(most) / 127.0f : NAN, as_float(-128 * (s4.x + s4.y + s4.z + s4.w)));
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void int8_panels(
    __global const int* x, const ulong x0, __global uint* w, __global float* scales, const int inner,
    const int columns) {
  const int block = get_global_id(0), blocks = inner / BLOCK, panel = get_global_id(1);
  uint part[NR][BLOCK / 4];
  ushort halves[NR];
  for (int c = 0; c < NR; ++c) {
    const int column = panel * NR + c;
    if (column < columns) {
      __global const uchar* b = (__global const uchar*)(x + x0) + ((ulong)column * blocks + block) * 34;
      halves[c] = b[0] | b[1] << 8;
      vstore4(as_uint4(vload16(0, b + 2)), 0, part[c]);
      vstore4(as_uint4(vload16(1, b + 2)), 1, part[c]);
    } else {
      halves[c] = 0;
      for (int k = 0; k < BLOCK / 4; ++k) part[c][k] = 0;
    }
  }
  const ulong at = (ulong)panel * blocks + block;
  for (int c = 0; c < NR; c += 16) vstore16(vload_half16(0, (const half*)(halves + c)), 0, scales + at * NR + c);
  for (int k = 0; k < BLOCK / 4; ++k)
    for (int c = 0; c < NR; ++c) w[(at * (BLOCK / 4) + k) * NR + c] = part[c][k] ^ 0x80808080u;
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void int8_product(
    __global const uint* steps, __global const float2* blocks, __global const uint* w,
    __global const float* scales, __global T_t* y, const ulong y0, EPILOGUE_PARAMETERS, const float scale,
    const int rows, const int columns, const int inner, const int image_rows) {
  const int panel = get_group_id(2) * get_num_groups(0) + get_group_id(0);
  const int first = get_group_id(1) * MB, column = panel * NR, left = columns - column;
  if (left <= 0) return;
  const int count = min(MB, rows - first), depth = inner / BLOCK;
  w += (ulong)panel * depth * (BLOCK / 4) * NR;
  scales += (ulong)panel * depth * NR;
  y += y0;
  for (int t = 0; t < count; t += MR) {
    __global const uint* step[MR];
    __global const float2* by[MR];
    float16 sum[MR * 2];
    FOR_ROWS {
      const ulong row = first + min(t + i, count - 1);
      step[i] = steps + row * depth * (BLOCK / 4);
      by[i] = blocks + row * depth;
      sum[2 * i] = sum[2 * i + 1] = (float16)(0.0f);
    }
    for (int b = 0; b < depth; ++b) {
      int16 whole[MR * 2];
      FOR_ROWS whole[2 * i] = whole[2 * i + 1] = (int16)(as_int(by[i][b].y));
      __global const uint* q = w + (ulong)b * (BLOCK / 4) * NR;
      _Pragma("unroll") for (int k = 0; k < BLOCK / 4; ++k) {
        const uint16 low = vload16(0, q + k * NR), high = vload16(1, q + k * NR);
        FOR_ROWS {
          const uint16 x = (uint16)(step[i][b * (BLOCK / 4) + k]);
          whole[2 * i] = dot_bytes(whole[2 * i], low, x);
          whole[2 * i + 1] = dot_bytes(whole[2 * i + 1], high, x);
        }
      }
      const float16 low = vload16(0, scales + b * NR), high = vload16(1, scales + b * NR);
      FOR_ROWS {
        sum[2 * i] += convert_float16(whole[2 * i]) * (low * by[i][b].x);
        sum[2 * i + 1] += convert_float16(whole[2 * i + 1]) * (high * by[i][b].x);
      }
    }
    for (int i = 0; i < MR && t + i < count; ++i) {
      const int row = first + t + i, image = row / image_rows;
      const ulong at = (ulong)row * columns + column;
      EPILOGUE(scale * sum[2 * i], y, at, column, image, columns, left);
      if (left > 16) EPILOGUE(scale * sum[2 * i + 1], y, at + 16, column + 16, image, columns, left - 16);
    }
  }
}
