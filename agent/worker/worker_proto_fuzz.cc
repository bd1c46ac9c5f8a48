#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "agent/worker/worker_proto.h"
#include "vmm/base/status.h"

// A worker's bytes: answers and last words.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto answer = drover::DecodeWorkerAnswer(bytes);
  if (answer.ok()) DROVER_CHECK(answer->status.message().size() <= 1024);
  const auto words = drover::DecodeLastWords(bytes, "i");
  if (words.ok()) DROVER_CHECK(drover::IsTerminal(words->state) && words->reason.size() <= 63);
  return 0;
}
