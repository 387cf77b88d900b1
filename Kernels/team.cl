// Reductions over the LOCAL work-items of a group (a power of two) that share a row.
//
// A team is what reduces without local memory: a subgroup where SUBGROUPS is defined (a probe has run
// `team_probe` on the device), else one work-item. Teams then meet in local memory. The order of additions is
// fixed by LOCAL and the teams' size, so that results repeat bit for bit.

#ifdef SUBGROUPS
#ifdef cl_khr_subgroups
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#endif
#define TEAM ((int)get_sub_group_id())
#define TEAMS ((int)get_num_sub_groups())
#define MEMBER ((int)get_sub_group_local_id())
#define MEMBERS ((int)get_sub_group_size())
#define team_sum(v) sub_group_reduce_add(v)
#define team_max(v) sub_group_reduce_max(v)
#else
#define TEAM ((int)get_local_id(0))
#define TEAMS LOCAL
#define MEMBER 0
#define MEMBERS 1
#define team_sum(v) (v)
#define team_max(v) (v)
#endif

#if LOCAL == 1
#define MEET(combine)
#elif defined(SUBGROUPS)
// There are few teams: every item combines all of them.
#define MEET(combine)                                       \
  if (MEMBER == 0) scratch[TEAM] = v;                       \
  barrier(CLK_LOCAL_MEM_FENCE);                             \
  v = scratch[0];                                           \
  for (int team = 1; team < TEAMS; ++team) {                \
    const float a = v, b = scratch[team];                   \
    v = combine;                                            \
  }                                                         \
  barrier(CLK_LOCAL_MEM_FENCE);
#else
#define MEET(combine)                                       \
  scratch[get_local_id(0)] = v;                             \
  barrier(CLK_LOCAL_MEM_FENCE);                             \
  for (int s = LOCAL / 2; s > 0; s /= 2) {                  \
    if (get_local_id(0) < s) {                              \
      const float a = scratch[get_local_id(0)];             \
      const float b = scratch[get_local_id(0) + s];         \
      scratch[get_local_id(0)] = combine;                   \
    }                                                       \
    barrier(CLK_LOCAL_MEM_FENCE);                           \
  }                                                         \
  v = scratch[0];                                           \
  barrier(CLK_LOCAL_MEM_FENCE);
#endif

// Over the whole work-group, in every item; scratch holds LOCAL floats. Called by all items or by none.
float group_sum(float v, __local float* scratch) {
  v = team_sum(v);
  MEET(a + b)
  return v;
}
float group_max(float v, __local float* scratch) {
  v = team_max(v);
  MEET((a >= b ? a : b))
  return v;
}
