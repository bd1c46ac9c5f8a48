// The 16550 at 0x3f8, polled, and printing on it.
#ifndef E2E_GUEST_CONSOLE_H_
#define E2E_GUEST_CONSOLE_H_

#include <stdarg.h>
#include <stdint.h>

namespace guest {

inline constexpr int kSerialIrq = 4;

// Sends the rest of the first line, of which boot.S sent its first byte, and sets the 16550 up.
void StartConsole(const char* rest_of_first_line);

// %s string, %u decimal uint64_t, %x hexadecimal uint64_t with 0x; nothing else. Integers must be
// passed as 64-bit values.
void Print(const char* format, ...);

// The next complete input line without its end, or nullptr. Valid until the next call. A line
// longer than the buffer is cut off there and answered with an error by the caller, who sees
// *too_long.
const char* PollLine(bool* too_long);

// Turns the receive interrupt on or off.
void SetReceiveInterrupt(bool on);

}  // namespace guest

#endif  // E2E_GUEST_CONSOLE_H_
