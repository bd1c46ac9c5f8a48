#ifndef DROVER_VMM_WORKER_COLD_MEMORY_H_
#define DROVER_VMM_WORKER_COLD_MEMORY_H_

namespace drover {

// Gives back what only the start needed: free heap, and the program's code, of which the kernel
// maps back the part that is still used. Costs some page faults; for a process that has become
// idle. Any thread.
void DropColdMemory();

}  // namespace drover

#endif  // DROVER_VMM_WORKER_COLD_MEMORY_H_
