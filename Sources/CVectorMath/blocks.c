// Numbers in blocks that share scales, in ggml's layouts: what BlockEncoding.swift defines, as loops that vectorise.
#include "CVectorMath.h"
#include "transpose.h"

#define PANEL 32

INLINE float half_at(const uint8_t *bytes) { return half_inline((uint16_t)(bytes[0] | bytes[1] << 8)); }

INLINE void q8_block(const uint8_t *block, float *out) {
  float scale = half_at(block);
  const int8_t *q = (const int8_t *)block + 2;
  for (int i = 0; i < 32; i++) out[i] = scale * (float)q[i];
}

INLINE void q5_block(const uint8_t *block, float *out) {
  float scale = half_at(block);
  uint32_t high = block[2] | (uint32_t)block[3] << 8 | (uint32_t)block[4] << 16 | (uint32_t)block[5] << 24;
  for (int i = 0; i < 16; i++) {
    int32_t low = (block[6 + i] & 15) | (int32_t)(high >> i & 1) << 4;
    int32_t other = block[6 + i] >> 4 | (int32_t)(high >> (i + 16) & 1) << 4;
    out[i] = scale * (float)(low - 16);
    out[i + 16] = scale * (float)(other - 16);
  }
}

INLINE void q4_block(const uint8_t *block, float *out) {
  float scale = half_at(block);
  for (int i = 0; i < 16; i++) {
    out[i] = scale * (float)((block[2 + i] & 15) - 8);
    out[i + 16] = scale * (float)((block[2 + i] >> 4) - 8);
  }
}

// Scales and minima of eight groups, 6 bits each; the upper bits of the last four are those of the first four's bytes.
INLINE void q4_k_block(const uint8_t *block, float *out) {
  float scale = half_at(block), least = half_at(block + 2);
  const uint8_t *bits = block + 4, *q = block + 16;
  float factor[8], minimum[8];
  for (int g = 0; g < 4; g++) {
    factor[g] = scale * (float)(bits[g] & 63);
    minimum[g] = least * (float)(bits[g + 4] & 63);
    factor[g + 4] = scale * (float)((bits[g + 8] & 15) | bits[g] >> 6 << 4);
    minimum[g + 4] = least * (float)(bits[g + 8] >> 4 | bits[g + 4] >> 6 << 4);
  }
  for (int pair = 0; pair < 4; pair++, q += 32, out += 64)
    for (int i = 0; i < 32; i++) {
      out[i] = factor[2 * pair] * (float)(q[i] & 15) - minimum[2 * pair];
      out[i + 32] = factor[2 * pair + 1] * (float)(q[i] >> 4) - minimum[2 * pair + 1];
    }
}

INLINE void q6_k_block(const uint8_t *block, float *out) {
  float scale = half_at(block + 208);
  const int8_t *factors = (const int8_t *)block + 192;
  for (int half = 0; half < 2; half++) {
    const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half;
    for (int quarter = 0; quarter < 4; quarter++) {
      const uint8_t *bytes = low + quarter % 2 * 32;
      // Of 16 numbers that share a factor.
      for (int group = 0; group < 2; group++, out += 16) {
        float factor = scale * (float)factors[8 * half + 2 * quarter + group];
        for (int i = 0; i < 16; i++) {
          int32_t byte = bytes[16 * group + i];
          int32_t q = (quarter < 2 ? byte & 15 : byte >> 4) | (high[16 * group + i] >> 2 * quarter & 3) << 4;
          out[i] = factor * (float)(q - 32);
        }
      }
    }
  }
}

INLINE void decode_block(vm_blocks encoding, const uint8_t *block, float *out) {
  switch (encoding) {
    case VM_Q8_0: q8_block(block, out); break;
    case VM_Q5_0: q5_block(block, out); break;
    case VM_Q4_0: q4_block(block, out); break;
    case VM_Q4_K: q4_k_block(block, out); break;
    case VM_Q6_K: q6_k_block(block, out); break;
  }
}

static const size_t block_elements[] = {32, 32, 32, 256, 256};
static const size_t block_bytes[] = {34, 22, 18, 144, 210};

INLINE void decode(vm_blocks encoding, const uint8_t *blocks, size_t first, size_t count, float *out) {
  size_t elements = block_elements[encoding], bytes = block_bytes[encoding];
  const uint8_t *block = blocks + first / elements * bytes;
  size_t skipped = first % elements;
  for (; count > 0; block += bytes, skipped = 0) {
    size_t here = elements - skipped < count ? elements - skipped : count;
    if (here == elements) {
      decode_block(encoding, block, out);
    } else {
      // A row may begin and end within a block.
      float whole[256];
      decode_block(encoding, block, whole);
      memcpy(out, whole + skipped, here * sizeof *out);
    }
    out += here;
    count -= here;
  }
}

VECTORISED
void vm_dequantize(vm_blocks encoding, const uint8_t *blocks, size_t first, size_t count, float *out) {
  decode(encoding, blocks, first, count, out);
}

VECTORISED
void vm_pack_blocks(
    vm_blocks encoding, const uint8_t *blocks, size_t channels, size_t taps, size_t columns, size_t first, float scale,
    float *panel) {
  size_t rows = channels * taps, count = columns - first < PANEL ? columns - first : PANEL;
  // Columns one under another, a little apart, so that they do not share a set of the cache.
  float part[PANEL][256 + 16];
  memset(part, 0, sizeof part);
  for (size_t start = 0; start < rows; start += 256) {
    size_t here = rows - start < 256 ? rows - start : 256;
    for (size_t c = 0; c < count; c++) decode(encoding, blocks, (first + c) * rows + start, here, part[c]);
    for (size_t r = 0; r < here; r += 16) {
      float turned[16][PANEL];
      size_t some = here - r < 16 ? here - r : 16;
      transpose_inline(&part[0][r], 256 + 16, PANEL, some, 1, scale, turned[0], PANEL);
      for (size_t i = 0; i < some; i++) {
        size_t row = start + r + i;
        memcpy(panel + (row % taps * channels + row / taps) * PANEL, turned[i], sizeof turned[i]);
      }
    }
  }
}
