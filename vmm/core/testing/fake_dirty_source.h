#ifndef DROVER_VMM_CORE_TESTING_FAKE_DIRTY_SOURCE_H_
#define DROVER_VMM_CORE_TESTING_FAKE_DIRTY_SOURCE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "vmm/core/dirty_source.h"

namespace drover {

class FakeMachine;

// Of either kind, over the pages that the fake machine noted. "OpenDirtyRing" of FakeHost::Fail
// makes the host refuse a ring that it offered; "HarvestDirty" fails a harvest once its first
// slot's pages are taken.
absl::StatusOr<std::unique_ptr<DirtySource>> OpenFakeDirtySource(
    std::shared_ptr<FakeMachine> machine, const DirtySourceOptions& options);

}  // namespace drover

#endif  // DROVER_VMM_CORE_TESTING_FAKE_DIRTY_SOURCE_H_
