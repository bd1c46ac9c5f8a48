// What the first vCPU's ring 3 does for itself: its task state and the identity map.
#ifndef E2E_GUEST_ADDRESS_SPACE_H_
#define E2E_GUEST_ADDRESS_SPACE_H_

namespace guest {

// Gives ring 3 all ports, and exceptions a ring-0 stack: before anything else.
void FillBootTask();

// Maps everything below 4 GiB, where devices are, and as much RAM above as there is and
// kMaxGigabytes allow.
void MapMemory();

}  // namespace guest

#endif  // E2E_GUEST_ADDRESS_SPACE_H_
