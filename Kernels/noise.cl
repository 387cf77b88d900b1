// Standard normal noise: Philox 4x32-10 (Salmon et al. 2011) and Box-Muller in integer operations and single
// float multiplications and additions only, as LangevinTensor's NoiseFunction says them, so that every
// device gives the same bits. Built without -cl-mad-enable.
//
// Mapping: one work-item per block of four elements; global size [ceil(count / 4)].
// Counter (block, stream, step, 0), key (seed's low word, high word).

#pragma OPENCL FP_CONTRACT OFF

float logarithm(float u) {
  uint bits = as_uint(u);
  int exponent = (int)(bits >> 23) - 126;
  float m = as_float((bits & 0x007fffffu) | 0x3f000000u);
  if (m < 0.707106781f) {
    exponent -= 1;
    m = m + m;
  }
  const float x = m - 1.0f, z = x * x;
  float p = 7.0376836292e-2f;
  p = p * x + -1.1514610310e-1f;
  p = p * x + 1.1676998740e-1f;
  p = p * x + -1.2420140846e-1f;
  p = p * x + 1.4249322787e-1f;
  p = p * x + -1.6668057665e-1f;
  p = p * x + 2.0000714765e-1f;
  p = p * x + -2.4999993993e-1f;
  p = p * x + 3.3333331174e-1f;
  const float e = (float)exponent;
  float y = x * z * p;
  y = y + e * -2.12194440e-4f;
  y = y - 0.5f * z;
  return (x + y) + e * 0.693359375f;
}

float square_root(float y) {
  if (!(y > 0.0f)) return 0.0f;
  float r = as_float(0x5f3759dfu - (as_uint(y) >> 1));
  for (int i = 0; i < 4; ++i) r = r * (1.5f - (0.5f * y) * (r * r));
  return y * r;
}

float2 box_muller(uint a, uint b) {
  const float radius = square_root(-2.0f * logarithm((float)((a >> 8) + 1) * 0x1p-24f));
  const uint octant = b >> 29;
  float place = (float)((b >> 5) & 0xffffffu) * 0x1p-24f;
  if (octant & 1) place = 1.0f - place;
  const float x = place * 0.785398163397448f, z = x * x;
  const float sine =
      ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z + -1.6666654611e-1f) * z * x + x;
  const float cosine =
      ((2.443315711809948e-5f * z + -1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  const int swap = (octant + 1) & 2;
  const float c = swap ? sine : cosine, s = swap ? cosine : sine;
  return (float2)(radius * ((octant + 2) & 4 ? -c : c), radius * (octant & 4 ? -s : s));
}

__kernel void normal_noise(
    __global float* y, const ulong y0, const ulong count, const uint seed_low, const uint seed_high,
    const uint stream, const uint step) {
  const ulong block = get_global_id(0);
  uint4 c = (uint4)((uint)block, stream, step, 0);
  uint2 k = (uint2)(seed_low, seed_high);
  for (int round = 0; round < 10; ++round) {
    if (round > 0) k += (uint2)(0x9e3779b9u, 0xbb67ae85u);
    const uint a_high = mul_hi(0xd2511f53u, c.x), a_low = 0xd2511f53u * c.x;
    const uint b_high = mul_hi(0xcd9e8d57u, c.z), b_low = 0xcd9e8d57u * c.z;
    c = (uint4)(b_high ^ c.y ^ k.x, b_low, a_high ^ c.w ^ k.y, a_low);
  }
  const float2 first = box_muller(c.x, c.y), second = box_muller(c.z, c.w);
  const ulong i = block * 4;
  y += y0 + i;
  if (i < count) y[0] = first.x;
  if (i + 1 < count) y[1] = first.y;
  if (i + 2 < count) y[2] = second.x;
  if (i + 3 < count) y[3] = second.y;
}
