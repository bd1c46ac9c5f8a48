#include "vmm/worker/cold_memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <cstdint>
#include <span>

#include "vmm/base/mapped_region.h"

// From the linker: the first byte of the program, and the one behind its code. All between is
// mapped from the file and never written.
extern "C" {
extern char __executable_start;
extern char etext;
}

namespace drover {

namespace {

// The whole pages of the program's code and constants.
std::span<char> Code() {
  const uintptr_t page = PageSize();
  const uintptr_t start = reinterpret_cast<uintptr_t>(&__executable_start);
  const uintptr_t end = reinterpret_cast<uintptr_t>(&etext) & ~(page - 1);
  if (start % page != 0 || start >= end) return {};
  return {&__executable_start, end - start};
}

}  // namespace

void PopulateCode() {
  if (!Code().empty()) madvise(Code().data(), Code().size(), MADV_POPULATE_READ);
}

void DropColdMemory() {
  malloc_trim(0);
  if (!Code().empty()) madvise(Code().data(), Code().size(), MADV_DONTNEED);
}

}  // namespace drover
