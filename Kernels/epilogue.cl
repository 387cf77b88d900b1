// What follows a product, before its only store: act(scale * acc + bias + per_image + residual).
//
// BIAS, PER_IMAGE, RESIDUAL   0 | 1, whether the operand is there
// ACTIVATION                  a floatV function of the prelude
// All operands are indexed in elements; `left` is how many columns of the vector exist.

#define EPILOGUE_PARAMETERS                                                       \
  __global const T_t *bias, const ulong bias0, __global const T_t *per_image,     \
      const ulong per_image0, __global const T_t *residual, const ulong residual0

floatV load_part(__global const T_t* p, ulong i, int left) {
  if (left >= VW) return LOADV(p, i);
  float t[VW];
  for (int j = 0; j < VW; ++j) t[j] = 0.0f;
  for (int j = 0; j < left; ++j) t[j] = LOAD(p, i + j);
  return vloadV(t);
}

void store_part(floatV v, __global T_t* p, ulong i, int left) {
  if (left >= VW) {
    STOREV(v, p, i);
  } else if (left > 0) {
    float t[VW];
    vstoreV(v, t);
    for (int j = 0; j < left; ++j) STORE(t[j], p, i + j);
  }
}

#define EPILOGUE(acc, y, at, column, image, columns, left)                                        \
  {                                                                                               \
    floatV v_ = (acc);                                                                            \
    if (BIAS) v_ += load_part(bias, bias0 + (column), left);                                      \
    if (PER_IMAGE) v_ += load_part(per_image, per_image0 + (ulong)(image) * (columns) + (column), left); \
    if (RESIDUAL) v_ += load_part(residual, residual0 + (at), left);                              \
    store_part(ACTIVATION(v_), y, at, left);                                                      \
  }
