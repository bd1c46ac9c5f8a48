#ifndef DROVER_SNAPSHOT_MISMATCH_LIST_H_
#define DROVER_SNAPSHOT_MISMATCH_LIST_H_

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "snapshot/compatibility.h"

namespace drover {

// Collects mismatches; one that differs from another only in its vCPU counts up there.
class MismatchList {
 public:
  static constexpr size_t kMost = 256;

  void Add(Mismatch mismatch) {
    if (list_.size() < kMost) list_.push_back(std::move(mismatch));
  }
  void AddOfVcpu(Mismatch mismatch) {
    const auto same = std::ranges::find_if(list_, [&](const Mismatch& other) {
      return other.vcpus != 0 && other.reason == mismatch.reason && other.what == mismatch.what &&
             other.file == mismatch.file && other.host == mismatch.host;
    });
    mismatch.vcpus = 1;
    if (same == list_.end()) return Add(std::move(mismatch));
    ++same->vcpus;
  }
  std::vector<Mismatch> Take() { return std::move(list_); }

 private:
  std::vector<Mismatch> list_;
};

// Adds what contradicts itself in a state, whatever the host.
void AddInvariants(const MicrovmState& state, MismatchList* out);

}  // namespace drover

#endif  // DROVER_SNAPSHOT_MISMATCH_LIST_H_
