"""The block cache: large results are made in memory that a dead array has left, which costs no page faults.

NumPy asks the allocator here for the memory of such an array and gives it back to it when the array dies (NEP 49), so
a block in the cache belongs to nobody and nothing can be aliased.  Blocks come in sizes an eighth of a power of two
apart; a request takes a block of its own size, the one returned last.  What is beyond the limit goes back to the
system, the longest unused first.
"""

from cpython.pycapsule cimport PyCapsule_New
from cpython.pythread cimport (
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_release_lock,
    PyThread_type_lock,
    WAIT_LOCK,
)
from libc.stddef cimport size_t
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strcpy

cimport numpy as cnp

import os
import sys

from fastnn import arguments

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    ctypedef struct Allocator "PyDataMemAllocator":
        void* (*malloc)(void* ctx, size_t size) noexcept nogil
        void* (*calloc)(void* ctx, size_t n, size_t size) noexcept nogil
        void* (*realloc)(void* ctx, void* data, size_t size) noexcept nogil
        void (*free)(void* ctx, void* data, size_t size) noexcept nogil
    ctypedef struct Handler "PyDataMem_Handler":
        char name[127]
        unsigned char version
        Allocator allocator
    object PyDataMem_SetHandler(object handler)

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/mman.h>
    static void fastnn_huge_pages(void *data, size_t size) { madvise(data, size, MADV_HUGEPAGE); }
    #else
    static void fastnn_huge_pages(void *data, size_t size) { (void) data; (void) size; }
    #endif

    /* In a debug build AddressSanitizer refuses what no array lives in, though it is allocated. */
    #ifdef FASTNN_DEBUG
    #include <sanitizer/asan_interface.h>
    #else
    #define ASAN_POISON_MEMORY_REGION(data, size) ((void) (data), (void) (size))
    #define ASAN_UNPOISON_MEMORY_REGION(data, size) ((void) (data), (void) (size))
    #endif
    """
    void huge_pages "fastnn_huge_pages" (void* data, size_t size) noexcept nogil
    void forbid "ASAN_POISON_MEMORY_REGION" (void* data, size_t size) noexcept nogil
    void allow "ASAN_UNPOISON_MEMORY_REGION" (void* data, size_t size) noexcept nogil

cdef enum:
    # A page.  A result that begins a little further into its page than the input makes every load wait for a store that
    # only seems to overlap it, since processors first compare the lowest 12 bits of addresses.
    PAGE = 4096
    # Blocks of this many bytes or more have huge pages, on Linux, which gives one only to the whole of its memory.
    HUGE = 4 << 20
    HUGE_PAGE = 2 << 20

# Stands in front of the data.
cdef struct Block:
    size_t size
    void* memory
    Block* newer
    Block* older

cdef struct Cache:
    Block* newest
    Block* oldest
    size_t blocks
    size_t cached
    size_t limit
    size_t in_use
    size_t hits
    size_t misses

cdef Cache cache
cdef PyThread_type_lock lock = PyThread_allocate_lock()
cache.limit = 512 << 20


cdef inline Block* block_of(void* data) noexcept nogil:
    return (<Block*> data) - 1


cdef inline size_t size_class(size_t size) noexcept nogil:
    cdef size_t step = 1
    while size >> 4 >= step:
        step <<= 1
    return (size + step - 1) & ~(step - 1)


cdef void unlink(Block* block) noexcept nogil:
    if block.newer != NULL:
        block.newer.older = block.older
    else:
        cache.newest = block.older
    if block.older != NULL:
        block.older.newer = block.newer
    else:
        cache.oldest = block.newer
    cache.blocks -= 1
    cache.cached -= block.size


cdef Block* beyond(size_t limit) noexcept nogil:
    """Take the longest unused blocks out of the cache until it holds at most `limit` bytes; they hang on `older`."""
    cdef Block* out = NULL
    cdef Block* block
    while cache.cached > limit:
        block = cache.oldest
        unlink(block)
        block.older = out
        out = block
    return out


cdef void to_system(Block* block) noexcept nogil:
    cdef Block* next
    while block != NULL:
        next = block.older
        allow(block + 1, block.size)
        free(block.memory)
        block = next


cdef inline void* lent(Block* block, size_t size) noexcept nogil:
    """The memory of a block, for an array of `size` bytes."""
    forbid(block + 1, block.size)
    allow(block + 1, size)
    return block + 1


cdef void* take(void* ctx, size_t asked) noexcept nogil:
    cdef Block* block
    cdef void* memory
    cdef uintptr_t data, alignment
    cdef size_t size
    if asked > (<size_t> -1) // 2:
        return NULL
    size = size_class(asked)
    PyThread_acquire_lock(lock, WAIT_LOCK)
    block = cache.newest
    while block != NULL and block.size != size:
        block = block.older
    if block != NULL:
        unlink(block)
        cache.hits += 1
        cache.in_use += size
    PyThread_release_lock(lock)
    if block != NULL:
        return lent(block, asked)
    alignment = HUGE_PAGE if size >= HUGE else PAGE
    memory = malloc(size + sizeof(Block) + alignment)
    if memory == NULL:
        return NULL
    data = (<uintptr_t> memory + sizeof(Block) + alignment - 1) & ~(alignment - 1)
    if size >= HUGE:
        huge_pages(<void*> data, size)
    block = block_of(<void*> data)
    block.size = size
    block.memory = memory
    PyThread_acquire_lock(lock, WAIT_LOCK)
    cache.misses += 1
    cache.in_use += size
    PyThread_release_lock(lock)
    return lent(block, asked)


cdef void give(void* ctx, void* data, size_t size) noexcept nogil:
    cdef Block* block
    cdef Block* out
    if data == NULL:
        return
    block = block_of(data)
    forbid(data, block.size)
    PyThread_acquire_lock(lock, WAIT_LOCK)
    cache.in_use -= block.size
    block.newer = NULL
    block.older = cache.newest
    if cache.newest != NULL:
        cache.newest.newer = block
    else:
        cache.oldest = block
    cache.newest = block
    cache.blocks += 1
    cache.cached += block.size
    out = beyond(cache.limit)
    PyThread_release_lock(lock)
    to_system(out)


cdef void* take_zeroed(void* ctx, size_t n, size_t size) noexcept nogil:
    cdef void* data
    if size and n > (<size_t> -1) // size:
        return NULL
    data = take(ctx, n * size)
    if data != NULL:
        memset(data, 0, n * size)
    return data


cdef void* take_again(void* ctx, void* data, size_t size) noexcept nogil:
    cdef void* new
    if data != NULL and size <= block_of(data).size:
        return lent(block_of(data), size)
    new = take(ctx, size)
    if new != NULL and data != NULL:
        allow(data, block_of(data).size)
        memcpy(new, data, block_of(data).size)
        give(ctx, data, 0)
    return new


cdef Handler handler
strcpy(handler.name, "fastnn_block_cache")
handler.version = 1
handler.allocator.malloc = take
handler.allocator.calloc = take_zeroed
handler.allocator.realloc = take_again
handler.allocator.free = give
cdef object capsule = PyCapsule_New(&handler, "mem_handler", NULL)


cdef cnp.ndarray large(int ndim, cnp.npy_intp* shape, int type_num):
    """An uninitialised C-contiguous array in memory from the cache."""
    cdef cnp.npy_intp[cnp.NPY_MAXDIMS] kept
    # A change of the handler may start a collection, and that code which reshapes the array whose shape this is.
    memcpy(kept, shape, ndim * sizeof(cnp.npy_intp))
    before = PyDataMem_SetHandler(capsule)
    try:
        return cnp.PyArray_EMPTY(ndim, kept, type_num, 0)
    finally:
        PyDataMem_SetHandler(before)


def _after_fork():
    # Another thread may have held the lock when the process forked.
    global lock
    lock = PyThread_allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def memory_stats():
    """
    What the block cache holds and has done.

    Returns
    -------
    dict of str to int
        ``allocated_bytes`` in living arrays; ``cached_bytes`` and ``cached_blocks`` left by dead ones; ``limit_bytes``
        that the cache may hold; ``hits``, requests met from the cache; ``misses``, requests that went to the system.
    """
    PyThread_acquire_lock(lock, WAIT_LOCK)
    cdef Cache now = cache
    PyThread_release_lock(lock)
    return {
        "allocated_bytes": now.in_use,
        "cached_bytes": now.cached,
        "cached_blocks": now.blocks,
        "limit_bytes": now.limit,
        "hits": now.hits,
        "misses": now.misses,
    }


def empty_cache():
    """Give all cached memory back to the system.  Living arrays keep theirs."""
    PyThread_acquire_lock(lock, WAIT_LOCK)
    cdef Block* out = beyond(0)
    PyThread_release_lock(lock)
    to_system(out)


def set_cache_limit(nbytes):
    """
    Bound the memory of dead arrays that is kept for new ones.

    Parameters
    ----------
    nbytes : int
        At least 0, which keeps nothing; 512 MiB at the start.  What is beyond goes back to the system at once.
    """
    cdef size_t limit = arguments.whole_number("nbytes", nbytes, 0, sys.maxsize)
    PyThread_acquire_lock(lock, WAIT_LOCK)
    cache.limit = limit
    cdef Block* out = beyond(limit)
    PyThread_release_lock(lock)
    to_system(out)
