// Any bytes as a kernel, and as its initrd: loading is refused with a field and a reason, or gives
// an entry above the boot data.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/synthetic_images.h"
#include "vmm/core/memory_layout.h"

namespace {

drover::GuestMemory& Memory() {
  static auto* memory = drover::GuestMemory::Create({{0, 4 << 20}})->release();
  return *memory;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const drover::Fd fd = drover::MakeMemoryFile({data, data + size});
  const drover::BootImageOptions options = {
      .kernel_fd = fd.get(), .initrd_fd = fd.get(), .command_line = "quiet", .vcpus = 2};
  const auto registers = drover::LoadBootImage(options, Memory());
  if (registers.ok()) {
    DROVER_CHECK(registers->rip >= drover::layout::kHighMemory);
    DROVER_CHECK(registers->rip < Memory().size());
  } else {
    DROVER_CHECK(!drover::FieldOf(registers.status()).empty());
    DROVER_CHECK(!drover::ReasonOf(registers.status()).empty());
  }
  return 0;
}
