#ifndef DROVER_VMM_WORKER_COLD_MEMORY_H_
#define DROVER_VMM_WORKER_COLD_MEMORY_H_

namespace drover {

// Maps the program's pages now, which are in the page cache, so that a start does not fault them in
// one by one. DropColdMemory takes them away again.
void PopulateCode();

// Gives back what only the start needed: free heap, and the program's code, of which the kernel
// maps back the part that is still used. Costs some page faults; for a process that has become
// idle. Any thread.
void DropColdMemory();

}  // namespace drover

#endif  // DROVER_VMM_WORKER_COLD_MEMORY_H_
