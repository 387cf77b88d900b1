// Vectors of four elements that are whole and lie at a multiple of their size: one load each on GPUs.

#define ALIGNED_f32(p, i) (*(__global const float4*)((p) + (i)))
#define ALIGNED_f16(p, i) vloada_half4(0, (p) + (i))
#define ALIGNED_bf16(p, i) as_float4(convert_uint4(*(__global const ushort4*)((p) + (i))) << 16)
#define ALIGNED(p, i) PASTE(ALIGNED_, T)(p, i)
// Of which `left` elements exist: all of them where it is aligned.
#define FETCH4(p, i, left, is_aligned) ((is_aligned) ? ALIGNED(p, i) : load_part(p, i, left))
