#include "e2e/guest/console.h"

#include "e2e/guest/clock.h"
#include "e2e/guest/ring0.h"

namespace guest {
namespace {

constexpr uint16_t kBase = 0x3f8;
constexpr uint16_t kInterruptEnable = kBase + 1;
constexpr uint16_t kFifoControl = kBase + 2;
constexpr uint16_t kModemControl = kBase + 4;
constexpr uint16_t kLineStatus = kBase + 5;
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kTransmitterEmpty = 0x40;
constexpr int kFifoSize = 16;

char line[512];
uint32_t line_length;
int fifo_room;

// Bounded: a port that is not there must not stop the guest.
void WaitForTransmitter() {
  for (int i = 0; i < 1000000 && !(In8(kLineStatus) & kTransmitterEmpty); i++) {
  }
}

// Long output is no gap: the loop would have run on between any two bytes.
void Put(char c) {
  gap_meter.Sample();
  if (fifo_room == 0) {
    WaitForTransmitter();
    fifo_room = kFifoSize;
  }
  fifo_room--;
  Out8(kBase, c);
}

void PutString(const char* s) {
  while (*s) Put(*s++);
}

void PutNumber(uint64_t value, unsigned radix) {
  char digits[20];
  int n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % radix];
    value /= radix;
  } while (value);
  while (n) Put(digits[--n]);
}

}  // namespace

void StartConsole(const char* rest_of_first_line) {
  WaitForTransmitter();
  Out8(kFifoControl, 1);
  Out8(kModemControl, 0x0b);  // DTR, RTS, and OUT2, which gates the interrupt
  fifo_room = kFifoSize;
  PutString(rest_of_first_line);
}

void Print(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  for (; *format; format++) {
    if (*format != '%') {
      Put(*format);
    } else if (*++format == 's') {
      PutString(va_arg(arguments, const char*));
    } else if (*format == 'x') {
      PutString("0x");
      PutNumber(va_arg(arguments, uint64_t), 16);
    } else {
      PutNumber(va_arg(arguments, uint64_t), 10);
    }
  }
  va_end(arguments);
  fifo_room = 0;  // whatever comes next is later: ask the transmitter again
}

const char* PollLine(bool* too_long) {
  while (In8(kLineStatus) & kDataReady) {
    const char c = In8(kBase);
    if (c != '\n' && c != '\r') {
      if (line_length < sizeof(line)) line[line_length++] = c;
      continue;
    }
    if (line_length == 0) continue;
    *too_long = line_length == sizeof(line);
    line[*too_long ? 0 : line_length] = 0;
    line_length = 0;
    return line;
  }
  return nullptr;
}

void SetReceiveInterrupt(bool on) { Out8(kInterruptEnable, on ? 1 : 0); }

}  // namespace guest
