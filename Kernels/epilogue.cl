// What follows a product, before its only store: act(scale * acc + bias + per_image + residual).
//
// `extras` says which operands are there: 1 bias, 2 per_image, 4 residual. Choosing at run time costs nothing
// beside the product and saves a build per combination. All operands are indexed in elements; `left` is how
// many columns of the vector exist.

#define EPILOGUE_PARAMETERS                                                       \
  __global const T_t *bias, const ulong bias0, __global const T_t *per_image,     \
      const ulong per_image0, __global const T_t *residual, const ulong residual0, \
      const int extras, const int activation

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
    if (extras & 1) v_ += load_part(bias, bias0 + (column), left);                                      \
    if (extras & 2) v_ += load_part(per_image, per_image0 + (ulong)(image) * (columns) + (column), left); \
    if (extras & 4) v_ += load_part(residual, residual0 + (at), left);                              \
    store_part(activate(activation, v_), y, at, left);                                                      \
  }
