// Other cores help: the parts of a task are done by whoever is free, and bits do not depend on whom.
//
// A task may only be divided so that no part adds to what another one writes. Helpers look for work for a fraction of a
// millisecond, then sleep. Only one caller at a time is helped; others do their parts themselves.

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

typedef void Task(void *context, int64_t part);

enum { MOST_HELPERS = 63, LOOKS = 20000 };

static struct {
  pthread_mutex_t lock;
  pthread_cond_t work;
  atomic_int helpers, taken, open, inside, asleep;
  atomic_ulong round;
  atomic_long next;
  Task *task;
  void *context;
  int64_t parts;
  int started;
} cores = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static void do_parts(void) {
  for (int64_t part; (part = atomic_fetch_add(&cores.next, 1)) < cores.parts;) cores.task(cores.context, part);
}

static void *help(void *number) {
  unsigned long seen = 0;
  for (;;) {
    for (int look = 0; look < LOOKS && atomic_load_explicit(&cores.round, memory_order_acquire) == seen; look++)
#if defined(__x86_64__)
      __builtin_ia32_pause();
#else
      ;
#endif
    pthread_mutex_lock(&cores.lock);
    atomic_fetch_add(&cores.asleep, 1);
    while (atomic_load(&cores.round) == seen) pthread_cond_wait(&cores.work, &cores.lock);
    atomic_fetch_sub(&cores.asleep, 1);
    pthread_mutex_unlock(&cores.lock);
    seen = atomic_load(&cores.round);
    if ((intptr_t)number >= atomic_load(&cores.helpers)) continue;
    atomic_fetch_add(&cores.inside, 1);  // before the look at open: the caller closes, then waits for those inside
    if (atomic_load(&cores.open)) do_parts();
    atomic_fetch_sub(&cores.inside, 1);
  }
  return NULL;
}

// Do a task's parts, in any order, with as much help as there is.
static void divide(Task *task, void *context, int64_t parts) {
  if (parts < 2 || !atomic_load(&cores.helpers) || atomic_exchange(&cores.taken, 1)) {
    for (int64_t part = 0; part < parts; part++) task(context, part);
    return;
  }
  cores.task = task, cores.context = context, cores.parts = parts;
  atomic_store(&cores.next, 0);
  atomic_store(&cores.open, 1);
  atomic_fetch_add(&cores.round, 1);
  if (atomic_load(&cores.asleep)) {
    pthread_mutex_lock(&cores.lock);
    pthread_cond_broadcast(&cores.work);
    pthread_mutex_unlock(&cores.lock);
  }
  do_parts();
  atomic_store(&cores.open, 0);
  while (atomic_load(&cores.inside))
    ;
  atomic_store(&cores.taken, 0);
}

// How many cores this process may use; helpers are started when first needed, and rest when they are not.
void dlbench_use_cores(int count) {
  const int helpers = count < 1 ? 0 : count - 1 > MOST_HELPERS ? MOST_HELPERS : count - 1;
  pthread_mutex_lock(&cores.lock);
  for (pthread_t thread; cores.started < helpers; cores.started++) {
    if (pthread_create(&thread, NULL, help, (void *)(intptr_t)cores.started)) break;
    pthread_detach(thread);
  }
  atomic_store(&cores.helpers, helpers < cores.started ? helpers : cores.started);
  pthread_mutex_unlock(&cores.lock);
}
