// Sine and cosine of any float, to 4 ULP, which is what OpenCL asks of a driver. They are our own because on Mesa 26
// with an unpatched libclc no program that calls the driver's builds.

// The binary digits of 2 / pi, behind 32 zeros.
__constant uint two_over_pi[8] = {
    0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};

// x less the nearest multiple of pi / 2, and that multiple modulo 4: only those digits of 2 / pi are multiplied that
// do not make whole turns (Payne and Hanek 1983). Only for |x| > 32768.
float reduce_far(float x, int* quarters) {
  const uint bits = as_uint(x), digits = (bits & 0x7fffffu) | 0x800000u;
  const int first = max((int)((bits >> 23) & 0xffu) - 120, 0), word = first >> 5, shift = first & 31;
  uint window[3];
  UNROLL for (int i = 0; i < 3; ++i) {
    const ulong pair = (ulong)two_over_pi[word + i] << 32 | two_over_pi[word + i + 1];
    window[i] = (uint)((pair << shift) >> 32);
  }
  // In units of 2^-64 turns.
  const ulong turns =
      ((ulong)(digits * window[0]) << 32) + (ulong)digits * window[1] + mul_hi(digits, window[2]);
  const int nearest = (int)((turns + (1ul << 61)) >> 62);
  const float rest = (float)((long)(turns << 2) >> 2) * (1.57079632679489662f * 0x1p-62f);
  *quarters = x < 0.0f ? -nearest : nearest;
  return x < 0.0f ? -rest : rest;
}

// The same for any x. pi / 2 is taken off in parts; the products with all but the last are exact.
floatV reduce_v(floatV x, intV* quarters) {
  const floatV n = (x * 0.636619772367581343f + 12582912.0f) - 12582912.0f;
  floatV r = x - n * 1.5703125f;
  r = r - n * 0x1.fap-12f;
  r = r - n * 0x1.54p-20f;
  r = r - n * 0x1.1p-30f;
  r = r - n * 2.5633440682570896e-12f;
  *quarters = convert_intV(n);
  const intV isFar = (fabs(x) > 32768.0f) & isfinite(x);
  if (any(isFar)) {
    float each[VW];
    int turned[VW];
    vstoreV(x, each);
    EACH_PART each[j] = reduce_far(each[j], turned + j);
    r = select(r, vloadV(each), isFar);
    *quarters = select(*quarters, vloadV(turned), isFar);
  }
  return r;
}

// sin(x + quarters * pi / 2), with Cephes' polynomials.
floatV turned_sine_v(floatV x, int quarters) {
  intV q;
  const floatV r = reduce_v(x, &q), z = r * r;
  q += quarters;
  const floatV sine =
      ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z + -1.6666654611e-1f) * z * r + r;
  const floatV cosine =
      ((2.443315711809948e-5f * z + -1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  return as_floatV(as_intV(select(sine, cosine, (q & 1) != 0)) ^ ((q & 2) << 30));
}

floatV sine_v(floatV x) { return turned_sine_v(x, 0); }
floatV cosine_v(floatV x) { return turned_sine_v(x, 1); }
