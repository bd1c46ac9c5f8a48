// Any bytes as a manifest, and with a right sum: refused with a reason, or written back the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"
#include "snapshot/crc64.h"
#include "snapshot/manifest.h"
#include "vmm/base/status.h"

namespace {

void Check(absl::string_view text) {
  const auto manifest = drover::ParseManifest(text);
  if (!manifest.ok()) {
    DROVER_CHECK(!drover::ReasonOf(manifest.status()).empty());
    return;
  }
  for (const drover::Manifest::File& file : manifest->files)
    DROVER_CHECK(drover::IsSnapshotName(file.name));
  const auto again = drover::ParseManifest(drover::FormatManifest(*manifest));
  DROVER_CHECK(again.ok() && *again == *manifest);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  Check(text);
  // Past the sum, which a mutation hardly meets: the seeds' sums are replaced.
  const size_t sum = text.rfind("crc64 ");
  const absl::string_view body = text.substr(0, sum == absl::string_view::npos ? size : sum);
  Check(absl::StrFormat("%scrc64 %016x\n", body, drover::Crc64(body)));
  return 0;
}
