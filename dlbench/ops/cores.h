// A thread pool: the parts of a task run on several cores. Results do not depend on which core runs which part.

#ifndef DLBENCH_CORES_H_
#define DLBENCH_CORES_H_

#include <stdint.h>

// One part of a task. No part may write where another one reads or writes.
typedef void Task(void *context, int64_t part);

#pragma GCC visibility push(hidden)

// Run the parts 0 to parts - 1 of a task, in any order, and return when all are done. One caller at a time gets the
// threads of the pool; others run their parts themselves.
void run_parts(Task *task, void *context, int64_t parts);

// The number of threads that may help a caller.
int helper_threads(void);

#pragma GCC visibility pop

// Set how many cores this process may use in all. Threads are started when first needed and sleep when they are not.
void dlbench_use_cores(int count);

#endif
