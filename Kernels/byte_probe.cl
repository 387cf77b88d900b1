// What the host holds against exact sums before any kernel uses dot_bytes (bytes.cl).
//
// y [16] = start + the sums over 4 x 4 products of a and b, each [4, 16] words of four bytes. One work-item.
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void byte_probe(
    __global const uint* a, __global const uint* b, __global int* y, const int start) {
  int16 sum = (int16)(start);
  for (int i = 0; i < 4; ++i) sum = dot_bytes(sum, vload16(i, a), vload16(i, b));
  vstore16(sum, 0, y);
}
