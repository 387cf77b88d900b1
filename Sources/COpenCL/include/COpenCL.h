// OpenCL 1.2 is the baseline. What newer versions add is asked for by number, and absent answers are fine.
#pragma once
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <fts.h>
#include <malloc.h>
#ifndef CL_DEVICE_MAX_NUM_SUB_GROUPS
#define CL_DEVICE_MAX_NUM_SUB_GROUPS 0x105C
#endif

// Why the OpenCL loader (libOpenCL.so.1) cannot be used, in the dynamic linker's words; null where it can.
const char *opencl_loader_problem(void);
