// The OpenCL loader, opened when the first platform is asked for. It is not linked, so that a program starts
// where there is none, uses the CPU, and can say what is missing. Without it there are no platforms, and so no
// handle with which another of these functions could be called.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

// Ours must not stand in for the functions of the same name that the loader and the drivers call.
#pragma GCC visibility push(hidden)
#include "COpenCL.h"
#pragma GCC visibility pop

// CALL(result, name, (parameters), (arguments))
#define QUERY(name, object, question) \
  CALL(cl_int, name, (object handle, question parameter, size_t size, void *value, size_t *needed), \
       (handle, parameter, size, value, needed))
#define HANDLE(name, object) CALL(cl_int, name, (object handle), (handle))
#define WAIT cl_uint count, const cl_event *list, cl_event *event
#define CALLS \
  CALL(cl_int, clGetDeviceIDs, (cl_platform_id platform, cl_device_type type, cl_uint entries, \
       cl_device_id *devices, cl_uint *found), (platform, type, entries, devices, found)) \
  QUERY(clGetPlatformInfo, cl_platform_id, cl_platform_info) \
  QUERY(clGetDeviceInfo, cl_device_id, cl_device_info) \
  QUERY(clGetProgramInfo, cl_program, cl_program_info) \
  QUERY(clGetKernelInfo, cl_kernel, cl_kernel_info) \
  CALL(cl_int, clGetKernelArgInfo, (cl_kernel kernel, cl_uint index, cl_kernel_arg_info parameter, \
       size_t size, void *value, size_t *needed), (kernel, index, parameter, size, value, needed)) \
  QUERY(clGetEventProfilingInfo, cl_event, cl_profiling_info) \
  HANDLE(clReleaseContext, cl_context) \
  HANDLE(clReleaseCommandQueue, cl_command_queue) \
  HANDLE(clReleaseMemObject, cl_mem) \
  HANDLE(clReleaseProgram, cl_program) \
  HANDLE(clReleaseKernel, cl_kernel) \
  HANDLE(clReleaseEvent, cl_event) \
  HANDLE(clFinish, cl_command_queue) \
  CALL(cl_context, clCreateContext, (const cl_context_properties *properties, cl_uint count, \
       const cl_device_id *devices, void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), \
       void *data, cl_int *code), (properties, count, devices, notify, data, code)) \
  CALL(cl_command_queue, clCreateCommandQueue, (cl_context context, cl_device_id device, \
       cl_command_queue_properties properties, cl_int *code), (context, device, properties, code)) \
  CALL(cl_mem, clCreateBuffer, (cl_context context, cl_mem_flags flags, size_t size, void *host, \
       cl_int *code), (context, flags, size, host, code)) \
  CALL(cl_int, clSetMemObjectDestructorCallback, (cl_mem memory, \
       void(CL_CALLBACK *notify)(cl_mem, void *), void *data), (memory, notify, data)) \
  CALL(cl_program, clCreateProgramWithSource, (cl_context context, cl_uint count, const char **strings, \
       const size_t *lengths, cl_int *code), (context, count, strings, lengths, code)) \
  CALL(cl_program, clCreateProgramWithBinary, (cl_context context, cl_uint count, \
       const cl_device_id *devices, const size_t *lengths, const unsigned char **binaries, cl_int *status, \
       cl_int *code), (context, count, devices, lengths, binaries, status, code)) \
  CALL(cl_int, clBuildProgram, (cl_program program, cl_uint count, const cl_device_id *devices, \
       const char *options, void(CL_CALLBACK *notify)(cl_program, void *), void *data), \
       (program, count, devices, options, notify, data)) \
  CALL(cl_int, clGetProgramBuildInfo, (cl_program program, cl_device_id device, \
       cl_program_build_info parameter, size_t size, void *value, size_t *needed), \
       (program, device, parameter, size, value, needed)) \
  CALL(cl_kernel, clCreateKernel, (cl_program program, const char *name, cl_int *code), \
       (program, name, code)) \
  CALL(cl_int, clSetKernelArg, (cl_kernel kernel, cl_uint index, size_t size, const void *value), \
       (kernel, index, size, value)) \
  CALL(cl_int, clGetKernelWorkGroupInfo, (cl_kernel kernel, cl_device_id device, \
       cl_kernel_work_group_info parameter, size_t size, void *value, size_t *needed), \
       (kernel, device, parameter, size, value, needed)) \
  CALL(cl_int, clEnqueueReadBuffer, (cl_command_queue queue, cl_mem buffer, cl_bool blocking, \
       size_t offset, size_t size, void *bytes, WAIT), \
       (queue, buffer, blocking, offset, size, bytes, count, list, event)) \
  CALL(cl_int, clEnqueueWriteBuffer, (cl_command_queue queue, cl_mem buffer, cl_bool blocking, \
       size_t offset, size_t size, const void *bytes, WAIT), \
       (queue, buffer, blocking, offset, size, bytes, count, list, event)) \
  CALL(cl_int, clEnqueueFillBuffer, (cl_command_queue queue, cl_mem buffer, const void *pattern, \
       size_t patternSize, size_t offset, size_t size, WAIT), \
       (queue, buffer, pattern, patternSize, offset, size, count, list, event)) \
  CALL(cl_int, clEnqueueCopyBuffer, (cl_command_queue queue, cl_mem source, cl_mem destination, \
       size_t from, size_t to, size_t size, WAIT), \
       (queue, source, destination, from, to, size, count, list, event)) \
  CALL(cl_int, clEnqueueNDRangeKernel, (cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, \
       const size_t *offset, const size_t *global, const size_t *local, WAIT), \
       (queue, kernel, dimensions, offset, global, local, count, list, event))

#define CALL(result, name, parameters, arguments) __typeof__(&name) name;
static struct {
  const char *problem;
  void *library;
  __typeof__(&clGetPlatformIDs) clGetPlatformIDs;
  CALLS
} loader;
#undef CALL

static void *find(const char *name) {
  // A library loaded before us, as oclgrind's is, goes before the system's loader.
  void *function = dlsym(RTLD_DEFAULT, name);
  if (!function && !loader.problem) {
    if (!loader.library) loader.library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    function = loader.library ? dlsym(loader.library, name) : NULL;
    // The message lives until the next error of this thread, so it is kept.
    if (!function) loader.problem = strdup(dlerror());
  }
  return function;
}

static void load(void) {
  loader.clGetPlatformIDs = find("clGetPlatformIDs");
#define CALL(result, name, parameters, arguments) loader.name = find(#name);
  CALLS
#undef CALL
}

const char *opencl_loader_problem(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  return loader.problem;
}

cl_int CL_API_CALL clGetPlatformIDs(cl_uint entries, cl_platform_id *platforms, cl_uint *found) {
  if (opencl_loader_problem()) return -1001;  // CL_PLATFORM_NOT_FOUND_KHR: as a loader without drivers says
  return loader.clGetPlatformIDs(entries, platforms, found);
}

#define CALL(result, name, parameters, arguments) \
  result CL_API_CALL name parameters { return loader.name arguments; }
CALLS
