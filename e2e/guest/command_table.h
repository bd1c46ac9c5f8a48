// The functions behind the verbs (README.md): each prints its one answer line.
#ifndef E2E_GUEST_COMMAND_TABLE_H_
#define E2E_GUEST_COMMAND_TABLE_H_

#include "e2e/guest/arguments.h"

namespace guest {

// memory_commands.cc
void Touch(Arguments& arguments);
void Verify(Arguments& arguments);
void ChecksumCommand(Arguments& arguments);
void Poke(Arguments& arguments);

// time_commands.cc
void Ticks(Arguments& arguments);
void Timer(Arguments& arguments);
void Gap(Arguments& arguments);
void Idle(Arguments& arguments);
void Sleep(Arguments& arguments);

// nested_command.cc
void NestedCommand(Arguments& arguments);

// end_commands.cc: the VM ends, or vCPU 0 no longer answers. An answer is printed before.
void Halt(Arguments& arguments);
void PowerOff(Arguments& arguments);
void Reset(Arguments& arguments);
void TripleFault(Arguments& arguments);
void Spin(Arguments& arguments);
void Fault(Arguments& arguments);

}  // namespace guest

#endif  // E2E_GUEST_COMMAND_TABLE_H_
