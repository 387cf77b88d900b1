// The OpenCL 1.2 core is our baseline; newer queries are made by their numeric names where present.
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl.h>
