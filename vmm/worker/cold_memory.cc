#include "vmm/worker/cold_memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <cstdint>

#include "vmm/base/mapped_region.h"

// From the linker: the first byte of the program, and the one behind its code. All between is
// mapped from the file and never written.
extern "C" {
extern char __executable_start;
extern char etext;
}

namespace drover {

void DropColdMemory() {
  malloc_trim(0);
  const uintptr_t page = PageSize();
  const uintptr_t start = reinterpret_cast<uintptr_t>(&__executable_start);
  const uintptr_t end = reinterpret_cast<uintptr_t>(&etext) & ~(page - 1);
  if (start % page == 0 && start < end)
    madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
}

}  // namespace drover
