// See cores.h. A helper thread polls for a new task for a fraction of a millisecond, then sleeps.

#include "cores.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MAX_HELPERS = 63, POLLS = 20000 };

static struct {
  pthread_mutex_t lock;
  pthread_cond_t new_task;
  atomic_int helpers, busy, open, running, asleep;
  atomic_ulong task_number;
  atomic_long next_part;
  Task *task;
  void *context;
  int64_t parts;
  int started;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .new_task = PTHREAD_COND_INITIALIZER};

static void take_parts(void) {
  for (int64_t part; (part = atomic_fetch_add(&pool.next_part, 1)) < pool.parts;) pool.task(pool.context, part);
}

static void *help(void *number) {
  unsigned long seen = 0;
  for (;;) {
    for (int n = 0; n < POLLS && atomic_load_explicit(&pool.task_number, memory_order_acquire) == seen; n++)
#if defined(__x86_64__)
      __builtin_ia32_pause();
#else
      ;
#endif
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.asleep, 1);
    while (atomic_load(&pool.task_number) == seen) pthread_cond_wait(&pool.new_task, &pool.lock);
    atomic_fetch_sub(&pool.asleep, 1);
    pthread_mutex_unlock(&pool.lock);
    seen = atomic_load(&pool.task_number);
    if ((intptr_t)number >= atomic_load(&pool.helpers)) continue;
    atomic_fetch_add(&pool.running, 1);  // before open is read: the caller clears open, then waits for running to be 0
    if (atomic_load(&pool.open)) take_parts();
    atomic_fetch_sub(&pool.running, 1);
  }
  return NULL;
}

void run_parts(Task *task, void *context, int64_t parts) {
  if (parts < 2 || !atomic_load(&pool.helpers) || atomic_exchange(&pool.busy, 1)) {
    for (int64_t part = 0; part < parts; part++) task(context, part);
    return;
  }
  pool.task = task, pool.context = context, pool.parts = parts;
  atomic_store(&pool.next_part, 0);
  atomic_store(&pool.open, 1);
  atomic_fetch_add(&pool.task_number, 1);
  if (atomic_load(&pool.asleep)) {
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.new_task);
    pthread_mutex_unlock(&pool.lock);
  }
  take_parts();
  atomic_store(&pool.open, 0);
  while (atomic_load(&pool.running))
    ;
  atomic_store(&pool.busy, 0);
}

int helper_threads(void) { return atomic_load(&pool.helpers); }

void dlbench_use_cores(int count) {
  const int helpers = count < 1 ? 0 : count - 1 > MAX_HELPERS ? MAX_HELPERS : count - 1;
  pthread_mutex_lock(&pool.lock);
  for (pthread_t thread; pool.started < helpers; pool.started++) {
    if (pthread_create(&thread, NULL, help, (void *)(intptr_t)pool.started)) break;
    pthread_detach(thread);
  }
  atomic_store(&pool.helpers, helpers < pool.started ? helpers : pool.started);
  pthread_mutex_unlock(&pool.lock);
}
