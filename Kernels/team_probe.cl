// What the host holds against its own arithmetic before any kernel uses subgroups.
//
// Item i of the one work-group of LOCAL items brings i + 1; y [8, LOCAL]: its team, the number of teams, its
// place in the team, the team's size, the team's sum and maximum, the group's sum and maximum.
__kernel __attribute__((reqd_work_group_size(LOCAL, 1, 1))) void team_probe(__global float* y) {
  __local float scratch[LOCAL];
  const float v = get_local_id(0) + 1;
  y += get_local_id(0);
  y[0 * LOCAL] = TEAM;
  y[1 * LOCAL] = TEAMS;
  y[2 * LOCAL] = MEMBER;
  y[3 * LOCAL] = MEMBERS;
  y[4 * LOCAL] = team_sum(v);
  y[5 * LOCAL] = team_max(v);
  y[6 * LOCAL] = group_sum(v, scratch);
  y[7 * LOCAL] = group_max(v, scratch);
}
