#ifndef DROVER_SNAPSHOT_TESTING_SAMPLE_STATE_H_
#define DROVER_SNAPSHOT_TESTING_SAMPLE_STATE_H_

#include "snapshot/compatibility.h"
#include "snapshot/microvm_state.h"

namespace drover {

// A machine of two vCPUs with every field of the model set, none to its default, that a Drover
// could have written. testdata/format_1_0.state is this very state: it never changes; a new field
// is added by another sample.
MicrovmState SampleState();
// An AMD host on which it can be restored.
HostProfile SampleHost();

// The least state that a reader takes: one vCPU, everything else as small as it can be.
MicrovmState SmallState();

}  // namespace drover

#endif  // DROVER_SNAPSHOT_TESTING_SAMPLE_STATE_H_
