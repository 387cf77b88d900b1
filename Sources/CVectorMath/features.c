#define _GNU_SOURCE
#include <sched.h>

#include "CVectorMath.h"

#if defined(__x86_64__)
int vm_has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
int vm_has_avx512(void) { return __builtin_cpu_supports("x86-64-v4"); }
int vm_has_avx512_bf16(void) { return vm_has_avx512() && __builtin_cpu_supports("avx512bf16"); }
int vm_has_vnni(void) { return vm_has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#else
int vm_has_avx2(void) { return 0; }
int vm_has_avx512(void) { return 0; }
int vm_has_avx512_bf16(void) { return 0; }
int vm_has_vnni(void) { return 0; }
#endif

int vm_core_count(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return CPU_COUNT(&set);
}

int vm_allowed_cores(int *cores, int capacity) {
  cpu_set_t set;
  // More than CPU_SETSIZE cores have a longer mask.
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  int count = 0;
  for (int core = 0; core < CPU_SETSIZE && count < capacity; core++)
    if (CPU_ISSET(core, &set)) cores[count++] = core;
  return count;
}

int vm_keep_to_cores(const int *cores, int count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = 0; i < count; i++)
    if (cores[i] >= 0 && cores[i] < CPU_SETSIZE) CPU_SET(cores[i], &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}
