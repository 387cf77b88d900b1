// Conversion between storages, element by element; T the source, TARGET the output.
// Global size [ceil(count / CHUNK)]. Toward int32 the fraction is dropped and the range saturates.

#define TARGET_t PASTE(TARGET, _t)
#define store_i32(v, p, i) ((p)[i] = convert_int_sat_rtz(v))

__kernel void cast(
    __global const T_t* x, const ulong x0, __global TARGET_t* y, const ulong y0, const ulong count) {
  ulong i = get_global_id(0) * (ulong)CHUNK;
  const ulong end = min(i + CHUNK, count);
#if WIDE
  for (; i + 16 <= end; i += 16) PASTE(store16_, TARGET)(LOAD16(x, x0 + i), y, y0 + i);
#endif
  for (; i < end; ++i) PASTE(store_, TARGET)(LOAD(x, x0 + i), y, y0 + i);
}
