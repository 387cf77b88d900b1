// What the host holds against exact sums before any kernel uses dot_pairs (pairs.cl).
//
// y [16] = start + the sums over 4 x 2 products of a and b, each [4, 16] words of two bf16 numbers. One work-item.
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void pair_probe(
    __global const uint* a, __global const uint* b, __global float* y, const float start) {
  float16 sum = (float16)(start);
  for (int i = 0; i < 4; ++i) sum = dot_pairs(sum, vload16(i, a), vload16(i, b));
  vstore16(sum, 0, y);
}
