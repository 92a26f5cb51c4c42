/* A stand-in for the driver's libnvidia-ml.so.1: PRETENDED_GPUS devices of 80 GiB (2 unless set), of which the I-th is
   25 (I + 1) % busy, holds 10 (I + 1) GiB and draws 100 (I + 1) W. PRETENDED_SLICE=1: no device tells its utilisation. */
#include <stdio.h>
#include <stdlib.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3 };
struct memory { unsigned long long total, free, used; };
struct utilization { unsigned gpu, memory; };

static long number(void *device) { return (long)device; } /* from 1 */
static unsigned count(void) { const char *said = getenv("PRETENDED_GPUS"); return said ? atoi(said) : 2; }

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *found) { *found = count(); return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  if (index >= count()) return INVALID_ARGUMENT;
  *device = (void *)(long)(index + 1);
  return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
  snprintf(text, size, "GPU-%08lx-pretended", number(device));
  return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *text, unsigned size) {
  (void)device;
  snprintf(text, size, "Pretended H100");
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, struct memory *room) {
  room->total = 80ULL << 30;
  room->used = 10ULL * number(device) << 30;
  room->free = room->total - room->used;
  return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *busy) {
  if (getenv("PRETENDED_SLICE")) return NOT_SUPPORTED;
  busy->gpu = 25 * number(device);
  busy->memory = 5;
  return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { *milliwatts = 100000 * number(device); return SUCCESS; }

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
  (void)sensor;
  *celsius = 40 + number(device);
  return SUCCESS;
}
