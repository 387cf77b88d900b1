// Numbers in blocks that share scales, in ggml's layouts (LangevinTensor's BlockEncoding defines them).
//
// BLOCKS: 0 q8_0, 1 q5_0, 2 q4_0, 3 q4_K, 4 q6_K. `block_number` gives number i, `block_numbers` the 16 from i on, a
// multiple of 16: all of them are in one block, and in one group of those that share a scale.

#ifdef BLOCKS
#define HALF_AT(p) vload_half(0, (__global const half*)(p))
#define SIGNED_AT(p) ((float)(*(__global const char*)(p)))

#if BLOCKS <= 2
#define BLOCK_SIZE 32
#else
#define BLOCK_SIZE 256
#endif

#if BLOCKS == 0
#define BLOCK_BYTES 34
float block_number(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  return HALF_AT(b) * SIGNED_AT(b + 2 + i % BLOCK_SIZE);
}
float16 block_numbers(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  return HALF_AT(b) * convert_float16(vload16(0, (__global const char*)(b + 2 + i % BLOCK_SIZE)));
}
#endif

#if BLOCKS == 1
#define BLOCK_BYTES 22
// The upper bits of all numbers.
uint high_bits(__global const uchar* b) {
  return b[2] | (uint)b[3] << 8 | (uint)b[4] << 16 | (uint)b[5] << 24;
}
float block_number(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  const int r = i % BLOCK_SIZE, byte = b[6 + r % 16];
  const int q = (r < 16 ? byte & 15 : byte >> 4) | (int)(high_bits(b) >> r & 1) << 4;
  return HALF_AT(b) * (float)(q - 16);
}
float16 block_numbers(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  const int r = i % BLOCK_SIZE;
  const uint16 bytes = convert_uint16(vload16(0, b + 6));
  const uint16 low = r < 16 ? bytes & 15u : bytes >> 4;
  const uint16 high = (uint16)(high_bits(b) >> r) >> (uint16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return HALF_AT(b) * (convert_float16(low | (high & 1u) << 4) - 16.0f);
}
#endif

#if BLOCKS == 2
#define BLOCK_BYTES 18
float block_number(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  const int r = i % BLOCK_SIZE, byte = b[2 + r % 16];
  return HALF_AT(b) * (float)((r < 16 ? byte & 15 : byte >> 4) - 8);
}
float16 block_numbers(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  const uchar16 bytes = vload16(0, b + 2);
  return HALF_AT(b) * (convert_float16(i % BLOCK_SIZE < 16 ? bytes & (uchar)15 : bytes >> (uchar)4) - 8.0f);
}
#endif

#if BLOCKS == 3
#define BLOCK_BYTES 144
// Scale and minimum of a group of 32, 6 bits each.
float2 group_scales(__global const uchar* b, int group) {
  __global const uchar* s = b + 4;
  const int scale = group < 4 ? s[group] & 63 : (s[group + 4] & 15) | s[group - 4] >> 6 << 4;
  const int least = group < 4 ? s[group + 4] & 63 : s[group + 4] >> 4 | s[group] >> 6 << 4;
  return (float2)(HALF_AT(b) * (float)scale, HALF_AT(b + 2) * (float)least);
}
float block_number(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  const int r = i % BLOCK_SIZE, byte = b[16 + r / 64 * 32 + r % 32];
  const float2 scales = group_scales(b, r / 32);
  return scales.x * (float)(r / 32 % 2 == 0 ? byte & 15 : byte >> 4) - scales.y;
}
float16 block_numbers(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  const int r = i % BLOCK_SIZE;
  const uchar16 bytes = vload16(0, b + 16 + r / 64 * 32 + r % 32);
  const float2 scales = group_scales(b, r / 32);
  return scales.x * convert_float16(r / 32 % 2 == 0 ? bytes & (uchar)15 : bytes >> (uchar)4) - scales.y;
}
#endif

#if BLOCKS == 4
#define BLOCK_BYTES 210
// Halves of 128, in which quarters of 32 share their bytes.
float block_number(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  const int r = i % BLOCK_SIZE, part = r / 128, quarter = r / 32 % 4;
  const int low = b[part * 64 + quarter % 2 * 32 + r % 32], high = b[128 + part * 32 + r % 32];
  const int q = (quarter < 2 ? low & 15 : low >> 4) | (high >> 2 * quarter & 3) << 4;
  return HALF_AT(b + 208) * SIGNED_AT(b + 192 + r / 16) * (float)(q - 32);
}
float16 block_numbers(__global const uchar* blocks, ulong i) {
  __global const uchar* b = blocks + i / BLOCK_SIZE * BLOCK_BYTES;
  const int r = i % BLOCK_SIZE, part = r / 128, quarter = r / 32 % 4;
  const uchar16 low = vload16(0, b + part * 64 + quarter % 2 * 32 + r % 32);
  const uchar16 high = vload16(0, b + 128 + part * 32 + r % 32);
  const uchar16 q = (quarter < 2 ? low & (uchar)15 : low >> (uchar)4)
      | (high >> (uchar)(2 * quarter) & (uchar)3) << (uchar)4;
  return HALF_AT(b + 208) * SIGNED_AT(b + 192 + r / 16) * (convert_float16(q) - 32.0f);
}
#endif
#endif
