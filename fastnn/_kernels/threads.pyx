"""The worker threads: they and the caller take the chunks of a task until none is left.

Where a task is cut depends on its size alone, never on the number of threads, so neither do results.  The caller waits
for chunks that a worker has begun, never for a worker to wake up: if they come late, it has done the work by itself.
A caller that finds the workers busy with another's task does the same.

Threads and locks are CPython's own, the same on every platform, and a worker never touches Python.  Workers start with
the first task that is cut.  After a task they look out for the next one for a while before they sleep, since waking
takes longer than most tasks, and hand their processor to whoever wants it each time they look.
"""

from cpython.pythread cimport (
    NOWAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_release_lock,
    PyThread_type_lock,
    WAIT_LOCK,
)

import os

from fastnn import arguments

cdef extern from "Python.h":
    const unsigned long PYTHREAD_INVALID_THREAD_ID

cdef extern from *:
    """
    #include <time.h>
    #ifdef _WIN32
    #include <windows.h>
    #define fastnn_give_way() SwitchToThread()
    typedef volatile Py_ssize_t fastnn_shared;
    #else
    typedef _Atomic Py_ssize_t fastnn_shared;
    #include <sched.h>
    #include <signal.h>
    #define fastnn_give_way() sched_yield()
    #endif

    /* With all signals blocked: they are for the threads that the program knows of. */
    static unsigned long fastnn_start_thread(void (*function)(void *), void *argument)
    {
        unsigned long thread;
    #ifndef _WIN32
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
    #endif
        thread = PyThread_start_new_thread(function, argument);
    #ifndef _WIN32
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    #endif
        return thread;
    }

    static double fastnn_seconds(void)
    {
        struct timespec now;
        timespec_get(&now, TIME_UTC);
        return now.tv_sec + 1e-9 * now.tv_nsec;
    }
    """
    ctypedef Py_ssize_t shared "fastnn_shared"
    void give_way "fastnn_give_way" () noexcept nogil
    double seconds "fastnn_seconds" () noexcept nogil
    unsigned long start_thread "fastnn_start_thread" (void (*function)(void*) noexcept nogil, void* argument) nogil

cdef enum:
    MOST = 256
    LOOKS = 100

cdef double A_WHILE = 500e-6  # seconds

cdef struct Worker:
    Py_ssize_t number
    bint started
    bint asleep
    PyThread_type_lock wake  # held, but for the moment in which it lets its worker go on

cdef struct Pool:
    PyThread_type_lock lock  # of all that follows
    PyThread_type_lock finished  # held, but for the moment in which it lets a waiting caller go on
    Worker workers[MOST - 1]
    shared threads  # workers and caller; the shared ones are looked at without the lock too, for hints
    bint busy
    bint waiting
    Work work
    const void* task
    Py_ssize_t n
    Py_ssize_t length
    shared chunks
    shared next
    shared unfinished

cdef Pool pool

NO_LOCK = "no lock could be made for the threads"


cdef inline bint not_long_since(double start) noexcept nogil:
    # Somebody may set the clock back.
    return 0 <= seconds() - start < A_WHILE


cdef void take_lock() noexcept nogil:
    # It is never held for long, and sleeping for it would cost more than a chunk.
    cdef int _
    for _ in range(LOOKS):
        if PyThread_acquire_lock(pool.lock, NOWAIT_LOCK):
            return
        give_way()
    PyThread_acquire_lock(pool.lock, WAIT_LOCK)


cdef inline void run_chunk(Work work, const void* task, Py_ssize_t n, Py_ssize_t length, Py_ssize_t k) noexcept nogil:
    work(task, k * length, min(n, (k + 1) * length), k)


cdef inline bint work_on() noexcept nogil:
    """Do one chunk if there is one.  The lock is held before and after, not meanwhile."""
    cdef Py_ssize_t k = pool.next
    if k >= pool.chunks:
        return False
    pool.next += 1
    PyThread_release_lock(pool.lock)
    run_chunk(pool.work, pool.task, pool.n, pool.length, k)
    take_lock()
    pool.unfinished -= 1
    return True


