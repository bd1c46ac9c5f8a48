// Any bytes as a bzImage: it is refused, or lies in RAM above the boot data with its entry.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/boot/bzimage_loader.h"
#include "vmm/boot/synthetic_images.h"
#include "vmm/core/memory_layout.h"

namespace {

drover::GuestMemory& Memory() {
  static auto* memory = drover::GuestMemory::Create({{0, 4 << 20}})->release();
  return *memory;
}

void CheckImage(const drover::KernelImage& image) {
  DROVER_CHECK(image.footprint.start >= drover::layout::kHighMemory);
  DROVER_CHECK(image.footprint.end() <= drover::LowRamEnd(Memory()));
  DROVER_CHECK(image.footprint.Contains(image.entry));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const drover::Fd fd = drover::MakeMemoryFile({data, data + size});
  const auto file = drover::ImageFile::Open(fd.get(), drover::ImageFile::Kind::kKernel);
  DROVER_CHECK(file.ok() == (size != 0));
  if (!file.ok()) return 0;
  const auto image = drover::LoadBzImage(*file, Memory());
  if (image.ok()) CheckImage(*image);
  DROVER_CHECK(image.ok() || drover::FieldOf(image.status()) == drover::kKernelField);
  return 0;
}
