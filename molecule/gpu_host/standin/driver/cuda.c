/* Stand-in for libcuda.so.1: two GPUs with the memory of an H100 as programs see it. */
#include <stdio.h>
#include <string.h>

static const char *const address[] = {"0000:18:00.0", "0000:2A:00.0"};

int cuInit(unsigned flags) { return flags != 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index < 0 || index > 1; }
int cuDeviceGetPCIBusId(char *text, int length, int device) {
    snprintf(text, (size_t)length, "%s", address[device]);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = 85017624576UL; return 0; }