cdef void live(void* argument) noexcept nogil:
    """The life of a worker."""
    cdef Worker* worker = <Worker*> argument
    take_lock()
    while True:
        while worker.number < pool.threads and work_on():
            if pool.unfinished == 0 and pool.waiting:
                pool.waiting = False
                PyThread_release_lock(pool.finished)
        PyThread_release_lock(pool.lock)
        start = seconds()
        while pool.next >= pool.chunks and not_long_since(start):
            give_way()
        take_lock()
        if pool.next >= pool.chunks or worker.number >= pool.threads:
            worker.asleep = True
            PyThread_release_lock(pool.lock)
            PyThread_acquire_lock(worker.wake, WAIT_LOCK)
            take_lock()


cdef inline void call(Worker* worker) noexcept nogil:
    if worker.asleep:
        worker.asleep = False
        PyThread_release_lock(worker.wake)
    elif not worker.started:
        # If the system has no thread to give, the others do the work.
        worker.started = start_thread(live, worker) != PYTHREAD_INVALID_THREAD_ID


cdef void run(Work work, const void* task, Py_ssize_t n, Py_ssize_t length) noexcept nogil:
    """Do `work` of `task` for every chunk of `length` of its n units; the last chunk may be shorter."""
    cdef Py_ssize_t k, chunks = (n + length - 1) // length
    cdef double start
    if chunks > 1 and pool.threads > 1:
        take_lock()
        if not pool.busy:
            pool.busy = True
            pool.work, pool.task, pool.n, pool.length = work, task, n, length
            pool.next, pool.chunks, pool.unfinished = 0, chunks, chunks
            for k in range(min(pool.threads, chunks) - 1):
                call(&pool.workers[k])
            while work_on():
                pass
            PyThread_release_lock(pool.lock)
            start = seconds()
            while pool.unfinished and not_long_since(start):
                give_way()
            take_lock()
            while pool.unfinished:
                pool.waiting = True
                PyThread_release_lock(pool.lock)
                PyThread_acquire_lock(pool.finished, WAIT_LOCK)
                take_lock()
            pool.busy = False
            PyThread_release_lock(pool.lock)
            return
        PyThread_release_lock(pool.lock)
    for k in range(chunks):
        run_chunk(work, task, n, length, k)


cdef PyThread_type_lock held_lock() noexcept:
    cdef PyThread_type_lock lock = PyThread_allocate_lock()
    if lock != NULL:
        PyThread_acquire_lock(lock, WAIT_LOCK)
    return lock


cdef bint locks_for(Py_ssize_t threads) noexcept:
    cdef Py_ssize_t k
    for k in range(threads - 1):
        if pool.workers[k].wake == NULL:
            pool.workers[k].wake = held_lock()
            if pool.workers[k].wake == NULL:
                return False
    return True


def _no_workers():
    """The pool as it is before its first task; in a forked child, which has none of its parent's threads, again."""
    cdef Py_ssize_t k
    pool.lock, pool.finished = PyThread_allocate_lock(), held_lock()
    for k in range(MOST - 1):
        pool.workers[k] = Worker(number=k + 1, started=False, asleep=False, wake=NULL)
    pool.busy = pool.waiting = False
    pool.next = pool.chunks = pool.unfinished = 0
    if pool.lock == NULL or pool.finished == NULL or not locks_for(pool.threads):
        raise MemoryError(NO_LOCK)


def get_num_threads():
    """How many threads an op on a large array may use, the caller's among them."""
    return pool.threads


def set_num_threads(threads):
    """
    Bound the threads that an op on a large array may use, for the whole process.

    Parameters
    ----------
    threads : int
        From 1, which keeps to the caller's thread, to 256.  At the start it is the environment variable
        ``FASTNN_NUM_THREADS``, or else the number of processors this process may use.

    Notes
    -----
    Results do not depend on it.  NumPy's matrix products have threads of their own.
    """
    cdef Py_ssize_t checked = arguments.whole_number("threads", threads, 1, MOST)
    # No Python while the lock is held: another thread may wait for it and hold up all of Python meanwhile.
    take_lock()
    cdef bint enough = locks_for(checked)
    if enough:
        pool.threads = checked
    PyThread_release_lock(pool.lock)
    if not enough:
        raise MemoryError(NO_LOCK)


def _at_start():
    variable = "FASTNN_NUM_THREADS"
    given = os.environ.get(variable, "").strip()
    if not given:
        return min(MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if not given.isdecimal() or not 1 <= int(given) <= MOST:
        raise ValueError(f"{variable} must be a whole number from 1 to {MOST}, not {given!r}")
    return int(given)


pool.threads = _at_start()
_no_workers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_no_workers)
